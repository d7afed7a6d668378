"""A service that commits over every store until it dies, and one that looks at what it left.

``python crashing_service.py run FIRST [POINT NTH]`` commits numbers from FIRST on and tells each
on its standard output once it is acknowledged; at the NTH time it reaches POINT it kills itself.
``python crashing_service.py check`` opens the same stores, which recovers, and prints what is
stored as JSON. Both append the events that reach their handler to the file ``JTS_TEST_EVENTS``.

A commit stores things of its own, and changes things that all commits share.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from jts_storage import (
    CandleSeries,
    Checkpoint,
    Formula,
    SeriesKey,
    Storage,
    Symbol,
    SymbolBars,
    Timeframe,
)
from jts_storage.domain.events import DomainEvent
from jts_storage.testing.factories import make_candles, make_formula, make_symbol
from jts_storage.unit_of_work import clock
from jts_storage.unit_of_work import commit as commit_points

KEY = SeriesKey("CRASH", Timeframe.M1, exchange="KRX")
SHARED_KEY = SeriesKey("SHARED", Timeframe.M1, exchange="KRX")
START = datetime(2024, 1, 2, tzinfo=UTC)
FIRST_DAY = date(2000, 1, 1)
SHARED = "SHARED"
ROWS = 10

Contents = dict[str, list[str]]
"""What is stored, by its kind: each thing as text, but for times of writing and ids."""


@dataclass(frozen=True, kw_only=True)
class Committed(DomainEvent):
    number: int
    note: str

    @property
    def key(self) -> str:
        return "commits"


def candles(number: int, key: SeriesKey = KEY) -> CandleSeries:
    """Those of one commit; of the shared series each commit writes the same range."""
    start = START if key == SHARED_KEY else START + timedelta(minutes=ROWS * number)
    return make_candles(key, ROWS, start=start, seed=number)


def symbol(number: int) -> Symbol:
    return make_symbol(f"S{number}", name=f"Company {number}", is_active=number % 2 == 0)


def formula(number: int) -> Formula:
    return make_formula(f"commit {number}", expression=f"close > {number}", tags=(f"t{number}",))


def aggregate(number: int) -> SymbolBars:
    bars = SymbolBars("CRASH", FIRST_DAY + timedelta(days=number))
    return bars.start_collection().add_bars(number)


def checkpoint(number: int) -> dict[str, Any]:
    return {"number": number, "words": [f"after {number}", None, number / 4]}


def note(number: int) -> str:
    return f"commit {number} of all"


def contents(number: int) -> Contents:
    """What commit `number` stores of its own."""
    return {
        "candles": texts(candles(number)),
        "symbols": texts([symbol(number)]),
        "formulas": texts([replace(formula(number), version=1)]),
        "aggregates": texts([replace(aggregate(number), version=1)]),
        "checkpoints": texts([Checkpoint(f"commit {number}", checkpoint(number))]),
    }


def shared_contents(stored: list[int]) -> Contents:
    """What these commits made of what they share, if no other changed it and each did so once."""
    last, times = max(stored), len(stored)
    bars = SymbolBars(SHARED, FIRST_DAY).start_collection().add_bars(ROWS * times)
    return {
        "candles": texts(candles(last, SHARED_KEY)),
        "symbols": texts([make_symbol(SHARED, name=f"after {last}")]),
        "formulas": [],
        "aggregates": texts([replace(bars, version=times)]),
        "checkpoints": texts([Checkpoint(SHARED, checkpoint(last))]),
    }


def texts(things: Iterable[Any]) -> list[str]:
    """Each as text; entities without what a store makes."""
    made = ("id", "created_at", "updated_at")
    return [
        repr(replace(thing, **{name: None for name in made if hasattr(thing, name)}))
        for thing in things
    ]


def opened() -> Storage:
    if "JTS_CLICKHOUSE_URL" not in os.environ:
        # What the engine of a dead process had not stored is on its way no more.
        clock.LANDING = timedelta(seconds=0.1)
    events = os.open(os.environ["JTS_TEST_EVENTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    storage = Storage.open()

    def tell(event: Committed) -> None:
        os.write(events, f"{json.dumps([event.number, event.note])}\n".encode())

    storage.events.register_handler(Committed, tell)
    return storage


async def run(first: int) -> None:
    async with opened() as storage:
        for number in range(first, first + 10_000):
            await commit(storage, number)
            os.write(1, f"{number}\n".encode())


async def commit(storage: Storage, number: int) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, candles(number))
        await uow.candles.save_many(SHARED_KEY, candles(number, SHARED_KEY))
        await uow.symbols.save(symbol(number))
        await uow.symbols.save(make_symbol(SHARED, name=f"after {number}"))
        await uow.formulas.save(formula(number))
        await uow.ingestion.symbol_bars.save(aggregate(number))
        bars = await uow.ingestion.symbol_bars.get(SHARED, FIRST_DAY)
        bars = bars or SymbolBars(SHARED, FIRST_DAY).start_collection()
        await uow.ingestion.symbol_bars.save(bars.add_bars(ROWS))
        for name in (f"commit {number}", SHARED):
            await uow.ingestion.checkpoints.save(name, checkpoint(number))
        uow.events.add(Committed(number=number, note=note(number)))
        await uow.commit()


async def check() -> None:
    async with opened() as storage:
        # An event whose handler died in the middle waits a moment before it is tried again.
        for _ in range(50):
            await storage.recover()
        sys.stdout.write(json.dumps(await stored(storage)))


async def stored(storage: Storage) -> dict[str, Contents]:
    """Everything there is, under the number of the commit that it belongs to, or as shared."""
    found: dict[str, Contents] = defaultdict(lambda: {kind: [] for kind in contents(0)})

    def note_all(kind: str, owner: str, things: Iterable[Any]) -> None:
        found[owner][kind] += texts(things)

    end = START + timedelta(days=3_000)
    series = await storage.candles.get_range(KEY, START, end)
    assert len(series) == await storage.candles.count(KEY)
    for candle in series:
        minutes = int((candle.timestamp - START).total_seconds()) // 60
        note_all("candles", str(minutes // ROWS), [candle])
    note_all("candles", SHARED, await storage.candles.get_range(SHARED_KEY, START, end))
    for each in await storage.symbols.list(limit=10_000):
        note_all("symbols", SHARED if each.code == SHARED else each.code[1:], [each])
    for document in await storage.formulas.list(limit=10_000):
        note_all("formulas", document.name.removeprefix("commit "), [document])
    bookkeeping = storage.ingestion
    note_all("aggregates", SHARED, await bookkeeping.symbol_bars.list(SHARED, limit=10_000))
    for bars in await bookkeeping.symbol_bars.list("CRASH", limit=10_000):
        note_all("aggregates", str((bars.trading_day - FIRST_DAY).days), [bars])
    for kept in await bookkeeping.checkpoints.list(limit=10_000):
        note_all("checkpoints", kept.name.removeprefix("commit "), [kept])
    return found


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
