"""Operations through the session of a transaction run one at a time."""

from __future__ import annotations

import asyncio
from typing import Any

from jts_storage.mongo.transaction import Transaction

NO_SESSION: Any = None
TURNS = 5
"""How often the others may run while an operation is under way."""


async def test_a_task_that_held_the_session_before_waits_like_any_other() -> None:
    transaction = Transaction(NO_SESSION)
    second_has_begun = asyncio.Event()
    running: list[int] = []
    most = 0

    async def operate(begun: asyncio.Event | None = None) -> None:
        nonlocal most
        async with transaction.exclusive():
            running.append(1)
            most = max(most, len(running))
            if begun is not None:
                begun.set()
            for _ in range(TURNS):
                await asyncio.sleep(0)
            running.pop()

    async def twice() -> None:
        await operate()
        await operate(second_has_begun)

    async def during_the_second() -> None:
        await second_has_begun.wait()
        await operate()

    await asyncio.gather(twice(), during_the_second())
    assert most == 1
