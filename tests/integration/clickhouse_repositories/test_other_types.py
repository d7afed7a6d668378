"""Columns of other types are refused, not read as other prices or volumes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import SchemaDrift
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
Read = Callable[[ClickHouseCandleRepository], Awaitable[Any]]


@pytest.fixture
async def manager() -> AsyncIterator[ClickHouseManager]:
    with ClickHouseManager(embedded_path=":memory:", database="types_test") as manager:
        tables.build().metadata.create_all(manager.engine)
        yield manager
        manager.execute("DROP DATABASE types_test")


async def streamed(candles: ClickHouseCandleRepository) -> int:
    return sum([len(block) async for block in candles.stream(KEY, *ALWAYS)])


@pytest.mark.parametrize(
    "read",
    [
        lambda candles: candles.get_range(KEY, *ALWAYS),
        lambda candles: candles.get_latest(KEY),
        lambda candles: candles.resample(KEY, Timeframe.H1, *ALWAYS),
        streamed,
    ],
    ids=["range", "latest", "resample", "stream"],
)
@pytest.mark.parametrize(
    ("column", "type_name"),
    [
        ("close", "Decimal(18, 6)"),
        ("open", "Int64"),
        ("volume", "UInt32"),
        ("volume", "Float64 CODEC(LZ4)"),
        ("volume", "Nullable(UInt64)"),
    ],
)
async def test_columns_of_another_type_are_refused(
    manager: ClickHouseManager, read: Read, column: str, type_name: str
) -> None:
    candles = ClickHouseCandleRepository(manager, cache_bytes=0)
    await candles.save_many(KEY, make_candles(KEY, 10))
    await read(candles)
    manager.execute(f"ALTER TABLE candles MODIFY COLUMN {column} {type_name}")
    with pytest.raises(SchemaDrift, match="is expected"):
        await read(candles)
