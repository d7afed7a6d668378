"""One process of those that share a folder: ``sharing_worker.py ROLE NAME FOLDER LOG``.

It writes a line of JSON for each thing it did, at once, so that what it was told is known also
after kill -9. It ends, in good order, when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, TextIO

from jts_storage import Candle, CandleSeries, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.sync import Storage as BlockingStorage
from jts_storage.testing.factories import START

KEYS: Final = tuple(SeriesKey(code, Timeframe.M1, exchange="KRX") for code in ("005930", "000660"))
END: Final = START + timedelta(days=300)
STEP: Final = timedelta(minutes=1)


def close_of(number: int) -> Decimal:
    """The price of the candle of a number: any other is a candle that nobody wrote."""
    return Decimal(1_000 + number % 997)


def candle_of(number: int) -> Candle:
    price = close_of(number)
    return Candle(START + number * STEP, price, price, price, price, number + 1)


class Worker:
    def __init__(self, name: str, log: TextIO) -> None:
        self.name, self._log = name, log
        self.is_done = threading.Event()
        threading.Thread(target=self._wait, daemon=True).start()

    def say(self, what: str, **more: Any) -> None:
        self._log.write(json.dumps({"at": time.monotonic(), "what": what, **more}) + "\n")
        self._log.flush()

    def _wait(self) -> None:
        sys.stdin.read()
        self.is_done.set()

    def check(self, series: CandleSeries) -> int:
        """How many candles there are, each of which is one that was written."""
        for candle in series:
            number = (candle.timestamp - START) // STEP
            assert candle == candle_of(number), candle
        return len(series)

    def counted(self, found: Mapping[str, Any] | None) -> Mapping[str, Any]:
        return {"count": (found or {"count": 0})["count"] + 1}


async def collect(worker: Worker, settings: StorageSettings) -> None:
    """One candle a series each 50 ms, and a counter in the same unit of work."""
    async with Storage.open(settings) as storage:
        worker.say("open", pid=os.getpid(), remote=storage._backend.is_remote)  # type: ignore[attr-defined]
        while not worker.is_done.is_set():

            async def work(uow: UnitOfWork) -> int:
                made = await uow.ingestion.checkpoints.update(worker.name, worker.counted)
                number = int(made.data["count"]) - 1
                for key in KEYS:
                    await uow.candles.save_many(key, [candle_of(number)])
                return number

            number = await storage.run(work, attempts=100)
            worker.say("committed", number=number)
            await asyncio.sleep(0.05)


async def scan(worker: Worker, settings: StorageSettings) -> None:
    async with Storage.open(settings) as storage:
        worker.say("open", pid=os.getpid(), remote=storage._backend.is_remote)  # type: ignore[attr-defined]
        while not worker.is_done.is_set():
            panel = await storage.candles.get_panel(Timeframe.M1, START, END, keys=KEYS)
            counts = [worker.check(panel[key]) for key in panel]
            # Of one commit each: a panel that has half of one would be of no moment.
            assert len(set(counts)) <= 1, counts
            worker.say("read", count=max(counts, default=0))
            await asyncio.sleep(0.05)


def note(worker: Worker, settings: StorageSettings) -> None:
    """A notebook: it reads, and counts in a unit of work of its own."""
    with BlockingStorage.open(settings) as storage:
        worker.say("open", pid=os.getpid())
        while not worker.is_done.is_set():
            series = storage.candles.get_range(KEYS[0], START, END)
            worker.say("read", count=worker.check(series))

            def work(uow: Any) -> int:
                made = uow.ingestion.checkpoints.update(worker.name, worker.counted)
                return int(made.data["count"]) - 1

            worker.say("committed", number=storage.run(work, attempts=100))
            time.sleep(0.05)


def main() -> None:
    role, name, folder, log, share = sys.argv[1:]
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = StorageSettings(data_dir=Path(folder), share=share == "share")
    with Path(log).open("a") as file:
        worker = Worker(name, file)
        try:
            if role == "notebook":
                note(worker, settings)
            else:
                asyncio.run((collect if role == "collector" else scan)(worker, settings))
        except BaseException as exc:
            worker.say("failed", error=repr(exc))
            raise
        worker.say("closed")


if __name__ == "__main__":
    main()
