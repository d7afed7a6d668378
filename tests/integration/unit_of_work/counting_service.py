"""Eight tasks that change the same ten strategies and aggregates; prints how many succeeded.

``python counting_service.py COMMITS STRATEGY_ID...`` ends after that many successful commits.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from dataclasses import replace
from datetime import date, timedelta

from jts_storage import Storage
from jts_storage.errors import Conflict
from jts_storage.ports import UnitOfWork

TASKS = 8
FIRST_DAY = date(2024, 1, 1)


async def change_one(storage: Storage, number: int, identity: str) -> None:
    async def work(uow: UnitOfWork) -> None:
        strategy = await uow.strategies.get_by_id(identity)
        bars = await uow.ingestion.symbol_bars.get("COUNT", FIRST_DAY + timedelta(days=number))
        assert strategy is not None
        assert bars is not None
        await uow.strategies.save(replace(strategy, description=f"{strategy.version}"))
        await uow.ingestion.symbol_bars.save(bars.add_bars(1))

    await storage.run(work, attempts=1_000)


async def main(commits: int, identities: list[str]) -> None:
    left = commits
    errors: list[str] = []
    choice = random.Random()

    async def task(storage: Storage) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            number = choice.randrange(len(identities))
            try:
                await change_one(storage, number, identities[number])
            except Conflict:
                raise
            except Exception as error:  # noqa: BLE001 - what else there is, is what is asked
                errors.append(repr(error))

    async with Storage.open() as storage:
        await asyncio.gather(*(task(storage) for _ in range(TASKS)))
    sys.stdout.write(json.dumps({"commits": commits, "errors": errors}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
