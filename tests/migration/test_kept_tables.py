"""What an adoption kept is dropped when told so, and only when it holds nothing of its own."""

from __future__ import annotations

import re

import pytest

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.errors import StorageError
from jts_storage.migrate.clickhouse import ClickHouseMigrations
from jts_storage.migrate.kept_tables import Kept
from tests.runs import some_by_day

CANDLES = (
    "CREATE TABLE candles (symbol String, exchange String, timeframe String,"
    " timestamp DateTime64(3), open Decimal64(4), high Decimal64(4), low Decimal64(4),"
    " close Decimal64(4), volume UInt64) ENGINE = MergeTree() ORDER BY symbol"
)
SYMBOLS = (
    "CREATE TABLE symbols (code String, name String, market String, sector String,"
    " is_active UInt8, updated_at DateTime) ENGINE = ReplacingMergeTree(updated_at) ORDER BY code"
)


@pytest.fixture
async def adopted(clickhouse: ClickHouseManager) -> ClickHouseManager:
    """300 candles, 20 of them twice, and two symbols, in kept tables and in ours."""
    clickhouse.execute(CANDLES)
    clickhouse.execute(SYMBOLS)
    clickhouse.execute(
        "INSERT INTO symbols VALUES ('S0', 'n', 'ETF', '', 1, 1), ('S1', '', '', '', 1, 1)"
    )
    for rows in (300, 20):
        clickhouse.execute(
            "INSERT INTO candles SELECT 'S' || toString(number % 3), 'KRX', '1m',"
            " fromUnixTimestamp64Milli(toInt64(1700000000000 + number * 60000)),"
            f" 10, 20, 1, 15, number FROM numbers({rows})"
        )
    await migrate.up(migrate.Databases(clickhouse))
    return clickhouse


def tables(manager: ClickHouseManager) -> set[str]:
    return {name for (name,) in manager.execute("SHOW TABLES") if not name.startswith("jts_")}


async def test_what_is_kept_is_compared_and_dropped(adopted: ClickHouseManager) -> None:
    adopted.execute("CREATE TABLE candles_legacy_of_mine (a Int8) ENGINE = Memory")
    # Deleting and changing candles after the adoption is no reason to keep the old ones.
    adopted.execute(
        "INSERT INTO candles SELECT * REPLACE (1 AS is_deleted, version + 1e18 AS version)"
        " FROM candles FINAL WHERE symbol = 'S1'"
    )
    databases = migrate.Databases(adopted)
    kept = await migrate.kept(databases)
    assert kept == [
        Kept("candles_legacy", "candles", rows=320, keys=300, missing=0),
        Kept("candles_legacy_2", "candles", rows=300, keys=300, missing=0),
        Kept("symbols_legacy", "symbols", rows=2, keys=2, missing=0),
        Kept("symbols_legacy_2", "symbols", rows=2, keys=2, missing=0),
    ]
    await migrate.drop_kept(databases, kept)
    ours = {"candles", "candles_history", "symbols"}
    assert tables(adopted) == ours | {"candles_legacy_of_mine"}
    assert await migrate.kept(databases) == []


@pytest.mark.parametrize(
    ("spoil", "missing"),
    some_by_day(
        [
            (
                "INSERT INTO candles_legacy VALUES ('S9', 'KRX', '1m', now64(3), 1, 2, 1, 2, 5)",
                {"candles_legacy": 1},
            ),
            (
                "ALTER TABLE candles DELETE WHERE symbol = 'S2'",
                {"candles_legacy": 100, "candles_legacy_2": 100},
            ),
            (
                "ALTER TABLE symbols DELETE WHERE code = 'S1'",
                {"symbols_legacy": 1, "symbols_legacy_2": 1},
            ),
        ]
    ),
)
async def test_what_is_nowhere_else_is_not_dropped(
    adopted: ClickHouseManager, spoil: str, missing: dict[str, int]
) -> None:
    adopted.execute(spoil, settings={"mutations_sync": 2})
    databases = migrate.Databases(adopted)
    kept = await migrate.kept(databases)
    assert {each.table: each.missing for each in kept if each.missing} == missing
    table, keys = next(iter(missing.items()))
    with pytest.raises(StorageError, match=f"{table} has {keys} of"):
        await migrate.drop_kept(databases, kept)
    assert {"candles_legacy", "symbols_legacy", "symbols_legacy_2"} <= tables(adopted)


async def test_a_comparison_in_ranges_tells_how_far_it_is(adopted: ClickHouseManager) -> None:
    events: list[migrate.Event] = []
    migrations = ClickHouseMigrations(adopted, chunk_rows=50)
    (candles, *_) = await migrations.kept(events.append)
    assert (candles.rows, candles.keys, candles.missing) == (320, 300, 0)
    told = [
        each
        for each in events
        if isinstance(each, migrate.Progress) and each.what.startswith("candles_legacy against")
    ]
    assert len(told) > 5
    assert told[-1].done == told[-1].total == 320
    assert re.search(r"^candles_legacy against candles: \d+ of 320 rows", migrate.describe(told[0]))
