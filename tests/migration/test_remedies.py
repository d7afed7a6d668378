"""What `check` advises is run against tables with rows: then it agrees, and every row is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

import pytest

from jts_storage import CandleSeries, SeriesKey, StorageSettings, Timeframe, migrate
from jts_storage.clickhouse import surroundings
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import StorageError
from jts_storage.migrate import checks
from jts_storage.migrate.opening import Opening
from jts_storage.testing.factories import make_candles, make_symbol
from tests.migration.conftest import cloned, fresh_name
from tests.migration.drifts import DRIFTS, MICROSECONDS, Drift, candles, remade
from tests.runs import some_by_day

KEYS = (
    SeriesKey("005930", Timeframe.D1, exchange="KRX"),
    SeriesKey("AAPL", Timeframe.M1, exchange="NASDAQ"),
)
SETTINGS = {"mutations_sync": 2, "alter_sync": 2}


@dataclass(frozen=True)
class Rows:
    """What the kit reads."""

    candles: tuple[CandleSeries, ...]
    symbols: tuple[Symbol, ...]


@pytest.fixture(scope="module")
def filled(engine_used: Callable[[str], None]) -> Iterator[ClickHouseManager]:
    """A database with rows, of which each test gets a copy."""
    engine_used("chDB")
    with ClickHouseManager(embedded_path=":memory:", database=fresh_name("filled")) as manager:

        async def make() -> None:
            await migrate.up(migrate.Databases(manager))
            await fill(manager)

        asyncio.run(make())
        yield manager
        manager.execute(f"DROP DATABASE {manager.config.database}")


@pytest.fixture
def live(filled: ClickHouseManager) -> Iterator[ClickHouseManager]:
    with cloned(filled) as manager:
        yield manager


async def fill(manager: ClickHouseManager) -> None:
    """Store series of which rows were replaced and deleted, and symbols."""
    repository = ClickHouseCandleRepository(manager)
    for key in KEYS:
        made = make_candles(key, 40)
        await repository.save_many(key, made)
        changed = replace(made[3], volume=made[3].volume + 7)
        await repository.save_many(key, [changed])
        await repository.delete_range(key, made[5].timestamp, made[6].timestamp)
    symbols = ClickHouseSymbolRepository(manager)
    await symbols.save_many([make_symbol("005930", sector="IT"), make_symbol("AAPL", sector="US")])
    await symbols.save_many([make_symbol("005930", name="renamed", sector="semiconductors")])


async def read(manager: ClickHouseManager) -> Rows:
    repository = ClickHouseCandleRepository(manager)
    series = [await repository.get_latest(key, 100) for key in KEYS]
    symbols = await ClickHouseSymbolRepository(manager).list()
    return Rows(tuple(series), tuple(sorted(symbols, key=lambda each: each.code)))


async def follow(databases: migrate.Databases, found: list[migrate.Difference]) -> None:
    assert databases.clickhouse is not None
    for remedy in dict.fromkeys(each.remedy for each in found):
        if remedy.startswith("jts-storage migrate stamp"):
            await migrate.stamp(databases, remedy.split()[3])
            continue
        for statement in remedy.split("; "):
            databases.clickhouse.execute(statement, settings=SETTINGS)


async def until_seen(databases: migrate.Databases) -> list[migrate.Difference]:
    for _ in range(50):
        if found := await migrate.check(databases):
            return found
        await asyncio.sleep(0.1)
    return []


@pytest.mark.parametrize("drift", some_by_day(DRIFTS), ids=str)
async def test_the_remedy_is_run(live: ClickHouseManager, drift: Drift) -> None:
    databases = migrate.Databases(live)
    before = await read(live)
    for statement in drift.statements:
        live.execute(statement, settings=SETTINGS)
    found = await until_seen(databases)
    assert found
    assert checks.exit_code(found) == 1
    await follow(databases, found)
    assert [str(each) for each in await migrate.check(databases)] == []
    after = await read(live)
    if drift.keeps:
        assert after == before
    else:
        assert any("estore or import" in each.warning for each in found)
    for each in found:
        assert_it_drops_no_rows(live, each)


@pytest.mark.parametrize("kind", some_by_day(["Float64", "Float32", "Nullable(Float64)"]))
async def test_floats_become_the_prices_that_they_stand_for(
    live: ClickHouseManager, kind: str
) -> None:
    """A cast would cut 1.15 off, which as a float is a little less."""
    databases = migrate.Databases(live)
    live.execute(f"ALTER TABLE candles MODIFY COLUMN close {kind} CODEC(LZ4)", settings=SETTINGS)
    live.execute(
        "INSERT INTO candles (symbol, timeframe, timestamp, open, high, low, close, volume,"
        " version) SELECT 'F', '1m', toDateTime64('2024-01-02', 3, 'UTC') + 60 * number, 0, 99, 0,"
        " number / 100, 1, 1 FROM numbers(1000)"
    )
    await follow(databases, await until_seen(databases))
    assert [str(each) for each in await migrate.check(databases)] == []
    series = await ClickHouseCandleRepository(live).get_latest(SeriesKey("F", Timeframe.M1), 1000)
    assert [candle.close for candle in series] == [Decimal(n) / 100 for n in range(1000)]


async def test_a_float_that_stands_for_no_price_stops_the_remedy(live: ClickHouseManager) -> None:
    databases = migrate.Databases(live)
    live.execute("ALTER TABLE candles MODIFY COLUMN close Float64 CODEC(LZ4)", settings=SETTINGS)
    live.execute(
        "INSERT INTO candles (symbol, timeframe, timestamp, open, high, low, close, volume,"
        " version) SELECT 'F', '1m', toDateTime64('2024-01-02', 3, 'UTC'), 0, 9, 0, 1.00001, 1, 1"
    )
    with pytest.raises(StorageError, match="values of close that do not fit"):
        await follow(databases, await until_seen(databases))
    assert live.execute("SELECT close FROM candles WHERE symbol = 'F'") == [(1.00001,)]


def assert_it_drops_no_rows(manager: ClickHouseManager, found: migrate.Difference) -> None:
    assert "DROP TABLE" not in found.remedy
    if "DROP COLUMN" in found.remedy:
        assert found.warning or "MATERIALIZED" in found.actual
    if "EXCHANGE" in found.remedy:
        assert "No row is lost" in found.warning
        kept = found.remedy.split()[-1]
        assert manager.execute(f"SELECT count() > 0 FROM {kept}") == [(1,)]


# ---- what counts, and what stops it


async def remedied(manager: ClickHouseManager) -> list[migrate.Difference]:
    databases = migrate.Databases(manager)
    found = await migrate.check(databases)
    await follow(databases, found)
    assert await migrate.check(databases) == []
    return found


async def test_of_rows_with_one_key_the_latest_version_counts(live: ClickHouseManager) -> None:
    expected = await read(live)
    for statement in remade("plain", candles(engine="MergeTree")).statements:
        live.execute(statement)
    columns = "symbol, exchange, timeframe, timestamp, open, high, low, close"
    # As they were before, and that twice.
    for volume in (1, 1, 2):
        live.execute(
            f"INSERT INTO candles ({columns}, volume, version)"
            f" SELECT DISTINCT {columns}, {volume}, 1 FROM candles"
        )
    found = await remedied(live)
    assert "the one with the highest version counts" in found[0].warning
    assert await read(live) == expected


async def test_of_equal_versions_the_row_that_was_written_last_counts(
    live: ClickHouseManager,
) -> None:
    """As where another program wrote them, which gives no versions."""
    for statement in remade("plain", candles(engine="MergeTree")).statements:
        live.execute(statement)
    for volume in (3, 2, 9, 4):
        live.execute(
            "INSERT INTO candles SELECT * REPLACE (toUInt64(9e18) AS version,"
            f" {volume} AS volume, 0 AS is_deleted) FROM"
            " (SELECT * FROM candles WHERE version < 9e18 LIMIT 1 BY symbol, timestamp)"
        )
    await remedied(live)
    for series in (await read(live)).candles:
        assert set(series.columns.volume.tolist()) == {4}


async def test_a_row_that_another_engine_hides_as_deleted_the_kit_hides_too(
    live: ClickHouseManager,
) -> None:
    expected = await read(live)
    hiding = candles(engine="ReplacingMergeTree(version, is_deleted)")
    for statement in remade("hiding", hiding).statements:
        live.execute(statement)
    seen = live.execute("SELECT count() FROM candles FINAL")
    await remedied(live)
    assert await read(live) == expected
    assert live.execute("SELECT count() FROM candles FINAL WHERE NOT is_deleted") == seen
    assert live.execute("SELECT count() FROM candles FINAL WHERE is_deleted") == [(4,)]


@pytest.mark.parametrize(
    ("change", "spoil"),
    [
        ("open Decimal(18, 6)", "open = open + toDecimal64(0.000001, 6)"),
        ("volume Int64", "volume = -1"),
        ("volume Float64 CODEC(NONE)", "volume = 1.5"),
        ("volume Nullable(UInt64)", "volume = NULL"),
        ("volume String CODEC(NONE)", "volume = 'many'"),
    ],
)
async def test_a_value_that_does_not_fit_stops_it_before_anything_is_done(
    live: ClickHouseManager, change: str, spoil: str
) -> None:
    for alteration in (f"MODIFY COLUMN {change}", f"UPDATE {spoil} WHERE symbol = 'AAPL'"):
        live.execute(f"ALTER TABLE candles {alteration}", settings=SETTINGS)
    before = live.execute("SELECT * FROM candles ORDER BY ALL")
    tables = live.execute("SHOW TABLES")
    with pytest.raises(StorageError):
        await remedied(live)
    assert live.execute("SELECT * FROM candles ORDER BY ALL") == before
    assert live.execute("SHOW TABLES") == tables


async def test_two_rows_within_a_millisecond_are_not_made_one(live: ClickHouseManager) -> None:
    for statement in remade("micro", candles(MICROSECONDS)).statements:
        live.execute(statement)
    live.execute(
        "INSERT INTO candles SELECT * REPLACE (addMicroseconds(timestamp, 7) AS timestamp)"
        " FROM candles LIMIT 1"
    )
    with pytest.raises(StorageError, match="do not fit"):
        await remedied(live)


async def test_a_copy_that_has_not_the_very_rows_is_never_exchanged(
    live: ClickHouseManager,
) -> None:
    live.execute("ALTER TABLE candles MODIFY COLUMN volume Int64", settings=SETTINGS)
    before = live.execute("SELECT * FROM candles ORDER BY ALL")
    (found,) = await migrate.check(migrate.Databases(live))
    statements = found.remedy.split("; ")
    copied = 1 + [each.startswith("INSERT INTO") for each in statements].index(True)
    statements.insert(
        copied, "ALTER TABLE candles_rebuilt UPDATE volume = volume + 1 WHERE symbol = 'AAPL'"
    )
    with pytest.raises(StorageError, match="candles_rebuilt has not the rows of candles"):
        await follow(migrate.Databases(live), [replace(found, remedy="; ".join(statements))])
    assert live.execute("SELECT * FROM candles ORDER BY ALL") == before
    assert live.execute("EXISTS TABLE candles_before") == [(0,)]


async def test_the_values_of_a_surplus_column_are_kept_beside(live: ClickHouseManager) -> None:
    live.execute("ALTER TABLE symbols ADD COLUMN note String DEFAULT 'x'", settings=SETTINGS)
    live.execute("ALTER TABLE symbols UPDATE note = code WHERE 1", settings=SETTINGS)
    (found,) = await remedied(live)
    assert "symbols_note keeps them" in found.warning
    kept = live.execute("SELECT DISTINCT code, note FROM symbols_note ORDER BY code")
    assert kept == [("005930", "005930"), ("AAPL", "AAPL")]


async def test_a_rebuild_says_too_what_was_lost_before(live: ClickHouseManager) -> None:
    for statement in remade("plain", candles(engine="MergeTree")).statements:
        live.execute(statement)
    for change in ("DROP COLUMN volume", "ADD COLUMN note Nullable(Int8)"):
        live.execute(f"ALTER TABLE candles {change}", settings=SETTINGS)
    found = {each.where: each.warning for each in await remedied(live)}
    assert "Restore or import" in found["candles.volume"]
    assert all("stays as candles_before" in each for each in found.values())
    assert "candles_note" not in found["candles.note"]
    assert live.execute("SELECT count(note) FROM candles_before") == [(0,)]


async def test_a_column_that_may_be_one_of_two_is_not_guessed(live: ClickHouseManager) -> None:
    live.execute(
        "ALTER TABLE symbols ADD COLUMN a String, ADD COLUMN b String, DROP COLUMN sector",
        settings=SETTINGS,
    )
    found = {each.where: each for each in await migrate.check(migrate.Databases(live))}
    assert found["symbols.sector"].remedy.startswith("ALTER TABLE symbols ADD COLUMN sector")
    assert "restore or import" in found["symbols.sector"].warning.lower()


async def test_parts_that_nobody_merges_are_seen(
    live: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With fewer than the thousand of a server, for the sake of time."""
    monkeypatch.setattr(surroundings, "_delaying", lambda _: 30)
    databases = migrate.Databases(live)
    assert await migrate.check(databases) == []
    live.execute("SYSTEM STOP MERGES candles")
    live.execute(
        "INSERT INTO candles (symbol, timeframe, timestamp) SELECT 'B', '1d',"
        " fromUnixTimestamp64Milli(toInt64(number * 86400000), 'UTC') FROM numbers(31)",
        settings={
            "max_block_size": 1,
            "min_insert_block_size_rows": 1,
            "min_insert_block_size_bytes": 1,
        },
    )
    (found,) = await remedied(live)
    assert (found.where, found.what) == ("candles", "parts")
    assert live.execute("SELECT count() FROM candles WHERE symbol = 'B'") == [(31,)]


async def test_a_storage_opens_with_what_only_a_person_can_mend(live: ClickHouseManager) -> None:
    live.execute(
        "ALTER TABLE candles UPDATE volume = throwIf(1) WHERE 1 SETTINGS mutations_sync = 0"
    )
    databases = migrate.Databases(live)
    (found,) = await until_seen(databases)
    assert found.what == "mutation"
    await Opening(StorageSettings(check="error", migrate=False), databases).prepare()


# ---- harmless


@pytest.mark.parametrize(
    "change",
    [
        "MODIFY SETTING min_bytes_for_wide_part = 1",
        "MODIFY SETTING parts_to_throw_insert = 5000",
        "COMMENT COLUMN volume 'in shares'",
        "MODIFY COMMENT 'what the market did'",
    ],
)
async def test_what_neither_loses_nor_refuses_rows_is_the_servers_own(
    live: ClickHouseManager, change: str
) -> None:
    live.execute(f"ALTER TABLE candles {change}")
    assert await migrate.check(migrate.Databases(live)) == []


async def test_a_plain_view_is_nobodys_business(live: ClickHouseManager) -> None:
    live.execute("CREATE VIEW mine AS SELECT * FROM candles FINAL")
    assert await migrate.check(migrate.Databases(live)) == []


async def test_a_dictionary_over_symbols_is_a_note(live: ClickHouseManager) -> None:
    database = live.config.database
    live.execute(
        "CREATE DICTIONARY names (code String, name String) PRIMARY KEY code"
        f" SOURCE(CLICKHOUSE(TABLE 'symbols' DB '{database}')) LIFETIME(0)"
        " LAYOUT(COMPLEX_KEY_HASHED())"
    )
    (found,) = await migrate.check(migrate.Databases(live))
    assert found.is_note
    assert checks.exit_code([found]) == 0
    assert str(found).startswith("note: clickhouse symbols.names")
    assert checks.as_github([found]).startswith("::notice ")
    await Opening(StorageSettings(check="error", migrate=False), migrate.Databases(live)).prepare()
    live.execute(found.remedy)
    assert await migrate.check(migrate.Databases(live)) == []
