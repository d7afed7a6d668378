"""Writers of numbers that are the same in every store, and whether a storage holds whole ones.

Each writer commits a document, a candle and a checkpoint of one number together; then a candle
alone, bookkeeping alone and a document alone of the same number, each of them once the one before
it is acknowledged. So what is there of one number in one store tells what has to be in the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from jts_storage import Candle, Formula, SeriesKey, Storage, Timeframe
from jts_storage.domain import checks
from jts_storage.errors import Conflict
from jts_storage.ports import UnitOfWork
from jts_storage.testing.factories import make_formula

BEGIN = datetime(2024, 1, 2, tzinfo=UTC)
PRICE = Decimal(10)


@dataclass
class Writer:
    """What one writer was told.

    :param pairs: the version of the commit of each number, over all stores.
    :param alone: those of the candles alone, likewise.
    :param acknowledged: by kind the last number.
    """

    name: str
    pairs: list[int] = field(default_factory=list)
    alone: list[int] = field(default_factory=list)
    acknowledged: dict[str, int] = field(default_factory=dict)

    @property
    def pair_key(self) -> SeriesKey:
        return SeriesKey(f"{self.name}P", Timeframe.M1)

    @property
    def alone_key(self) -> SeriesKey:
        return SeriesKey(f"{self.name}A", Timeframe.M1)


@dataclass(frozen=True)
class Seen:
    """The highest number of each kind in a storage, which has all below it."""

    pair_document: int
    pair_candles: int
    pair_checkpoint: int
    alone_candles: int
    alone_checkpoint: int
    alone_document: int


@asynccontextmanager
async def writing(storage: Storage, count: int = 4) -> AsyncIterator[list[Writer]]:
    """Let writers write as long as the block runs."""
    writers = [Writer(f"W{number}") for number in range(count)]
    is_over = asyncio.Event()
    tasks = [asyncio.create_task(_write(storage, each, is_over)) for each in writers]
    try:
        yield writers
    finally:
        is_over.set()
        await asyncio.gather(*tasks)


async def _write(storage: Storage, writer: Writer, is_over: asyncio.Event) -> None:
    number = 0
    while not is_over.is_set():
        number += 1
        await _write_number(storage, writer, number)


async def _write_number(storage: Storage, writer: Writer, number: int) -> None:
    async def pair(uow: UnitOfWork) -> None:
        await uow.formulas.save(_formula(f"{writer.name} pair", number))
        await uow.candles.save_many(writer.pair_key, [_candle(number)])
        await uow.ingestion.checkpoints.save(f"{writer.name}P", {"number": number})

    async def candles(uow: UnitOfWork) -> None:
        await uow.candles.save_many(writer.alone_key, [_candle(number)])

    async def checkpoint(uow: UnitOfWork) -> None:
        await uow.ingestion.checkpoints.save(f"{writer.name}A", {"number": number})

    async def document(uow: UnitOfWork) -> None:
        await uow.formulas.save(_formula(f"{writer.name} alone", number))

    versions = {"pair": writer.pairs, "candles": writer.alone}
    for kind, work in (
        ("pair", pair),
        ("candles", candles),
        ("checkpoint", checkpoint),
        ("document", document),
    ):
        version = await _committed(storage, work)
        if kind in versions:
            assert version is not None
            versions[kind].append(version)
        writer.acknowledged[kind] = number


async def _committed(storage: Storage, work: Callable[[UnitOfWork], Awaitable[None]]) -> int | None:
    while True:
        try:
            async with storage.unit_of_work() as uow:
                await work(uow)
                result = await uow.commit()
        except Conflict:
            await asyncio.sleep(0.01)
        else:
            return None if result.commit is None else result.commit.version


def _formula(name: str, number: int) -> Formula:
    return make_formula(f"{name} {number}")


def _candle(number: int) -> Candle:
    at = BEGIN + timedelta(minutes=number)
    return Candle(at, PRICE, PRICE, PRICE, PRICE, number)


async def seen(storage: Storage, writer: Writer) -> Seen:
    """What is there of a writer; fails where a number below the highest is missing."""
    names = [each.name async for each in _formulas(storage)]
    numbers = {
        kind: sorted(
            int(name.rpartition(" ")[2])
            for name in names
            if name.startswith(f"{writer.name} {kind}")
        )
        for kind in ("pair", "alone")
    }
    candles = {
        kind: [
            c.volume
            for c in await storage.candles.get_range(
                key, checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP
            )
        ]
        for kind, key in (("pair", writer.pair_key), ("alone", writer.alone_key))
    }
    for found in (*numbers.values(), *candles.values()):
        assert found == list(range(1, len(found) + 1))
    checkpoints = {}
    for kind in ("P", "A"):
        stored = await storage.ingestion.checkpoints.get(f"{writer.name}{kind}")
        checkpoints[kind] = 0 if stored is None else int(stored.data["number"])
    return Seen(
        len(numbers["pair"]),
        len(candles["pair"]),
        checkpoints["P"],
        len(candles["alone"]),
        checkpoints["A"],
        len(numbers["alone"]),
    )


async def _formulas(storage: Storage) -> AsyncIterator[Formula]:
    after = None
    while True:
        page = await storage.formulas.list(limit=1_000, after=after)
        for each in page:
            yield each
        if len(page) < 1_000:
            return
        after = page[-1].id


def check_cut(writer: Writer, found: Seen, version: int, acknowledged: dict[str, int]) -> None:
    """See that a storage holds all that a writer committed up to a version, and nothing after.

    :param acknowledged: what the writer had been told when the backup began.
    """
    pairs = sum(each <= version for each in writer.pairs)
    alone = sum(each <= version for each in writer.alone)
    # Whole: the same number in every store; of the cut: exactly those of no later version.
    assert found.pair_document == found.pair_candles == found.pair_checkpoint == pairs
    assert found.alone_candles == alone
    # What came after something that is there was begun once that was acknowledged.
    assert found.pair_document >= found.alone_candles >= found.pair_document - 1
    assert found.alone_candles >= found.alone_checkpoint >= found.alone_candles - 1
    assert found.alone_checkpoint >= found.alone_document >= found.alone_checkpoint - 1
    assert found.pair_document >= acknowledged.get("pair", 0)
    assert found.alone_candles >= acknowledged.get("candles", 0)
    assert found.alone_checkpoint >= acknowledged.get("checkpoint", 0)
    assert found.alone_document >= acknowledged.get("document", 0)
