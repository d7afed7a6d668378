"""The least code that does what the repositories do: bare chDB, and bare clickhouse-driver.

No pool, no errors of ours, no deduplication, no checks, no threads. Whoever makes one of these
faster has raised the bar for the repositories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from clickhouse_driver import Client
from clickhouse_driver.reader import read_binary_str
from clickhouse_driver.varint import read_varint

from jts_storage.clickhouse.blocks import MemoryReader
from jts_storage.domain.series import CandleSeries

Array = np.ndarray[Any, Any]

PRICES = ("open", "high", "low", "close")
TABLE = """
CREATE TABLE {name} (
    symbol LowCardinality(String), exchange LowCardinality(String),
    timeframe LowCardinality(String), timestamp DateTime64(3, 'UTC') CODEC(Delta(8), LZ4),
    open Decimal(18, 4) CODEC(T64, LZ4), high Decimal(18, 4) CODEC(T64, LZ4),
    low Decimal(18, 4) CODEC(T64, LZ4), close Decimal(18, 4) CODEC(T64, LZ4),
    volume UInt64 CODEC(T64, LZ4), version UInt64 CODEC(T64, LZ4)
) ENGINE = ReplacingMergeTree(version) ORDER BY (timeframe, symbol, exchange, timestamp)
"""
SETTINGS = {"max_threads": 1, "max_block_size": 65_536, "preferred_block_size_bytes": 0}
_SETTINGS = " SETTINGS " + ", ".join(f"{name} = {value}" for name, value in SETTINGS.items())
_VALUES = (
    "fromUnixTimestamp64Milli(timestamp, 'UTC'), "
    + ", ".join(f"reinterpret({name}, 'Decimal64(4)')" for name in PRICES)
    + ", volume"
)
_BARE_ROWS = (
    "symbol String, exchange String, timeframe String, timestamp Int64, "
    + ", ".join(f"{name} Int64" for name in PRICES)
    + ", volume UInt64, version UInt64"
)


def of(symbol: str) -> str:
    return f"symbol = '{symbol}' AND exchange = 'KRX' AND timeframe = '1m'"


class BareChdb:
    """Statements on a connection of chDB, texts put together by hand."""

    columns = ", ".join(("timestamp", *PRICES, "volume"))

    def __init__(self, connection: Any, table: str) -> None:
        self._connection = connection
        self._table = table

    def write(self, symbol: str, series: CandleSeries, version: int) -> None:
        import pandas as pd

        frame = pd.DataFrame(series.to_columns(), copy=False)  # noqa: F841 - chDB finds it by name
        self._connection.query(
            f"INSERT INTO {self._table} SELECT '{symbol}', 'KRX', '1m', {_VALUES}, {version}"
            " FROM Python(frame)"
        )

    def read(self, query: str, rows: int = 0) -> list[Array]:
        """:param rows: how many it will be: then each block is copied while it is in the cache."""
        if not rows:
            memory = self._connection.query(query + _SETTINGS, "Native").get_memview()
            blocks = [] if memory is None else list(_blocks(memory.view()))
            return [np.concatenate(column) for column in zip(*blocks, strict=True)]
        columns: list[Array] = []
        start = 0
        stream = self._connection.send_query(query + _SETTINGS, "Native")
        while (chunk := stream.fetch()) is not None:
            memory = chunk.get_memview()
            for block in _blocks(memory.view()):
                columns = columns or [np.empty(rows, piece.dtype) for piece in block]
                end = start + len(block[0])
                for column, piece in zip(columns, block, strict=True):
                    column[start:end] = piece
                start = end
        return columns


def insert_frame(connection: Any, table: str, frame: Any) -> None:
    """Insert candles of several symbols from one frame, which chDB finds by its name."""
    connection.query(
        f"INSERT INTO {table} SELECT symbol, 'KRX', '1m', {_VALUES}, version FROM Python(frame)"
    )


class BareDriver:
    """clickhouse-driver with NumPy, over TCP; of Decimals it would make objects."""

    columns = (
        "toUnixTimestamp64Milli(timestamp), "
        + ", ".join(f"reinterpret({name}, 'Int64')" for name in PRICES)
        + ", volume"
    )

    def __init__(self, port: int, table: str) -> None:
        self.client = Client("127.0.0.1", port, settings={"use_numpy": True})
        self._table = table

    def write(self, symbol: str, series: CandleSeries, version: int) -> None:
        rows = len(series)
        columns = series.to_columns()
        data = [
            *(np.full(rows, text, object) for text in (symbol, "KRX", "1m")),
            *columns.values(),
            np.full(rows, version, np.uint64),
        ]
        self.client.execute(
            f"INSERT INTO {self._table} SELECT symbol, exchange, timeframe, {_VALUES}, version"
            f" FROM input('{_BARE_ROWS}') FORMAT Native",
            data,
            columnar=True,
        )

    def read(self, query: str, rows: int = 0) -> list[Array]:
        found: list[Array] = self.client.execute(query, columnar=True, settings=dict(SETTINGS))
        return found


def _blocks(view: memoryview) -> Iterator[list[Array]]:
    """Skip the headers, take the words as they lie there."""
    reader = MemoryReader(view)
    while not reader.exhausted:
        columns, rows = read_varint(reader), read_varint(reader)
        block = []
        for _ in range(columns):
            read_binary_str(reader)
            width = _WIDTHS.get(read_binary_str(reader), 8)
            block.append(np.frombuffer(reader.read(width * rows), f"<i{width}"))
        yield block


_WIDTHS: Mapping[str, int] = {"UInt8": 1}
