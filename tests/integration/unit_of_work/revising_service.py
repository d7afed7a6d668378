"""Changes formulas until it is killed: a process for each line of JSON on standard input.

``{"name": "a", "point": "revisions written", "nth": 3}`` dies where its third commit reaches that
point, ``{"name": "a", "after": 0.1}`` so many seconds after its first commit. Answers with the
number of commits that it was told of as done.

What is named so is changed by it alone: MongoDB keeps the locks of a transaction for a minute
after its process was killed.

Each is a fork of this process, which has imported everything and opened nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg  # noqa: F401 - what opening would import

from jts_storage import SeriesKey, Storage, Timeframe
from jts_storage.testing.factories import make_candles, make_formula, make_strategy
from jts_storage.unit_of_work import clock
from jts_storage.unit_of_work import commit as commit_points

KEY = SeriesKey("REVISED", Timeframe.M1)
# What the engine of a dead process had not stored is on its way no more.
clock.LANDING = timedelta(seconds=0.1)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def change(storage: Storage, name: str, number: int) -> None:
    """A document of its own, one that each commit changes, and one that it deletes."""
    async with storage.unit_of_work(source=str(number)) as uow:
        own = await uow.formulas.save(make_formula(f"commit {number}"))
        found = await uow.formulas.get_by_tag(f"shared {name}")
        before = found[0] if found else make_formula("shared", tags=(f"shared {name}",))
        await uow.formulas.save(replace(before, description=f"after {number}"))
        await uow.strategies.save(make_strategy(entry_formula_id=own.id, exit_formula_id=own.id))
        for each in await uow.formulas.get_by_tag(f"short {name}"):
            await uow.formulas.delete(each.id or "")
        await uow.formulas.save(make_formula("short", tags=(f"short {name}",)))
        if number % 3 == 2:  # then it is journalled
            await uow.candles.save_many(KEY, make_candles(KEY, 3, seed=number))
        await uow.commit()


async def run(
    told: int, *, name: str, point: str = "", nth: int = 0, after: float | None = None
) -> None:
    seen = 0

    def reached(passed: str) -> None:
        nonlocal seen
        seen += passed == point
        if passed == point and seen == nth:
            die()

    commit_points.reached = reached
    points: Any = commit_points
    commit_alone = points.commit_alone

    async def committed(*given: Any) -> None:
        reached("revisions written")
        await commit_alone(*given)
        reached("documents committed")

    points.commit_alone = committed
    async with Storage.open() as storage:
        for number in range(10_000):
            await change(storage, name, number)
            os.write(told, b".")
            if number == 0 and after is not None:
                threading.Timer(after, die).start()


def main() -> None:
    for line in sys.stdin:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            asyncio.run(run(writing, **json.loads(line)))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as told:
            done = len(told.read())
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
