"""What declared models cost: appended columns, replaced rows and documents, each over its floor."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from beanie import Document, init_beanie

from jts_storage import Market, Storage, StorageSettings, Symbol
from jts_storage.backend import StoreBackend
from tests.declared import MODELS, Fundamental, Order, OrderState, fundamentals, orders, ticks

ROWS = 1_000_000
SYMBOLS = 2_500
SAVES = 100
Work = Callable[[], Awaitable[object]]

_BARE = (
    "CREATE TABLE bare_ticks (symbol LowCardinality(String), timestamp DateTime64(3, 'UTC'),"
    " price Decimal(18, 4), size UInt64, version UInt64) ENGINE = MergeTree"
    " ORDER BY (symbol, timestamp)"
)


class BeanieOrder(Document):
    """An order as a service would declare it with Beanie alone."""

    symbol: str
    quantity: str
    state: str
    strategyId: str | None = None

    class Settings:
        name = "beanie_orders"


async def compare(name: str, ours: Work, floor: Work, runs: int) -> None:
    """Alternate both in one loop and print the medians as one line of JSON."""
    taken: dict[Work, list[float]] = {ours: [], floor: []}
    for run in range(runs + 1):
        for work in (floor, ours) if run % 2 else (ours, floor):
            begin = time.perf_counter()
            await work()
            if run:  # the first is a warm-up
                taken[work].append(time.perf_counter() - begin)
    seconds, bare = (statistics.median(taken[work]) for work in (ours, floor))
    print(
        f'{{"name": "{name}", "seconds": {seconds:.6f}, "floor_seconds": {bare:.6f}, '
        f'"ratio": {seconds / bare:.3f}}}',
        flush=True,
    )


def many_ticks() -> pa.Table:
    rng = np.random.default_rng(1)
    stamps = np.sort(rng.integers(1_700_000_000_000, 1_700_086_400_000, ROWS))
    prices = np.zeros((ROWS, 2), np.int64)
    prices[:, 0] = rng.integers(10_000, 900_000_000, ROWS)
    symbols = np.repeat([f"S{n:03}" for n in range(100)], ROWS // 100)
    buffers = [None, pa.py_buffer(prices)]
    return pa.table(
        {
            "symbol": pa.array(symbols),
            "timestamp": pa.array(stamps).view(pa.timestamp("ms", "UTC")),
            "price": pa.Array.from_buffers(pa.decimal128(18, 4), ROWS, buffers),
            "size": pa.array(rng.integers(1, 1_000, ROWS).astype(np.uint64)),
        }
    )


async def columns(storage: Storage) -> None:
    """A million ticks: appended in one commit, and read back."""
    clickhouse, rows = storage.clickhouse, many_ticks()
    clickhouse.execute(_BARE)

    async def append() -> None:
        clickhouse.execute("TRUNCATE TABLE ticks")
        async with storage.unit_of_work() as uow:
            await uow.repository(ticks).append(rows)
            await uow.commit()

    def insert_bare() -> None:
        with clickhouse.transport() as transport:
            connection: Any = transport
            jts_ticks = rows  # chDB finds it by this name
            connection._connection.query(
                "INSERT INTO bare_ticks SELECT symbol, timestamp, price, size, 1"
                " FROM Python(jts_ticks)"
            )
            del jts_ticks

    async def append_bare() -> None:
        clickhouse.execute("TRUNCATE TABLE bare_ticks")
        await clickhouse.run(insert_bare)

    def read_bare() -> pa.Table:
        with clickhouse.transport() as transport:
            connection: Any = transport
            found = connection._connection.query(
                "SELECT symbol, timestamp, price, size FROM bare_ticks ORDER BY symbol, timestamp",
                "Arrow",
            )
            return pa.ipc.open_file(pa.py_buffer(found.bytes())).read_all()

    await compare("append_1_000_000_ticks", append, append_bare, 7)
    await compare(
        "read_1_000_000_ticks",
        lambda: storage.repository(ticks).read(),
        lambda: clickhouse.run(read_bare),
        9,
    )


async def upserts(storage: Storage) -> None:
    """A row for each of 2,500 symbols: a declared table, and the symbols that the kit has."""
    day = date(2026, 1, 1)
    turn = 0

    async def save_figures() -> None:
        nonlocal turn
        turn += 1
        figures = [Fundamental(f"{n:06}", day, Decimal(turn)) for n in range(SYMBOLS)]
        async with storage.unit_of_work() as uow:
            await uow.repository(fundamentals).save_many(figures)
            await uow.commit()

    async def save_symbols() -> None:
        nonlocal turn
        turn += 1
        symbols = [Symbol(f"{n:06}", f"name {turn}", Market.KOSPI) for n in range(SYMBOLS)]
        async with storage.unit_of_work() as uow:
            await uow.symbols.save_many(symbols)
            await uow.commit()

    await compare("upsert_2_500_rows_to_symbols", save_figures, save_symbols, 15)
    await compare(
        "list_2_500_rows_to_symbols",
        lambda: storage.repository(fundamentals).list(limit=SYMBOLS),
        lambda: storage.symbols.list(limit=SYMBOLS),
        15,
    )


async def documents(storage: Storage, backend: StoreBackend) -> None:
    """A hundred orders saved one by one in a unit of work, and listed; Beanie in a transaction."""
    mongo = backend.stores.mongo
    await init_beanie(database=mongo.db, document_models=[BeanieOrder])
    async with storage.unit_of_work() as uow:
        new = [Order("A", Decimal(1)) for _ in range(SAVES)]
        saved = list(await uow.repository(orders).save_many(new))
        await uow.commit()
    plain = [BeanieOrder(symbol="A", quantity="1", state="open") for _ in range(SAVES)]
    for each in plain:
        await each.insert()

    async def save() -> None:
        async with storage.unit_of_work() as uow:
            for number, order in enumerate(saved):
                changed = replace(order, state=OrderState.OPEN, quantity=Decimal(number))
                saved[number] = await uow.repository(orders).save(changed)
            await uow.commit()

    async def save_plainly() -> None:
        async with mongo.client.start_session() as session:
            await session.start_transaction()
            for number, order in enumerate(plain):
                order.quantity = str(number)
                await order.replace(session=session)
            await session.commit_transaction()

    await compare("save_100_documents_to_beanie", save, save_plainly, 11)
    await compare(
        "list_100_documents_to_beanie",
        lambda: storage.repository(orders).list(),
        lambda: BeanieOrder.find().sort("_id").to_list(),
        25,
    )


async def run() -> None:
    with tempfile.TemporaryDirectory() as folder:
        backend = StoreBackend(StorageSettings(data_dir=Path(folder)), models=MODELS)
        async with Storage(backend) as storage:
            await columns(storage)
            await upserts(storage)
            await documents(storage, backend)


def main() -> None:
    asyncio.run(run())


if __name__ == "__main__":
    main()
