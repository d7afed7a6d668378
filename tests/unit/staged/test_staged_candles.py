"""Candles that are staged read as if they were stored, and are stored as they read."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import SeriesChanges
from jts_storage.domain.changes import compare, pieces, rows_by_day
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.results import Coverage, SaveResult
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work.staged import StagedCandles

KEYS = [SeriesKey(name, Timeframe.M1, "KRX") for name in ("A", "B", "C")]
KEY = KEYS[0]
START = datetime(2024, 1, 1, 23, 50, tzinfo=UTC)  # a day ends within the minutes used here
MINUTES = 24
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def ms(minute: int) -> int:
    return checks.to_ms(at(minute))


def minutes(key: SeriesKey, first: int, count: int, seed: int) -> CandleSeries:
    return make_candles(key, count, start=at(first), seed=seed)


_place = st.integers(0, MINUTES - 1)
_key = st.sampled_from(KEYS)
_save = st.tuples(st.just("save"), _key, _place, st.integers(0, 8), st.integers(0, 3))
_delete = st.tuples(st.just("delete"), _key, _place, st.integers(0, 8), st.just(0))
_work = st.lists(_save | _delete, max_size=6)


class Pair:
    """One repository that is written to at once, and one over which the same writes are staged."""

    def __init__(self) -> None:
        self.direct = InMemoryBackend().candles
        self.stored = InMemoryBackend().candles
        self.staged = StagedCandles(self.stored)

    async def work(self, *operations: Any, on: tuple[Any, Any]) -> None:
        for kind, key, first, count, seed in operations:
            results = []
            for repository in on:
                if kind == "save":
                    candles = minutes(key, first, count, seed)
                    results.append(await repository.save_many(key, candles, detail=bool(seed % 2)))
                else:
                    ends = at(first), at(first + count)
                    results.append(await repository.delete_range(key, *ends))
            assert results[0] == results[1]

    async def same(self, method: str, *arguments: Any, **options: Any) -> None:
        """Both answer the same."""
        expected, found = [
            await getattr(repository, method)(*arguments, **options)
            for repository in (self.direct, self.staged)
        ]
        assert found == expected


async def blocks(repository: Any, key: SeriesKey, start: int, end: int, rows: int) -> CandleSeries:
    found = CandleSeries.empty(key)
    last = None
    async for block in repository.stream(key, at(start), at(end), block_rows=rows):
        assert 0 < len(block) <= rows
        assert last is None or block.start > last
        last = block.end
        found = found.merge(block)
    return found


@given(before=_work, staged=_work, data=st.data())
def test_what_is_staged_reads_as_if_it_were_stored(
    before: list[Any], staged: list[Any], data: st.DataObject
) -> None:
    asyncio.run(reads_alike(before, staged, data))


async def reads_alike(before: list[Any], staged: list[Any], data: st.DataObject) -> None:
    pair = Pair()
    await pair.work(*before, on=(pair.direct, pair.stored))
    await pair.work(*staged, on=(pair.direct, pair.staged))
    start = data.draw(st.integers(-1, MINUTES))
    end = start + data.draw(st.integers(0, MINUTES))
    number = data.draw(st.integers(1, 6))
    ends = at(start), at(end)
    for key in KEYS:
        await pair.same("get_range", key, *ends)
        await pair.same("count", key, *ends)
        await pair.same("count", key)
        await pair.same("count", key, ends[0])
        await pair.same("count", key, None, ends[1])
        await pair.same("get_latest", key)
        await pair.same("get_latest", key, number)
        await pair.same("get_coverage", key)
        await pair.same("coverage_by_day", key)
        await pair.same("coverage_by_day", key, timezone="Asia/Seoul")
        await pair.same("resample", key, Timeframe.M5, *ends)
        expected = await pair.direct.get_range(key, *ends)
        assert await blocks(pair.staged, key, start, end, number) == expected
    await pair.same("get_ranges", KEYS, *ends)
    await pair.same("list_keys")
    await pair.same("list_keys", limit=number % 3)
    await pair.same("list_keys", limit=2, after=KEYS[number % 3])
    pair.stored.apply(pair.staged.changes, 1)
    for key in KEYS:
        assert await pair.stored.get_range(key, *ALWAYS) == await pair.direct.get_range(
            key, *ALWAYS
        )


# What is handed over


async def test_only_what_changes_something_is_handed_over() -> None:
    staged = Pair().staged
    await staged.save_many(KEYS[0], [])
    await staged.save_many(KEYS[1], minutes(KEYS[1], 0, 3, 0))
    await staged.delete_range(KEYS[2], at(1), at(2))
    assert [change.key for change in staged.changes] == KEYS[1:]


async def test_a_deletion_comes_before_what_is_saved_after_it() -> None:
    staged = Pair().staged
    await staged.save_many(KEY, minutes(KEY, 0, 10, 0))
    await staged.delete_range(KEY, at(2), at(7))
    await staged.save_many(KEY, minutes(KEY, 4, 2, 1))
    (change,) = staged.changes
    assert change.deleted == [(ms(2), ms(7))]
    stamps = [(stamp - ms(0)) // 60_000 for stamp in change.upserts.timestamp]
    assert stamps == [0, 1, 4, 5, 8, 9]
    assert change.span == (ms(0), ms(9))


def test_a_span_reaches_over_deletions_and_rows() -> None:
    change = SeriesChanges(KEY)
    spans = [change.span]
    change.delete(ms(3), ms(5))
    spans.append(change.span)
    assert spans == [None, (ms(3), ms(5))]
    change.save(minutes(KEY, 4, 6, 0).columns)
    assert change.span == (ms(3), ms(9))
    change.delete(ms(-2), ms(1))
    assert change.span == (ms(-2), ms(9))
    rows_only = SeriesChanges(KEY)
    rows_only.save(minutes(KEY, 4, 6, 0).columns)
    assert rows_only.span == (ms(4), ms(9))


def test_of_equal_rows_the_latest_counts_whatever_was_read_between() -> None:
    change = SeriesChanges(KEY)
    late = minutes(KEY, 0, 4, 2)
    for seed in (0, 1):
        change.save(minutes(KEY, 0, 4, seed).columns)
    assert change.upserts.rows == 4
    assert change.upserts is change.upserts, "merged once"
    change.save(late.columns)
    assert CandleSeries.trusted(KEY, change.upserts) == late


def test_rows_outside_of_what_is_asked_for_are_left_out() -> None:
    change = SeriesChanges(KEY)
    change.save(minutes(KEY, 0, 10, 0).columns)
    empty = CandleSeries.empty(KEY)
    assert change.over(empty, ms(3), ms(5)) == minutes(KEY, 0, 10, 0)[3:6]
    assert len(change.over(empty, ms(10), ms(20))) == 0


def at_milliseconds(*offsets: int, seed: int = 0) -> CandleSeries:
    columns = minutes(KEY, 0, len(offsets), seed).columns
    stamps = np.array([ms(0) + offset for offset in offsets], np.int64)
    return CandleSeries.trusted(KEY, columns._replace(timestamp=stamps))


def test_a_range_ends_to_the_millisecond() -> None:
    change = SeriesChanges(KEY)
    change.save(at_milliseconds(0, 1, 2, 3).columns)
    found = change.over(CandleSeries.empty(KEY), ms(0) + 1, ms(0) + 2)
    assert [stamp - ms(0) for stamp in found.columns.timestamp.tolist()] == [1, 2]


async def test_a_stream_leaves_nothing_out_between_its_blocks() -> None:
    stored = InMemoryBackend().candles
    await stored.save_many(KEY, at_milliseconds(0, 1, 4, 5))
    staged = StagedCandles(stored)
    between = at_milliseconds(2, 3, 6, seed=1)
    await staged.save_many(KEY, between)
    found = [block async for block in staged.stream(KEY, *ALWAYS, block_rows=2)]
    stamps = [stamp - ms(0) for block in found for stamp in block.columns.timestamp.tolist()]
    assert stamps == [0, 1, 2, 3, 4, 5, 6]


# Where nothing is staged, or nothing is asked


class Counting:
    """Passes on to a repository, and counts what it is asked."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        return getattr(self._repository, name)


async def test_a_series_that_nobody_changed_is_read_as_it_is_stored() -> None:
    stored = InMemoryBackend().candles
    await stored.save_many(KEY, minutes(KEY, 0, 20, 0))
    counting: Any = Counting(stored)
    staged = StagedCandles(counting)
    await staged.save_many(KEYS[1], minutes(KEYS[1], 0, 3, 0))
    counting.asked.clear()
    await staged.get_coverage(KEY)
    await staged.coverage_by_day(KEY)
    await staged.resample(KEY, Timeframe.M5, at(0), at(9))
    await staged.count(KEY)
    await staged.get_latest(KEY, 3)
    assert counting.asked == ["get_coverage", "coverage_by_day", "resample", "count", "get_latest"]


async def test_a_count_beside_what_was_changed_asks_once() -> None:
    stored = InMemoryBackend().candles
    await stored.save_many(KEY, minutes(KEY, 0, 20, 0))
    counting: Any = Counting(stored)
    staged = StagedCandles(counting)
    await staged.save_many(KEY, minutes(KEY, 10, 2, 1))
    counting.asked.clear()
    assert await staged.count(KEY, at(0), at(9)) == 10
    assert counting.asked == ["count"]
    assert await staged.count(KEY, at(0), at(10)) == 11
    assert counting.asked == ["count", "count", "count", "get_range"]


async def test_saving_without_detail_reads_nothing() -> None:
    counting: Any = Counting(InMemoryBackend().candles)
    staged = StagedCandles(counting)
    result = await staged.save_many(KEY, minutes(KEY, 0, 3, 0))
    assert result == SaveResult(3, 0)
    assert counting.asked == []
    empty = await staged.save_many(KEY, [], detail=True)
    assert empty == SaveResult(0, 0, inserted=0, replaced=0, unchanged=0)
    assert counting.asked == []


async def test_looking_for_the_latest_reaches_as_far_back_as_it_must() -> None:
    stored = InMemoryBackend().candles
    await stored.save_many(KEY, minutes(KEY, 0, 100, 0))
    staged = StagedCandles(stored)
    await staged.delete_range(KEY, at(10), at(200))
    assert await staged.get_latest(KEY, 3) == minutes(KEY, 0, 100, 0)[7:10]
    await staged.delete_range(KEY, at(0), at(200))
    assert len(await staged.get_latest(KEY, 3)) == 0
    assert await staged.get_coverage(KEY) == Coverage(None, None)


async def test_a_finer_timeframe_cannot_be_made_of_what_is_staged() -> None:
    staged = StagedCandles(InMemoryBackend().candles)
    key = SeriesKey("H", Timeframe.H1)
    await staged.save_many(key, make_candles(key, 3))
    with pytest.raises(InvalidData):
        await staged.resample(key, Timeframe.M5, at(0), at(600))


async def test_a_limit_that_is_no_count_is_refused() -> None:
    staged = StagedCandles(InMemoryBackend().candles)
    for limit in (-1, 2**31, True):
        with pytest.raises(InvalidData):
            await staged.list_keys(limit=limit)
    assert await staged.list_keys(limit=2**31 - 1) == []


async def test_nothing_is_staged_any_more_when_the_work_is_over() -> None:
    lifetime = Lifetime()
    staged = StagedCandles(InMemoryBackend().candles, lifetime)
    await staged.save_many(KEY, minutes(KEY, 0, 3, 0))
    lifetime.end("is over")
    with pytest.raises(StorageError) as caught:
        await staged.save_many(KEY, minutes(KEY, 0, 3, 0))
    assert str(caught.value) == "This unit of work is over. Ask the storage for a new one."
    with pytest.raises(StorageError, match="is over"):
        await staged.delete_range(KEY, at(0), at(3))
    assert len(await staged.get_range(KEY, *ALWAYS)) == 3, "what was staged can still be read"


# The parts


def test_what_is_new_replaced_and_unchanged() -> None:
    stored = minutes(KEY, 0, 6, 0)
    assert compare(CandleSeries.empty(KEY), stored) == {
        "inserted": 6,
        "replaced": 0,
        "unchanged": 0,
    }
    assert compare(stored, stored) == {"inserted": 0, "replaced": 0, "unchanged": 6}
    assert compare(stored, CandleSeries.empty(KEY)) == {
        "inserted": 0,
        "replaced": 0,
        "unchanged": 0,
    }
    assert compare(stored, minutes(KEY, 4, 5, 9)) == {"inserted": 3, "replaced": 2, "unchanged": 0}
    assert compare(stored[3:], stored) == {"inserted": 3, "replaced": 0, "unchanged": 3}


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume"])
def test_any_column_makes_a_row_another(name: str) -> None:
    stored = minutes(KEY, 0, 4, 0)
    column = getattr(stored.columns, name).copy()
    column[2] += np.asarray(1, column.dtype)
    changed = CandleSeries.trusted(KEY, stored.columns._replace(**{name: column}))
    assert compare(stored, changed) == {"inserted": 0, "replaced": 1, "unchanged": 3}


def test_days_end_at_midnight_of_their_place() -> None:
    series = minutes(KEY, 0, 24, 0)  # from 23:50 on
    assert {str(day): rows for day, rows in rows_by_day(series, "UTC").items()} == {
        "2024-01-01": 10,
        "2024-01-02": 14,
    }
    assert {str(day): rows for day, rows in rows_by_day(series, "Asia/Seoul").items()} == {
        "2024-01-02": 24
    }
    assert rows_by_day(CandleSeries.empty(KEY), "UTC") == {}


def test_pieces_are_whole_but_for_the_last() -> None:
    series = minutes(KEY, 0, 7, 0)
    assert [len(piece) for piece in pieces(series, 3)] == [3, 3, 1]
    assert [len(piece) for piece in pieces(series, 7)] == [7]
    assert list(pieces(CandleSeries.empty(KEY), 3)) == []
