"""A cached range is the one the table would give, whoever changed the table, and however."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.held_ranges import OVERHEAD
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.memory import bytes_in_use
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import owner_of
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.testing.factories import SAMPLE_KEY as KEY
from jts_storage.testing.factories import START, make_candles
from tests.runs import some_by_day

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
SERIES = make_candles(KEY, 30_000)
OTHER = make_candles(KEY, 30_000, seed=9)
MEGABYTE = 1 << 20


@pytest.fixture
def stranger(manager: ClickHouseManager) -> Iterator[ClickHouseManager]:
    """Another pool on the same database, of which the repository knows nothing."""
    with ClickHouseManager(manager.config) as other:
        yield other


@pytest.fixture
async def cached(manager: ClickHouseManager) -> ClickHouseCandleRepository:
    """A repository that holds SERIES, provably: the second read gave the very same object."""
    manager.execute("SYSTEM STOP MERGES candles")
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES[:20_000])
    await candles.save_many(KEY, SERIES[10_000:])
    assert await candles.get_range(KEY, *ALWAYS) is await candles.get_range(KEY, *ALWAYS)
    return candles


def _write_row(manager: ClickHouseManager) -> None:
    manager.execute(
        "INSERT INTO candles SELECT * REPLACE (toUInt64(volume + 1) AS volume,"
        " version + 1 AS version) FROM candles FINAL ORDER BY timestamp LIMIT 1",
        idempotent=False,
    )


def _other_table(manager: ClickHouseManager) -> None:
    manager.execute("CREATE TABLE other AS candles")
    manager.execute("INSERT INTO other SELECT * FROM candles WHERE timestamp < '2024-01-10'")


CHANGES: dict[str, list[str | Callable[[ClickHouseManager], Any]]] = {
    "a row written": [_write_row],
    "a row deleted": ["DELETE FROM candles WHERE timestamp = '2024-01-02 00:00:00'"],
    "rows mutated": [
        "ALTER TABLE candles UPDATE volume = volume + 1 WHERE 1 SETTINGS mutations_sync = 2"
    ],
    "rows deleted by mutation": [
        "ALTER TABLE candles DELETE WHERE timestamp > '2024-01-05' SETTINGS mutations_sync = 2"
    ],
    "truncated": ["TRUNCATE TABLE candles"],
    "exchanged": [_other_table, "EXCHANGE TABLES candles AND other"],
    "dropped and made anew": [
        _other_table,
        "DROP TABLE candles SYNC",
        "RENAME TABLE other TO candles",
    ],
    "a partition dropped": ["ALTER TABLE candles DROP PARTITION tuple()"],
    "expired": [
        "ALTER TABLE candles MODIFY TTL toDateTime(timestamp) + INTERVAL 1 DAY"
        " SETTINGS mutations_sync = 2",
        "OPTIMIZE TABLE candles FINAL",
    ],
    "a part detached": [
        lambda manager: manager.execute(
            "ALTER TABLE candles DETACH PART '"
            + manager.execute(
                "SELECT min(name) FROM system.parts WHERE active AND table = 'candles'"
                " AND database = currentDatabase()"
            )[0][0]
            + "'"
        )
    ],
}


@pytest.mark.parametrize(
    "changes", some_by_day(pytest.param(each, id=name) for name, each in CHANGES.items())
)
async def test_any_change_from_elsewhere_is_seen_at_once(
    changes: list[str | Callable[[ClickHouseManager], Any]],
    cached: ClickHouseCandleRepository,
    stranger: ClickHouseManager,
) -> None:
    stranger.execute("SYSTEM START MERGES candles")
    for change in changes:
        _ = stranger.execute(change) if isinstance(change, str) else change(stranger)
    uncached = ClickHouseCandleRepository(stranger, cache_bytes=0)
    truth = await uncached.get_range(KEY, *ALWAYS)
    assert truth != SERIES
    assert await cached.get_range(KEY, *ALWAYS) == truth
    assert await cached.get_range(KEY, *ALWAYS) == truth


@pytest.mark.parametrize(
    "statement",
    [
        "OPTIMIZE TABLE candles FINAL",
        "DETACH TABLE candles SYNC",
        "ALTER TABLE candles ADD COLUMN x Int8",
    ],
)
async def test_what_changes_no_row_changes_no_answer(
    statement: str, cached: ClickHouseCandleRepository, stranger: ClickHouseManager
) -> None:
    stranger.execute("SYSTEM START MERGES candles")
    stranger.execute(statement)
    if statement.startswith("DETACH"):
        stranger.execute("ATTACH TABLE candles")
    assert await cached.get_range(KEY, *ALWAYS) == SERIES


async def test_writes_and_reads_in_turn_never_give_the_past(
    cached: ClickHouseCandleRepository, stranger: ClickHouseManager
) -> None:
    elsewhere = ClickHouseCandleRepository(stranger)
    for turn in range(10):
        wanted = SERIES if turn % 2 else OTHER
        await elsewhere.save_many(KEY, wanted)
        for _ in range(2):
            assert await cached.get_range(KEY, *ALWAYS) == wanted


async def test_a_change_during_the_read_is_not_held(
    cached: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    cache = cached._cache
    first, last = checks.range_ms(*ALWAYS)
    elsewhere = SeriesKey("elsewhere", Timeframe.M1)

    def read() -> Any:
        _write_row(manager)
        return SERIES

    assert cache.get(elsewhere, first, last, read) is SERIES
    assert cache.get(elsewhere, first, last, lambda: OTHER) is OTHER


async def test_what_was_read_while_another_table_stood_there_is_not_held(
    cached: ClickHouseCandleRepository, manager: ClickHouseManager, stranger: ClickHouseManager
) -> None:
    """Exchanged during the read and exchanged back, the table is the one from before the read."""
    cache = cached._cache
    _other_table(stranger)
    first, last = checks.range_ms(*ALWAYS)
    elsewhere = SeriesKey("elsewhere", Timeframe.M1)

    def read() -> Any:
        stranger.execute("EXCHANGE TABLES candles AND other")
        return OTHER

    before = cache._ask().state
    assert cache.get(elsewhere, first, last, read) is OTHER
    stranger.execute("EXCHANGE TABLES candles AND other")
    assert cache._ask().state == before is not None
    assert cache.get(elsewhere, first, last, lambda: SERIES) is SERIES


async def test_no_more_is_held_than_was_allowed(manager: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(manager, cache_bytes=2 * MEGABYTE)
    keys = [SeriesKey(f"S{number}", Timeframe.M1) for number in range(3)]
    for key in keys:
        await candles.save_many(key, make_candles(key, 30_000))
    first = {key: await candles.get_range(key, *ALWAYS) for key in keys}
    assert await candles.get_range(keys[2], *ALWAYS) is first[keys[2]]
    assert await candles.get_range(keys[0], *ALWAYS) is not first[keys[0]]
    assert candles._cache._held.size <= 2 * MEGABYTE


async def test_what_is_larger_than_was_allowed_drives_nothing_out(
    manager: ClickHouseManager,
) -> None:
    candles = ClickHouseCandleRepository(manager, cache_bytes=2 * MEGABYTE)
    large = SeriesKey("large", Timeframe.M1)
    await candles.save_many(KEY, SERIES)
    await candles.save_many(large, make_candles(large, 60_000))
    held = await candles.get_range(KEY, *ALWAYS)
    assert len(await candles.get_range(large, *ALWAYS)) == 60_000
    assert await candles.get_range(KEY, *ALWAYS) is held


async def test_all_of_the_memory_that_is_held_is_counted(manager: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, make_candles(KEY, 200_000))
    held = await candles.get_range(KEY, *ALWAYS)
    whole = owner_of(held.columns.close)
    assert whole.base is not None, "in memory used again"
    in_use = bytes_in_use(whole)
    assert 200_000 * 49 <= in_use <= whole.nbytes
    assert candles._cache._held.size == in_use + OVERHEAD


async def test_short_ranges_are_held_where_that_needs_no_question(
    manager: ClickHouseManager,
) -> None:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES)
    day = (START, START + timedelta(days=1))
    first = await candles.get_range(KEY, *day)
    again = await candles.get_range(KEY, *day)
    assert first == again
    assert (first is again) == manager.config.is_embedded
    assert len(candles._cache._held) == manager.config.is_embedded


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, 0), (1, 29_999), (0, 20_000), (29_999, 40_000), (-5, 3), (12_000, 11_999), (7, 7)],
)
async def test_a_part_of_what_is_held_is_cut_from_it(
    start: int, end: int, cached: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    ends = (START + timedelta(minutes=start), START + timedelta(minutes=end))
    if start > end:
        with pytest.raises(InvalidData):
            await cached.get_range(KEY, *ends)
        return
    whole = await cached.get_range(KEY, *ALWAYS)
    found = await cached.get_range(KEY, *ends)
    assert found == await ClickHouseCandleRepository(manager, cache_bytes=0).get_range(KEY, *ends)
    assert np.shares_memory(found.columns.close, whole.columns.close) == (len(found) > 0)
    _write_row(manager)
    late = await cached.get_range(KEY, *ends)
    assert not np.shares_memory(late.columns.close, whole.columns.close)


async def test_of_overlapping_ranges_the_longer_is_held(manager: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, make_candles(KEY, 50_000))

    def range_of(start: int, end: int) -> tuple[datetime, datetime]:
        return START + timedelta(minutes=start), START + timedelta(minutes=end)

    early = await candles.get_range(KEY, *range_of(0, 22_000))
    late = await candles.get_range(KEY, *range_of(25_000, 48_000))
    assert await candles.get_range(KEY, *range_of(0, 22_000)) is early
    wider = await candles.get_range(KEY, *range_of(1, 24_000))
    assert await candles.get_range(KEY, *range_of(1, 24_000)) is wider
    assert await candles.get_range(KEY, *range_of(25_000, 48_000)) is late
    assert await candles.get_range(KEY, *range_of(0, 22_000)) is not early
    assert 48 * (22_001 + 23_001) <= candles._cache._held.size < 56 * (22_001 + 23_001)
    assert len(candles._cache._held) == 2
    assert await candles.get_range(KEY, *range_of(1, 24_000)) is wider


@pytest.mark.parametrize("what", ["a view", "several hosts", "a cluster"])
async def test_where_nothing_is_proof_nothing_is_held(
    what: str, manager: ClickHouseManager, tcp: ClickHouseManager
) -> None:
    if what == "several hosts":
        other = replace(tcp.config, alt_hosts=(f"127.0.0.1:{tcp.config.port}",))
    elif what == "a cluster":
        other = replace(tcp.config, cluster="jts")
    else:
        other = tcp.config
    with ClickHouseManager(other) as manager:
        await ClickHouseCandleRepository(manager).save_many(KEY, SERIES)
        if what == "a view":
            manager.execute("RENAME TABLE candles TO other")
            manager.execute("CREATE VIEW candles AS SELECT * FROM other FINAL")
        candles = ClickHouseCandleRepository(manager)
        if what == "a view":
            assert candles._cache._ask().state is None
            manager.execute("DROP VIEW candles SYNC")
            return
        first = await candles.get_range(KEY, *ALWAYS)
        again = await candles.get_range(KEY, *ALWAYS)
        assert again is not first and again == first == SERIES


def test_the_tables_hold_what_the_proof_needs(manager: ClickHouseManager) -> None:
    assert "candles" in tables.build().metadata.tables
    found = manager.execute(
        "SELECT engine, uuid != toUUID('00000000-0000-0000-0000-000000000000')"
        " FROM system.tables WHERE database = currentDatabase() AND name = 'candles'"
    )
    assert found == [("ReplacingMergeTree", 1)]
