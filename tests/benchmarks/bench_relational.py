"""The bookkeeping against bare aiosqlite and asyncpg, prepared by hand.

The floors keep one connection with the same durability and the same statements, a prepared one on
PostgreSQL. Operations take turns, so that whatever else the machine does meets both. aiosqlite
hands each statement to a thread: to wake it on another processor takes 10 or 100 microseconds, as
the scheduler likes, so SQLite is measured on one processor.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from itertools import chain
from typing import Any

import aiosqlite
import asyncpg
import numpy as np
from harness import report

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.relational import (
    CheckpointRepository,
    DatabaseManager,
    OHLCVRepository,
    SymbolBarsRepository,
    create_all,
)
from jts_storage.testing.factories import make_candles

SMALL_ROUNDS = 1_000
BULK_ROUNDS = 7
BARS = 100_000
DAY = date(2024, 1, 2)
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
DATA = {"last_ts": 1_640_995_800, "page": "abc", "done": [1, 2, 3]}
Operation = Callable[[], Awaitable[Any]]

_AGGREGATE = (
    "symbol, trading_date, version, collection_started, is_complete, bar_count, created_at, "
    "updated_at"
)
_BARS = (
    "symbol, exchange, timeframe, timestamp_ms, open_price, high_price, low_price, close_price, "
    "volume"
)
_UPSERT = (
    "ON CONFLICT (symbol, exchange, timeframe, timestamp_ms) DO UPDATE SET open_price = "
    "excluded.open_price, high_price = excluded.high_price, low_price = excluded.low_price, "
    "close_price = excluded.close_price, volume = excluded.volume"
)
_SAVE_CHECKPOINT = (
    "INSERT INTO checkpoints VALUES ({0}, {1}, {2}) ON CONFLICT (symbol) DO UPDATE SET "
    "checkpoint_data = excluded.checkpoint_data, updated_at = excluded.updated_at"
)
_SAVE_AGGREGATE = (
    "UPDATE symbol_bars_aggregates SET version = version + 1, bar_count = {0}, updated_at = {1} "
    "WHERE symbol = {2} AND trading_date = {3} AND version = {4} RETURNING version, created_at"
)
_LOAD_CHECKPOINT = "SELECT symbol, checkpoint_data, updated_at FROM checkpoints WHERE symbol = {0}"
_LOAD_AGGREGATE = (
    f"SELECT {_AGGREGATE} FROM symbol_bars_aggregates WHERE symbol = {{0}} AND trading_date = {{1}}"
)


class SqliteFloor:
    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._version = 1

    @classmethod
    async def open(cls, path: str) -> SqliteFloor:
        connection = await aiosqlite.connect(path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            await connection.execute_fetchall(f"PRAGMA {pragma}")
        return cls(connection)

    async def close(self) -> None:
        await self._connection.close()

    async def save_checkpoint(self) -> None:
        now = datetime.now(UTC).isoformat(" ", "milliseconds")
        values = ("floor", json.dumps(DATA), now)
        await self._connection.execute_fetchall(_SAVE_CHECKPOINT.format(*"???"), values)

    async def load_checkpoint(self) -> Any:
        query = _LOAD_CHECKPOINT.format("?")
        ((_, data, _),) = await self._connection.execute_fetchall(query, ("floor",))
        return json.loads(data)

    async def save_aggregate(self) -> None:
        now = datetime.now(UTC).isoformat(" ", "milliseconds")
        values = (self._version, now, "floor", DAY.isoformat(), self._version)
        query = _SAVE_AGGREGATE.format(*"?????")
        ((self._version, _),) = await self._connection.execute_fetchall(query, values)

    async def load_aggregate(self) -> Any:
        query = _LOAD_AGGREGATE.format(*"??")
        return await self._connection.execute_fetchall(query, ("floor", DAY.isoformat()))

    async def upsert(self, series: CandleSeries) -> None:
        """Statements of 100 rows: of executemany, json_each and 10 to 500 rows the quickest."""
        values = ", ".join(["(?1, ?2, ?3, ?, ?, ?, ?, ?, ?)"] * 100)
        columns = series.columns
        stamps_and_prices = np.stack([*columns[:5], columns.volume.view(np.int64)], axis=1)
        key = ["floor", "KRX", "1m"]
        rows = [key + row for row in stamps_and_prices.reshape(-1, 600).tolist()]
        await self._connection.execute_fetchall("BEGIN IMMEDIATE")
        insert = f"INSERT INTO ohlcv_bars ({_BARS}) VALUES {values} {_UPSERT}"
        await self._connection.executemany(insert, rows)
        await self._connection.commit()

    async def read(self) -> Any:
        query = (
            f"SELECT {_BARS.removeprefix('symbol, exchange, timeframe, ')} FROM ohlcv_bars WHERE "
            "symbol = 'floor' AND exchange = 'KRX' AND timeframe = '1m' ORDER BY timestamp_ms"
        )
        rows = list(await self._connection.execute_fetchall(query))
        flat = np.fromiter(chain.from_iterable(rows), np.int64, len(rows) * 6)
        return np.ascontiguousarray(flat.reshape(-1, 6).T)


class PostgresFloor:
    _save_checkpoint: Any
    _load_checkpoint: Any
    _save_aggregate: Any
    _load_aggregate: Any

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self._connection = connection
        self._version = 1

    @classmethod
    async def open(cls, dsn: str) -> PostgresFloor:
        self = cls(await asyncpg.connect(dsn))
        prepare = self._connection.prepare
        self._save_checkpoint = await prepare(_SAVE_CHECKPOINT.format("$1", "$2", "$3"))
        self._load_checkpoint = await prepare(_LOAD_CHECKPOINT.format("$1"))
        self._save_aggregate = await prepare(_SAVE_AGGREGATE.format("$1", "$2", "$3", "$4", "$5"))
        self._load_aggregate = await prepare(_LOAD_AGGREGATE.format("$1", "$2"))
        return self

    async def close(self) -> None:
        await self._connection.close()

    async def save_checkpoint(self) -> None:
        await self._save_checkpoint.fetch("floor", json.dumps(DATA), datetime.now(UTC))

    async def load_checkpoint(self) -> Any:
        row = await self._load_checkpoint.fetchrow("floor")
        assert row is not None
        return json.loads(row[1])

    async def save_aggregate(self) -> None:
        row = await self._save_aggregate.fetchrow(
            self._version, datetime.now(UTC), "floor", DAY.isoformat(), self._version
        )
        assert row is not None
        self._version = row[0]

    async def load_aggregate(self) -> Any:
        return await self._load_aggregate.fetchrow("floor", DAY.isoformat())

    async def upsert(self, series: CandleSeries) -> None:
        """A binary COPY made by NumPy and one upsert from it: quicker than unnest, executemany."""
        fields = [("n", ">i2")]
        for n in range(6):
            fields += [(f"size{n}", ">i4"), (f"value{n}", ">i8")]
        rows = np.empty(len(series), fields)
        rows["n"] = 6
        for n, column in enumerate(series.columns):
            rows[f"size{n}"], rows[f"value{n}"] = 8, column
        data = b"PGCOPY\n\xff\r\n\0" + bytes(8) + rows.tobytes() + b"\xff\xff"
        async with self._connection.transaction():
            await self._connection.execute(
                "CREATE TEMPORARY TABLE IF NOT EXISTS incoming (t bigint, o bigint, h bigint, "
                "l bigint, c bigint, v bigint) ON COMMIT DELETE ROWS"
            )
            await self._connection.copy_to_table(
                "incoming", source=io.BytesIO(data), format="binary"
            )
            await self._connection.execute(
                f"INSERT INTO ohlcv_bars ({_BARS}) SELECT 'floor', 'KRX', '1m', t, o * 0.0001, "
                f"h * 0.0001, l * 0.0001, c * 0.0001, v FROM incoming {_UPSERT}"
            )

    async def read(self) -> Any:
        parts: list[bytes] = []

        async def keep(data: bytes) -> None:
            parts.append(data)

        await self._connection.copy_from_query(
            "SELECT timestamp_ms, (open_price * 10000)::bigint, (high_price * 10000)::bigint, "
            "(low_price * 10000)::bigint, (close_price * 10000)::bigint, volume::bigint "
            "FROM ohlcv_bars WHERE symbol = 'floor' AND exchange = 'KRX' AND timeframe = '1m' "
            "ORDER BY timestamp_ms",
            output=keep,
            format="binary",
        )
        fields = [("n", ">i2")]
        for n in range(6):
            fields += [(f"size{n}", ">i4"), (f"value{n}", ">i8")]
        data = b"".join(parts)
        rows = np.frombuffer(data, fields, (len(data) - 21) // 74, 19)
        return [rows[f"value{n}"].astype(np.int64) for n in range(6)]


async def compare(name: str, ours: Operation, floor: Operation, rounds: int) -> None:
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 2):
        order = [(ours, 0), (floor, 1)]
        for operation, side in order if number % 2 else reversed(order):
            begun = time.perf_counter()
            await operation()
            seconds[side].append(time.perf_counter() - begun)
    own, bare = (statistics.median(part[2:]) for part in seconds)
    report(name, seconds=own, floor_seconds=bare, ratio=own / bare)


@contextmanager
def on_one_processor() -> Iterator[None]:
    """For this thread and those it starts; where the system cannot, the figures scatter."""
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


async def measure(
    kind: str, manager: DatabaseManager, open_floor: Callable[[], Awaitable[Any]]
) -> None:
    await create_all(manager.engine)
    checkpoints, aggregates = CheckpointRepository(manager), SymbolBarsRepository(manager)
    bars = OHLCVRepository(manager)
    state = (await aggregates.save(SymbolBars("ours", DAY).start_collection())).add_bars(1)
    await aggregates.save(SymbolBars("floor", DAY).start_collection())
    floor = await open_floor()

    async def save_aggregate() -> None:
        nonlocal state
        state = await aggregates.save(state)

    small: list[tuple[str, Operation, Operation]] = [
        ("checkpoint save", lambda: checkpoints.save("ours", DATA), floor.save_checkpoint),
        ("checkpoint load", lambda: checkpoints.get("ours"), floor.load_checkpoint),
        ("aggregate save", save_aggregate, floor.save_aggregate),
        ("aggregate load", lambda: aggregates.get("ours", DAY), floor.load_aggregate),
    ]
    for name, ours, bare in small:
        await compare(f"{kind} {name}", ours, bare, SMALL_ROUNDS)
    series = make_candles(KEY, BARS)
    first = datetime(1900, 1, 1, tzinfo=UTC)
    last = datetime(2299, 1, 1, tzinfo=UTC)
    await compare(
        f"{kind} upsert of {BARS} bars",
        lambda: bars.save_many(KEY, series),
        lambda: floor.upsert(series),
        BULK_ROUNDS,
    )
    await compare(
        f"{kind} read of {BARS} bars",
        lambda: bars.get_range(KEY, first, last),
        floor.read,
        BULK_ROUNDS,
    )
    await floor.close()


def main() -> None:
    asyncio.run(measure_both())


async def measure_both() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/bench.db"
        with on_one_processor():
            async with DatabaseManager(path) as manager:
                await measure("sqlite", manager, lambda: SqliteFloor.open(path))
    with LocalPostgres.start(fsync=True) as server:
        async with DatabaseManager(server.dsn) as manager:
            await measure("postgres", manager, lambda: PostgresFloor.open(server.dsn))


if __name__ == "__main__":
    main()
