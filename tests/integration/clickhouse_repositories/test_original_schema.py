"""The tables that JTS has filled are read as they are, doubles and all, and never written askew."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import stamp
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.results import Coverage
from jts_storage.errors import SchemaDrift
from jts_storage.testing.factories import START, make_candles, make_symbol

CANDLES = """
CREATE TABLE candles (
    symbol String,
    exchange String,
    timeframe String,           -- 1m, 5m, 15m, 1h, 1d, 1w, 1M
    timestamp DateTime64(3),
    open Decimal64(4),
    high Decimal64(4),
    low Decimal64(4),
    close Decimal64(4),
    volume UInt64
) ENGINE = MergeTree()
ORDER BY (symbol, timeframe, timestamp);
"""
SYMBOLS = """
CREATE TABLE symbols (
    code String,
    name String,
    market String,              -- KOSPI, KOSDAQ, ETF
    sector String,
    is_active UInt8,
    updated_at DateTime
) ENGINE = ReplacingMergeTree(updated_at)
ORDER BY code;
"""
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
ELSEWHERE = SeriesKey("005930", Timeframe.M1, "NXT")
ALWAYS = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 1, 1, tzinfo=UTC))
OLD, NEW, OTHER = (make_candles(KEY, 50, seed=seed) for seed in (1, 2, 3))
STORED = OLD.merge(NEW[20:40])


@pytest.fixture
def filled(bare_manager: ClickHouseManager) -> ClickHouseManager:
    """Fifty candles, twenty of them written twice, and the same code on another exchange."""
    bare_manager.execute(CANDLES)
    for exchange, series in (("KRX", OLD), ("NXT", OTHER), ("KRX", NEW[20:40])):
        rows = [
            ("005930", exchange, "1m", c.timestamp, c.open, c.high, c.low, c.close, c.volume)
            for c in series
        ]
        bare_manager.execute_many("INSERT INTO candles VALUES", rows)
    return bare_manager


@pytest.fixture
def candles(filled: ClickHouseManager) -> ClickHouseCandleRepository:
    return ClickHouseCandleRepository(filled)


@pytest.mark.parametrize("merged", [False, True])
async def test_the_row_inserted_last_counts(
    candles: ClickHouseCandleRepository, filled: ClickHouseManager, merged: bool
) -> None:
    if merged:
        filled.execute("OPTIMIZE TABLE candles FINAL")
    assert await candles.get_range(KEY, *ALWAYS) == STORED
    assert await candles.get_latest(KEY, 25) == STORED.tail(25)
    assert (await candles.get_ranges([ELSEWHERE, KEY], *ALWAYS))[KEY] == STORED


async def test_counts_see_each_timestamp_once(candles: ClickHouseCandleRepository) -> None:
    assert await candles.count(KEY) == 50
    assert await candles.count(KEY, START + timedelta(minutes=30)) == 20
    assert await candles.get_coverage(KEY) == Coverage(OLD.start, OLD.end)
    assert await candles.coverage_by_day(KEY) == {date(2024, 1, 2): 50}
    assert await candles.get_coverage(SeriesKey("none", Timeframe.M1)) == Coverage(None, None)


async def test_exchanges_stay_apart(candles: ClickHouseCandleRepository) -> None:
    rows = (await candles.get_range(ELSEWHERE, *ALWAYS)).to_columns()
    assert all((rows[name] == column).all() for name, column in OTHER.to_columns().items())
    assert list(await candles.list_keys()) == [KEY, ELSEWHERE]


async def test_resampling_and_streaming(candles: ClickHouseCandleRepository) -> None:
    assert await candles.resample(KEY, Timeframe.M5, *ALWAYS) == STORED.resample(Timeframe.M5)
    blocks = [block async for block in candles.stream(KEY, *ALWAYS, block_rows=20)]
    assert [len(block) for block in blocks] == [20, 20, 10]
    assert blocks[0].merge(blocks[1]).merge(blocks[2]) == STORED


async def test_writing_candles_is_refused(
    candles: ClickHouseCandleRepository, filled: ClickHouseManager
) -> None:
    before = filled.execute("SELECT count() FROM candles")
    with pytest.raises(SchemaDrift, match="migrate up"):
        await candles.save_many(KEY, OLD)
    with pytest.raises(SchemaDrift, match="migrate up"):
        await candles.delete_range(KEY, *ALWAYS)
    with pytest.raises(SchemaDrift, match="migrate up"):
        await candles.import_parquet(KEY, [])
    assert filled.execute("SELECT count() FROM candles") == before


async def test_symbols_are_read_and_saving_them_is_refused(bare_manager: ClickHouseManager) -> None:
    bare_manager.execute(SYMBOLS)
    bare_manager.execute(
        "INSERT INTO symbols VALUES ('005930', '삼성전자', 'KOSPI', 'Tech', 1,"
        " '2024-01-02 03:04:05'), ('069500', 'KODEX 200', 'ETF', '', 0, '2024-01-02 00:00:00')"
    )
    symbols = ClickHouseSymbolRepository(bare_manager)
    found = await symbols.get_by_code("005930")
    assert found is not None
    assert (found.name, found.market, found.sector) == ("삼성전자", Market.KOSPI, "Tech")
    assert found.updated_at == datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert [s.code for s in await symbols.search("전자")] == ["005930"]
    assert [s.code for s in await symbols.get_all_active()] == ["005930"]
    assert [s.sector for s in await symbols.get_by_market(Market.ETF)] == [None]

    with pytest.raises(SchemaDrift, match="migrate up"):
        await symbols.save(make_symbol("005930", name="Samsung"))
    with pytest.raises(SchemaDrift, match="migrate up"):
        symbols.store([stamp(make_symbol("005930"))], 1)
    with pytest.raises(SchemaDrift, match="migrate up"):
        symbols.latest_version()
    assert await symbols.get_by_code("005930") == found
    assert len(await symbols.list()) == 2


async def test_a_price_the_schema_holds_comes_back_exactly(
    bare_manager: ClickHouseManager,
) -> None:
    bare_manager.execute(CANDLES)
    bare_manager.execute(
        "INSERT INTO candles VALUES ('A', '', '1d', '1970-01-01 00:00:00.001',"
        " '0.0001', '99999999999999.9999', '-99999999999999.9999', '1.5', 18446744073709551615)"
    )
    candles = ClickHouseCandleRepository(bare_manager)
    [candle] = await candles.get_range(SeriesKey("A", Timeframe.D1), *ALWAYS)
    assert candle.timestamp == datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)
    assert (candle.open, candle.high) == (Decimal("0.0001"), Decimal("99999999999999.9999"))
    assert candle.volume == 2**64 - 1


async def test_the_zone_of_the_server_moves_nothing(
    bare_manager: ClickHouseManager,
) -> None:
    daily = SeriesKey("A", Timeframe.D1)
    series = make_candles(daily, 30)
    bare_manager.execute(CANDLES)
    bare_manager.execute_many(
        "INSERT INTO candles VALUES",
        [("A", "", "1d", c.timestamp, c.open, c.high, c.low, c.close, c.volume) for c in series],
    )
    elsewhere = replace(bare_manager.config, settings={"session_timezone": "America/New_York"})
    with ClickHouseManager(elsewhere) as manager:
        candles = ClickHouseCandleRepository(manager)
        assert await candles.get_range(daily, *ALWAYS) == series
        weekly = await candles.resample(daily, Timeframe.W1, *ALWAYS)
        assert weekly == series.resample(Timeframe.W1)
        assert list(await candles.coverage_by_day(daily)) == [c.timestamp.date() for c in series]


async def test_who_runs_while_the_table_is_replaced_sees_the_new_one(
    filled: ClickHouseManager,
) -> None:
    running = ClickHouseCandleRepository(filled)
    assert await running.get_range(KEY, *ALWAYS) == STORED
    filled.execute("RENAME TABLE candles TO other")
    tables.build().metadata.tables["candles"].create(filled.engine)
    elsewhere = ClickHouseCandleRepository(filled)
    await elsewhere.save_many(KEY, STORED)
    await elsewhere.delete_range(KEY, STORED[0].timestamp, STORED[9].timestamp)
    assert await running.get_range(KEY, *ALWAYS) == STORED[10:]
    assert await running.count(KEY) == len(STORED) - 10
    assert (await running.save_many(KEY, STORED[:5])).written == 5
