"""Commits so many candles with a document, and prints what that cost in memory, in MiB.

``python weighing_service.py ROWS`` prints as JSON how much the process held with the candles staged
and its peak in the commit above that; then the same of a recovery of such a commit.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import suppress
from pathlib import Path

from jts_storage import SeriesKey, Storage, Timeframe
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points

KEY = SeriesKey(f"WEIGHT{sys.argv[1]}", Timeframe.M1)
"""Of each number of rows another: to replace rows is another work."""


class Crash(BaseException):
    """What a process meets that dies."""


def held(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return float(status.partition(f"{name}:")[2].split()[0]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def die(point: str) -> None:
    if point == "decided":
        raise Crash


async def commit(storage: Storage, rows: int) -> tuple[float, float]:
    """What is held with the candles staged, and the peak above that."""
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, rows))
        await uow.formulas.save(make_formula("weight"))
        forget_peak()
        before = held("VmRSS")
        await uow.commit()
    return before, held("VmHWM") - before


async def main(rows: int) -> None:
    async with Storage.open() as storage:
        await commit(storage, 1_000)  # what the first commit imports is not its weight
        staged, peak = await commit(storage, rows)
        commit_points.reached = die
        with suppress(Crash):
            await commit(storage, rows)
        forget_peak()
        before = held("VmRSS")
        assert await storage.recover() == 1
        recovery = held("VmHWM") - before
        assert await storage.candles.count(KEY) == rows
    told = {"rows": rows, "staged": staged, "commit": peak, "recovery": recovery}
    sys.stdout.write(json.dumps({name: round(value) for name, value in told.items()}) + "\n")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
