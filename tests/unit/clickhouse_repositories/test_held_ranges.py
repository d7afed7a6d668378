"""What is held in memory: found by bisection, cut without a copy, dropped where it changed."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.clickhouse.change_log import ANYTHING, Change, ChangeLog, known, touching
from jts_storage.clickhouse.held_ranges import OVERHEAD, HeldRanges
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.testing.factories import SAMPLE_KEY as KEY
from jts_storage.testing.factories import START, make_candles

MS = 60_000
FIRST = checks.to_ms(START)
WHOLE = make_candles(KEY, 200)


def _series(start: int, end: int) -> CandleSeries:
    return WHOLE.slice_ms(FIRST + start * MS, FIRST + end * MS)


def _copied(start: int, end: int) -> CandleSeries:
    part = _series(start, end)
    return CandleSeries.trusted(KEY, part.columns.each(np.copy))


def _hold(held: HeldRanges, start: int, end: int) -> None:
    held.hold(KEY, FIRST + start * MS, FIRST + end * MS, _copied(start, end))


def _look(held: HeldRanges, start: int, end: int) -> CandleSeries | None:
    return held.look_up(KEY, FIRST + start * MS, FIRST + end * MS)


_ranges = st.tuples(st.integers(0, 199), st.integers(0, 199)).map(lambda ends: sorted(ends))
_steps = st.lists(st.tuples(st.sampled_from(["hold", "drop", "look"]), _ranges), max_size=40)


@given(steps=_steps, capacity=st.sampled_from([0, 12_000, 10**9]))
def test_a_range_is_given_only_if_nothing_in_it_has_changed(
    steps: list[Any], capacity: int
) -> None:
    held = HeldRanges(capacity)
    minutes_held: set[int] = set()
    for what, (start, end) in steps:
        minutes = set(range(start, end + 1))
        if what == "hold":
            _hold(held, start, end)
            minutes_held |= minutes
        elif what == "drop":
            held.drop({KEY: (FIRST + start * MS, FIRST + end * MS)})
            minutes_held -= minutes
        found = _look(held, start, end)
        if found is not None:
            assert minutes <= minutes_held and found == _series(start, end)
        assert held.size <= capacity
        ranges = held._of_key.get(KEY, [])
        assert sorted(ranges, key=lambda each: each.first) == ranges
        assert all(a.last < b.first for a, b in pairwise(ranges))
        assert held.size == sum(each.size for each in ranges) and len(held) == len(ranges)


def test_the_range_used_least_is_forgotten_first() -> None:
    held = HeldRanges(2 * (10 * 48 + OVERHEAD))
    _hold(held, 0, 9)
    _hold(held, 20, 29)
    assert _look(held, 3, 4) is not None
    _hold(held, 40, 49)
    assert _look(held, 0, 9) is not None and _look(held, 20, 29) is None


def test_a_short_range_does_not_drive_out_a_longer_one_that_it_overlaps() -> None:
    held = HeldRanges(10**9)
    _hold(held, 0, 99)
    _hold(held, 95, 110)
    assert _look(held, 0, 99) is not None and _look(held, 95, 110) is None


def test_a_change_ends_all_ranges_that_it_reaches() -> None:
    held = HeldRanges(10**9)
    for start in (0, 20, 40, 60):
        _hold(held, start, start + 9)
    held.drop({KEY: (FIRST + 8 * MS, FIRST + 41 * MS)})
    assert _look(held, 0, 7) == _series(0, 7) and _look(held, 8, 9) is None
    assert _look(held, 20, 29) is None
    assert _look(held, 42, 49) == _series(42, 49) and _look(held, 40, 41) is None
    assert _look(held, 60, 69) == _series(60, 69)


def test_small_remains_do_not_keep_much_memory() -> None:
    held = HeldRanges(10**9)
    _hold(held, 0, 99)
    for minute in range(99, 0, -1):
        held.drop({KEY: (FIRST + minute * MS, FIRST + minute * MS)})
        assert held.size <= 3 * (minute * 48 + OVERHEAD)


def test_the_log_tells_what_was_missed() -> None:
    log = ChangeLog()
    other = SeriesKey("other", Timeframe.M1)
    change = Change("candles", {other: (0, 1)})
    with log.change(change):
        assert log.since(0, under_way=True) == (1, [change, change])
        assert log.since(1, under_way=True) == (1, [change])
        assert log.since(1) == (1, [])
    assert log.since(1) == (2, [change]) and log.unknown == 0
    for _ in range(100):
        with log.change(change):
            pass
    assert log.since(2)[1] == [ANYTHING], "it remembers no more than some"


def test_what_was_said_farther_out_counts() -> None:
    outer, inner = Change("candles", {}), Change("candles")
    with touching(outer), touching(inner):
        assert known() is outer
    with touching(inner):
        assert known() is inner
    assert known() is ANYTHING


def test_a_minute_is_not_lost_at_either_end() -> None:
    held = HeldRanges(10**9)
    _hold(held, 10, 20)
    assert _look(held, 9, 20) is None and _look(held, 10, 21) is None
    found = _look(held, 10, 20)
    assert found is not None and found.end == START + timedelta(minutes=20)


@pytest.mark.parametrize("changed", [0, 10, 90, 99])
def test_the_moment_that_changed_is_in_nothing_that_is_left(changed: int) -> None:
    held, at = HeldRanges(10**9), FIRST + changed * MS
    _hold(held, 0, 99)
    held.drop({KEY: (at, at)})
    assert len(held) == 1, "the longer side is kept"
    assert held.look_up(KEY, at, at) is None
    first, last = (0, changed - 1) if changed > 50 else (changed + 1, 99)
    assert held.look_up(KEY, FIRST + first * MS, FIRST + last * MS) == _series(first, last)
    if changed < 50:
        assert held.look_up(KEY, at, FIRST + 99 * MS) is None
    else:
        assert held.look_up(KEY, FIRST, at) is None


def test_not_a_millisecond_is_added_at_either_end() -> None:
    held, first, last = HeldRanges(10**9), FIRST + 10 * MS, FIRST + 20 * MS
    _hold(held, 10, 20)
    assert held.look_up(KEY, first - 1, last) is None
    assert held.look_up(KEY, first, last + 1) is None
    assert held.look_up(KEY, first, last) is not None
