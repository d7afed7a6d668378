"""A cancellation that the client swallows is obeyed all the same."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from jts_storage.cache import RedisManager
from jts_storage.errors import StorageError


async def _swallows(_: object) -> str:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(5)
    return "an answer"


async def _fails(_: object) -> str:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(5)
    raise ConnectionError("gone")


@pytest.mark.parametrize("work", [_swallows, _fails])
async def test_whoever_is_cancelled_goes_on_no_further(work: Any) -> None:
    async with RedisManager("redis://127.0.0.1:1", timeout=10.0) as manager:
        task: asyncio.Task[Any] = asyncio.create_task(manager.run("GET", work))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_bound_of_the_caller_holds() -> None:
    async with RedisManager("redis://127.0.0.1:1", timeout=10.0) as manager:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await manager.run("GET", _swallows)
        # That a call is too slow for itself is no cancellation of its caller.
        with pytest.raises(StorageError):
            await manager.run("GET", lambda _: asyncio.sleep(5), timeout=0.05)
        assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]
