"""Makes commits in processes that die: one a line of JSON on standard input.

``{"number": 7, "how": "commit", "dies": "decided"}`` commits what `commit_everywhere` does under
that number and dies at the point of that name, with ``unit_id`` as a unit of work of that id;
``{"how": "recover", "dies": "replay"}`` opens the stores to recover and dies there;
``{"how": "candles", "number": 7, "after": 0.01}`` dies so many seconds after it began to commit
candles alone. Answers with the signal that ended it.

Each is a fork of this process, which has imported everything and opened nothing: a process started
anew would spend its time on importing.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from datetime import date
from typing import Any

import asyncpg  # noqa: F401 - what opening would import

from jts_storage import SeriesKey, Storage, SymbolBars, Timeframe
from jts_storage.domain.events import IngestionCompleted
from jts_storage.ports import UnitOfWork
from jts_storage.relational import staged
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points
from jts_storage.unit_of_work.journal import Journal

ROWS = 10
DAY = date(2024, 1, 2)


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def change_everything(uow: UnitOfWork, number: int) -> None:
    name = f"WHY{number}"
    key = SeriesKey(name, Timeframe.M1)
    await uow.formulas.save(make_formula(name))
    await uow.candles.save_many(key, make_candles(key, ROWS))
    await uow.ingestion.symbol_bars.save(SymbolBars(name, DAY).start_collection())
    uow.events.add(IngestionCompleted(symbol=name, trading_day=DAY, bar_count=ROWS))


async def commit(number: int, dies: str, unit_id: str | None = None) -> None:
    def reached(point: str) -> None:
        if point == dies:
            die()

    commit_points.reached = reached
    async with Storage.open() as storage:
        if dies == "handler":
            storage.events.register_handler(IngestionCompleted, die)
        async with storage.unit_of_work(id=unit_id) as uow:
            await change_everything(uow, number)
            await uow.commit()


async def recover(dies: str) -> None:
    if dies == "replay":
        staged.replay = die  # type: ignore[assignment]
    else:
        Journal.done = die  # type: ignore[method-assign, assignment]
    async with Storage.open() as storage:
        await storage.recover()


async def candles(number: int, after: float) -> None:
    key = SeriesKey(f"WHY{number}", Timeframe.M1)
    async with Storage.open() as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, make_candles(key, 300_000))
            threading.Timer(after, die).start()
            await uow.commit()
        await asyncio.sleep(after + 1)


WAYS: dict[str, Callable[..., Any]] = {"commit": commit, "recover": recover, "candles": candles}


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            asyncio.run(WAYS[asked.pop("how")](**asked))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps(os.WTERMSIG(status)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
