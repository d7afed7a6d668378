"""The connection against its floor: bare chDB and bare clickhouse-driver doing the same work.

Run it as a script. Medians in milliseconds; floor and ours alternate in one process.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from clickhouse_driver import Client

from jts_storage.clickhouse.blocks import Typed
from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.testing.clickhouse_server import ServerProcess

ROUNDS = 7
WRITTEN = 100_000
READ = 1_000_000
_PRICES = ("open", "high", "low", "close")
_TABLE = """
CREATE TABLE IF NOT EXISTS bench (
    symbol LowCardinality(String), exchange LowCardinality(String),
    timeframe LowCardinality(String), timestamp DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),
    open Decimal(18, 4) CODEC(T64), high Decimal(18, 4) CODEC(T64),
    low Decimal(18, 4) CODEC(T64), close Decimal(18, 4) CODEC(T64),
    volume UInt64 CODEC(T64), version UInt64 CODEC(T64)
) ENGINE = ReplacingMergeTree(version) ORDER BY (symbol, exchange, timeframe, timestamp)
"""
_EXPRESSIONS = (
    "fromUnixTimestamp64Milli(timestamp, 'UTC'), "
    + ", ".join(f"reinterpret({name}, 'Decimal64(4)')" for name in _PRICES)
    + ", volume, toUInt64(1)"
)
_READ = (
    "SELECT toUnixTimestamp64Milli(timestamp) AS timestamp, "
    + ", ".join(f"reinterpret({name}, 'Int64') AS {name}" for name in _PRICES)
    + ", volume FROM bench WHERE symbol = 'big' ORDER BY timestamp"
)
_READ_SETTINGS = {"max_threads": 1, "max_block_size": 262_144, "preferred_block_size_bytes": 0}


def columns(rows: int) -> dict[str, Any]:
    random = np.random.default_rng(1)
    walk = 500_000 + random.integers(-50, 51, rows).cumsum()
    spread = random.integers(0, 200, rows)
    return {
        "timestamp": np.arange(rows, dtype=np.int64) * 60_000 + 1_600_000_000_000,
        "open": walk,
        "high": walk + spread,
        "low": walk - spread,
        "close": walk + random.integers(-50, 51, rows),
        "volume": random.integers(0, 100_000, rows).astype(np.uint64),
    }


def typed(symbol: str, data: dict[str, Any]) -> dict[str, Any]:
    text = "LowCardinality(String)"
    return {
        "symbol": Typed(text, symbol),
        "exchange": Typed(text, "KRX"),
        "timeframe": Typed(text, "1m"),
        "timestamp": Typed("DateTime64(3, 'UTC')", data["timestamp"]),
        **{name: Typed("Decimal(18, 4)", data[name]) for name in _PRICES},
        "volume": data["volume"],
        "version": Typed("UInt64", 1),
    }


def compare(name: str, floor: Callable[[], Any], ours: Callable[[], Any]) -> None:
    """Print both medians and their ratio."""
    floor(), ours()
    taken: dict[str, list[float]] = {"floor": [], "ours": []}
    for _ in range(ROUNDS):
        for label, work in (("floor", floor), ("ours", ours)):
            begun = time.perf_counter()
            work()
            taken[label].append((time.perf_counter() - begun) * 1000)
    low, own = (statistics.median(taken[label]) for label in ("floor", "ours"))
    print(f"{name:<34} floor {low:8.1f}  ours {own:8.1f}  ratio {own / low:5.2f}")


def embedded(path: Path) -> None:
    import pandas as pd

    data, big = columns(WRITTEN), columns(READ)
    with ClickHouseManager(embedded_path=str(path)) as manager:
        bare = engine.acquire(str(path))
        bare.query("USE jts")
        manager.execute(_TABLE)
        manager.insert_columns("bench", typed("big", big))

        def write_floor() -> None:
            frame = pd.DataFrame(data, copy=False)  # noqa: F841
            select = f"SELECT 'floor', 'KRX', '1m', {_EXPRESSIONS} FROM Python(frame)"
            bare.query(f"INSERT INTO bench {select}")

        def read_floor() -> list[Any]:
            settings = ", ".join(f"{k} = {v}" for k, v in _READ_SETTINGS.items())
            result = bare.query(f"{_READ} SETTINGS {settings}", "Native")
            memory = result.get_memview()
            return _parsed(memory.view())

        compare(
            "embedded: write 100,000",
            write_floor,
            lambda: manager.insert_columns("bench", typed("ours", data)),
        )
        compare("embedded: read 1,000,000", read_floor, lambda: manager.read_columns(_READ))
        compare(
            "embedded: 200 small statements",
            lambda: [bare.query("SELECT 1", "Native").bytes() for _ in range(200)],
            lambda: [manager.execute("SELECT 1") for _ in range(200)],
        )
        engine.release(bare)


def _parsed(view: memoryview) -> list[Any]:
    """The least that can be done: skip the headers, take the words, copy them together."""
    from clickhouse_driver.reader import read_binary_str
    from clickhouse_driver.varint import read_varint

    from jts_storage.clickhouse.blocks import MemoryReader

    reader, pieces = MemoryReader(view), []
    while not reader.exhausted:
        n_columns, n_rows = read_varint(reader), read_varint(reader)
        block = []
        for _ in range(n_columns):
            read_binary_str(reader), read_binary_str(reader)
            block.append(np.frombuffer(reader.read(8 * n_rows), np.int64))
        pieces.append(block)
    return [np.concatenate(column) for column in zip(*pieces, strict=True)]


def tcp(path: Path, compression: str | None) -> None:
    label = compression or "plain"
    data, big = columns(WRITTEN), columns(READ)
    with (
        ServerProcess(path) as server,
        ClickHouseManager(host=server.host, port=server.port, compression=compression) as manager,
        Client(
            server.host,
            server.port,
            database="jts",
            compression=compression or False,
            settings={"use_numpy": True},
        ) as bare,
    ):
        manager.execute(_TABLE)
        manager.insert_columns("bench", typed("big", big))
        structure = ", ".join(
            f"{name} {'UInt64' if name == 'volume' else 'Int64'}" for name in data
        )
        insert = (
            f"INSERT INTO bench SELECT 'floor', 'KRX', '1m', {_EXPRESSIONS} "
            f"FROM input('{structure}') FORMAT Native"
        )
        compare(
            f"tcp {label}: write 100,000",
            lambda: bare.execute(insert, list(data.values()), columnar=True),
            lambda: manager.insert_columns("bench", typed("ours", data)),
        )
        compare(
            f"tcp {label}: read 1,000,000",
            lambda: bare.execute(_READ, columnar=True, settings=_READ_SETTINGS),
            lambda: manager.read_columns(_READ),
        )
        compare(
            f"tcp {label}: 200 small statements",
            lambda: [bare.execute("SELECT 1") for _ in range(200)],
            lambda: [manager.execute("SELECT 1") for _ in range(200)],
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        embedded(Path(folder) / "embedded")
        tcp(Path(folder) / "plain", None)
        tcp(Path(folder) / "lz4", "lz4")


if __name__ == "__main__":
    main()
