"""A service that commits over every store until it dies, and one that looks at what it left.

``python crashing_service.py run FIRST [POINT NTH]`` commits numbers from FIRST on and tells each
on its standard output once it is acknowledged; at the NTH time it reaches POINT it kills itself.
``python crashing_service.py check`` opens the same stores, which recovers, and prints what is
stored as JSON. Both append the events that reach their handler to the file ``JTS_TEST_EVENTS``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from jts_storage import SeriesKey, Storage, SymbolBars, Timeframe
from jts_storage import commit as commit_points
from jts_storage.domain.events import DomainEvent
from jts_storage.testing.factories import make_candles, make_formula, make_symbol

KEY = SeriesKey("CRASH", Timeframe.M1, exchange="KRX")
START = datetime(2024, 1, 2, tzinfo=UTC)
FIRST_DAY = date(2000, 1, 1)
ROWS = 10


@dataclass(frozen=True, kw_only=True)
class Committed(DomainEvent):
    number: int

    @property
    def key(self) -> str:
        return "commits"


def opened() -> Storage:
    events = os.open(os.environ["JTS_TEST_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    storage = Storage.open()

    def note(event: Committed) -> None:
        os.write(events, f"{event.number}\n".encode())

    storage.events.register_handler(Committed, note)
    return storage


async def run(first: int) -> None:
    async with opened() as storage:
        for number in range(first, first + 10_000):
            await commit(storage, number)
            os.write(1, f"{number}\n".encode())


async def commit(storage: Storage, number: int) -> None:
    start = START + timedelta(minutes=ROWS * number)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, ROWS, start=start, seed=number))
        await uow.symbols.save(make_symbol(f"S{number}"))
        await uow.formulas.save(make_formula(f"commit {number}"))
        bars = SymbolBars("CRASH", FIRST_DAY + timedelta(days=number))
        await uow.ingestion.symbol_bars.save(bars.start_collection())
        await uow.ingestion.checkpoints.save(f"commit {number}", {"number": number})
        uow.events.add(Committed(number=number))
        await uow.commit()


async def check() -> None:
    async with opened() as storage:
        # An event whose handler died in the middle waits a moment before it is tried again.
        for _ in range(50):
            await storage.recover()
        series = await storage.candles.get_range(KEY, START, START + timedelta(days=3_000))
        assert len(series) == await storage.candles.count(KEY)
        begin = int(START.timestamp() * 1000)
        rows = Counter((int(ms) - begin) // 60_000 // ROWS for ms in series.columns.timestamp)
        found = {
            "candles": dict(rows),
            "symbols": Counter(int(s.code[1:]) for s in await storage.symbols.list(limit=10_000)),
            "formulas": Counter(
                int(f.name.split()[1]) for f in await storage.formulas.list(limit=10_000)
            ),
            "aggregates": Counter(
                (bars.trading_day - FIRST_DAY).days
                for bars in await storage.ingestion.symbol_bars.list("CRASH", limit=10_000)
            ),
            "checkpoints": Counter(
                int(c.data["number"])
                for c in await storage.ingestion.checkpoints.list(limit=10_000)
            ),
        }
        sys.stdout.write(json.dumps(found))


def die_at(point: str, nth: int) -> None:
    seen = 0

    def reached(name: str) -> None:
        nonlocal seen
        seen += name == point
        if name == point and seen == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    commit_points.reached = reached


if __name__ == "__main__":
    if sys.argv[1] == "check":
        asyncio.run(check())
    else:
        if len(sys.argv) > 3:
            die_at(sys.argv[3], int(sys.argv[4]))
        asyncio.run(run(int(sys.argv[2])))
