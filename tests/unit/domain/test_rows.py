"""Rows of several series: which write counts, where each begins and ends, and whose turn it is."""

from __future__ import annotations

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.rows import LooseRows, SeriesRows
from jts_storage.testing.factories import make_candles

A, B = SeriesKey("A", Timeframe.M1), SeriesKey("B", Timeframe.M1)


def test_the_last_part_that_has_a_timestamp_counts() -> None:
    old, new, other = make_candles(A, 5), make_candles(A, 2, seed=9), make_candles(B, 3, seed=7)
    loose = LooseRows.of([A, B], [old[0], other[2]])
    joined = SeriesRows.joined(
        [SeriesRows.of(old), SeriesRows.of(other), SeriesRows.of(new), loose]
    )
    assert list(joined) == [old.merge(new).merge(old[:1]), other]
    assert list(SeriesRows.joined([SeriesRows.of(new), SeriesRows.of(old)])) == [old]


def test_a_span_reaches_from_the_first_row_to_the_last_of_each_series() -> None:
    a, b = make_candles(A, 5), make_candles(B, 3)
    rows = SeriesRows(
        [A, B], np.array([0, 5, 8]), SeriesRows.joined([SeriesRows.of(a), SeriesRows.of(b)]).columns
    )
    ends = {s.key: (int(s.columns.timestamp[0]), int(s.columns.timestamp[-1])) for s in (a, b)}
    assert rows.spans == ends
    empty = SeriesRows([A, B], np.array([0, 0, 3]), b.columns)
    assert empty.spans == {B: ends[B]}


def test_of_some_rows_only_their_series_are_left() -> None:
    a, b = make_candles(A, 5), make_candles(B, 3)
    joined = SeriesRows.joined([SeriesRows.of(a), SeriesRows.of(b)])
    assert list(joined.where(np.arange(8) % 4 > 1)) == [a[2:4], b[1:3]]
    assert list(joined.where(np.arange(8) < 5)) == [a]
    assert list(joined.where(np.zeros(8, np.bool_))) == []


def test_where_all_rows_are_wanted_none_is_copied() -> None:
    b = make_candles(B, 3)
    rows = SeriesRows([A, B], np.array([0, 0, 3]), b.columns)
    every = rows.where(np.ones(3, np.bool_))
    assert list(every) == [b]
    assert every.columns is rows.columns


def test_others_have_a_turn_every_five_hundred_candles() -> None:
    changes, (candle,) = CandleChanges(), make_candles(A, 1)
    turns = [number for number in range(1, 3_502) if changes.add(A, [candle])]
    assert turns == [500, 1_000, 1_500, 2_000, 2_500, 3_000, 3_500]
