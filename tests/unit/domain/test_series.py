from __future__ import annotations

import copy
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.columns import NAMES, PRICES
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.series import _ITERATION_ROWS, CandleSeries, series_of
from jts_storage.domain.sparkline import sparkline
from jts_storage.errors import InvalidData

KEY = SeriesKey("A", Timeframe.M1, "X")
OTHER = SeriesKey("B", Timeframe.M1, "X")
MOMENT = datetime(2024, 1, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def candle(minute: int = 0, close: str = "10.5", volume: int = 1) -> Candle:
    price = Decimal(close)
    return Candle(MOMENT + minute * MINUTE, Decimal(10), Decimal(11), Decimal(9), price, volume)


def series(rows: int, key: SeriesKey = KEY) -> CandleSeries:
    return CandleSeries(key, (candle(row, volume=row) for row in range(rows)))


def columns(rows: int = 2, **changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "timestamp": [60_000 * row for row in range(rows)],
        **{name: np.full(rows, 100_000) for name in PRICES},
        "volume": [1] * rows,
    }
    return values | changed


# Building


def test_candles_are_sorted_and_the_last_of_equals_stays() -> None:
    made = CandleSeries(KEY, [candle(2), candle(1), candle(2, volume=9)])
    assert list(made) == [candle(1), candle(2, volume=9)]
    assert CandleSeries.from_candles(KEY, iter(made)) == made


@pytest.mark.parametrize("wrong", [None, "A", (MOMENT, 1, 1, 1, 1, 1), {}])
def test_only_candles_are_candles(wrong: Any) -> None:
    with pytest.raises(InvalidData, match="row 1, field 'candles': must be a Candle"):
        CandleSeries(KEY, [candle(), wrong])


def test_a_key_is_needed() -> None:
    with pytest.raises(InvalidData, match="must be a SeriesKey"):
        CandleSeries("A")  # type: ignore[arg-type]


def test_columns_are_scaled_and_decimals_are_not() -> None:
    scaled = CandleSeries.from_columns(KEY, columns())
    decimals = columns() | dict.fromkeys(PRICES, [Decimal(10)] * 2)
    assert scaled == CandleSeries.from_columns(KEY, decimals)
    assert scaled[0].open == Decimal(10)


@pytest.mark.parametrize("kind", [np.int8, np.uint16, np.int32, np.uint64])
def test_columns_of_other_integers_are_taken(kind: Any) -> None:
    made = CandleSeries.from_columns(KEY, {name: np.array([7], kind) for name in NAMES})
    assert [column.dtype for column in made.columns] == [np.int64] * 5 + [np.uint64]
    assert made[0].volume == 7


def test_volumes_above_a_signed_word_are_taken() -> None:
    for volumes in ([2**63, 2**64 - 1], [1, 2**63], np.array([1, 2**63], object)):
        made = CandleSeries.from_columns(KEY, columns(volume=volumes))
        assert [row.volume for row in made] == list(volumes)


def test_empty_columns_make_an_empty_series() -> None:
    assert CandleSeries.from_columns(KEY, {name: [] for name in NAMES}) == CandleSeries.empty(KEY)


@pytest.mark.parametrize(
    ("name", "values", "row"),
    [
        ("timestamp", [0, 1.0], 1),
        ("timestamp", [0, 2**63], 1),
        ("timestamp", [0, 2**64], 1),
        ("timestamp", [0, None], 1),
        ("timestamp", [0, MOMENT], 1),
        ("timestamp", np.array(["2024", "2025"], "M8[ms]"), 0),
        ("timestamp", [[0, 1], [2, 3]], None),
        ("timestamp", [[0, 1], [2]], None),
        ("timestamp", 5, None),
        ("open", [10.0, 10.0], 0),
        ("open", np.array([1, 2**63], np.uint64), 1),
        ("open", np.array([100_000, 110_001]), 1),
        ("open", [78_200, 78_200], None),
        ("open", range(2), None),
        ("open", [Decimal(10), 10], 1),
        ("open", [Decimal(10), 10.0], 1),
        ("open", [Decimal(10), None], 1),
        ("open", [Decimal(10), Decimal("NaN")], 1),
        ("open", [Decimal(10), Decimal("10.00001")], 1),
        ("open", [Decimal(10), Decimal("1E+14")], 1),
        ("open", np.array([100_000, 100_000], object), 0),
        ("volume", [1, -1], 1),
        ("volume", [1, 2**64], 1),
        ("volume", [1, "1"], 0),
        ("volume", [True, True], 0),
        ("volume", [1.0, float("nan")], 0),
        ("volume", np.array([1.0, 1.0]), 0),
        ("volume", np.array([1, -1], object), 1),
        ("volume", np.ma.array([1, 1], mask=[False, True]), 1),
        ("open", np.ma.array([100_000, 100_000], mask=[False, True]), 1),
        ("volume", [1], None),
    ],
)
def test_bad_columns_are_refused(name: str, values: Any, row: int | None) -> None:
    with pytest.raises(InvalidData) as caught:
        CandleSeries.from_columns(KEY, columns(**{name: values}))
    assert caught.value.row == row
    assert caught.value.field in (name, "columns")


def test_missing_columns_are_named() -> None:
    with pytest.raises(InvalidData, match="lacks open, volume"):
        CandleSeries.from_columns(KEY, {n: [1] for n in NAMES if n not in ("open", "volume")})


def test_a_mask_that_hides_nothing_is_no_mask() -> None:
    unmasked = np.ma.array([1, 1], mask=[False, False])
    assert len(CandleSeries.from_columns(KEY, columns(volume=unmasked))) == 2


def test_arrays_of_the_caller_may_change_afterwards() -> None:
    arrays = {name: np.array(values) for name, values in columns().items()}
    arrays["volume"] = arrays["volume"].astype(np.uint64)
    made = CandleSeries.from_columns(KEY, arrays)
    before = list(made)
    for array in arrays.values():
        array[:] = 0
    assert list(made) == before


# What a store is given


def test_a_series_of_the_key_is_taken_as_it_is() -> None:
    given = series(3)
    taken, duplicates = series_of(KEY, given)
    assert (taken is given, duplicates) == (True, 0)
    with pytest.raises(InvalidData, match="must be of X:B/1m"):
        series_of(OTHER, given)


def test_whatever_holds_candles_becomes_a_series() -> None:
    given = series(3)
    sources = [
        *(list(given), iter(given), tuple(given)),
        *(given.to_arrow(), given.to_arrow().to_batches()[0]),
        *(given.to_pandas(), given.to_polars(), given.to_columns()),
    ]
    assert [series_of(KEY, source) for source in sources] == [(given, 0)] * len(sources)


def test_duplicates_are_counted() -> None:
    taken, duplicates = series_of(KEY, [candle(1), candle(1), candle(0), candle(1, volume=9)])
    assert (list(taken), duplicates) == ([candle(0), candle(1, volume=9)], 2)


@pytest.mark.parametrize(
    "source", [None, 5, "abc", b"abc", [1], [{}], {}, pd.Series([1]), pa.array([1]), object()]
)
def test_what_holds_no_candles_is_refused(source: Any) -> None:
    with pytest.raises(InvalidData):
        series_of(KEY, source)


# Reading


def test_rows_are_found_from_both_ends() -> None:
    given = series(3)
    assert [given[i] for i in (0, 1, 2)] == [given[i] for i in (-3, -2, -1)]
    assert given[1] == candle(1, volume=1)
    assert given[np.int64(1)] == given[1]  # type: ignore[call-overload]
    for row in (3, -4):
        with pytest.raises(IndexError):
            given[row]


def test_a_row_that_is_none_is_told_in_words_of_a_series() -> None:
    empty = series(0)
    with pytest.raises(IndexError, match=f"^{KEY} has 0 candles, and none at 0$"):
        empty[0]
    with pytest.raises(IndexError, match="has 0 candles, and none at -1"):
        empty[-1]
    with pytest.raises(TypeError, match=r"'close' is neither the number of a candle nor a slice"):
        empty["close"]  # type: ignore[call-overload]


def test_one_candle_and_a_panel_are_told_what_to_be() -> None:
    with pytest.raises(InvalidData, match=r"Give it a list of candles: \[candle\]"):
        series_of(KEY, candle())
    with pytest.raises(InvalidData, match=r"are those of several series.*save_panel"):
        series_of(KEY, CandlePanel(KEY.timeframe, [series(3)]))


def test_a_candle_of_a_series_is_plain() -> None:
    made = series(1)[0]
    assert type(made.timestamp) is datetime
    assert made.timestamp.tzinfo is UTC
    assert type(made.volume) is int
    assert str(made.close) == "10.5000"
    assert made == candle(0, volume=0)
    assert hash(made) == hash(candle(0, volume=0))


def test_a_slice_is_a_series_that_shares_its_columns() -> None:
    given = series(5)
    part = given[1:-1]
    assert list(part) == list(given)[1:-1]
    assert part.key == KEY
    assert np.shares_memory(part.columns.open, given.columns.open)
    assert len(given[4:2]) == 0
    for step in (2, -1):
        with pytest.raises(InvalidData, match="a series ascends"):
            given[::step]


@pytest.mark.parametrize("rows", [0, 1, _ITERATION_ROWS, _ITERATION_ROWS + 1])
def test_iterating_gives_every_row_in_order_and_back(rows: int) -> None:
    stamps = np.arange(rows)
    given = CandleSeries.from_columns(
        KEY, {"timestamp": stamps, "volume": stamps} | dict.fromkeys(PRICES, stamps)
    )
    assert [row.volume for row in given] == list(range(rows))
    assert [row.volume for row in reversed(given)] == list(range(rows))[::-1]


def test_a_series_is_asked_like_a_sequence() -> None:
    given = series(4)
    assert given[2] in given
    assert (given.index(given[2]), given.count(given[2])) == (2, 1)
    assert given.index(given[2], 2) == given.index(given[2], -2, 3) == 2
    for absent in (candle(2, volume=99), candle(9), candle(-1), "x", None):
        assert absent not in given
        assert given.count(absent) == 0
        with pytest.raises(ValueError, match="is not in the series"):
            given.index(absent)
    for bounds in ((3,), (0, 2), (-1, None)):
        with pytest.raises(ValueError, match="is not in the series"):
            given.index(given[2], *bounds)


def test_the_ends_of_nothing_are_none() -> None:
    assert (series(3).start, series(3).end) == (MOMENT, MOMENT + 2 * MINUTE)
    assert (series(0).start, series(0).end) == (None, None)


def test_head_and_tail_are_at_most_what_there_is() -> None:
    given = series(7)
    assert given.head() == given[:5]
    assert given.tail() == given[2:]
    assert given.head(2) == given[:2]
    assert given.tail(2) == given[5:]
    assert given.head(9) == given.tail(9) == given
    assert len(given.head(0)) == len(given.tail(0)) == 0
    for take in (given.head, given.tail):
        with pytest.raises(InvalidData, match="rows"):
            take(-1)


def test_the_columns_cannot_be_written() -> None:
    for given in (series(3), series(3)[1:], pickle.loads(pickle.dumps(series(3)))):
        for name, column in given.to_columns().items():
            assert column is getattr(given.columns, name)
            with pytest.raises(ValueError, match="WRITEABLE"):
                column.flags.writeable = True
            with pytest.raises(ValueError, match="read-only"):
                column[0] = 0


def test_ranges_need_aware_ends_in_order() -> None:
    given = series(3)
    naive = datetime(2024, 1, 2)
    for take in (given.slice, given.between):
        for ends in ((naive, MOMENT), (MOMENT, naive)):
            with pytest.raises(InvalidData, match="must carry a time zone"):
                take(*ends)
    with pytest.raises(InvalidData, match="must not lie before start"):
        given.slice(MOMENT + MINUTE, MOMENT)
    assert len(given.between(MOMENT + MINUTE, MOMENT)) == 0


def test_a_range_of_another_zone_is_the_same_range() -> None:
    seoul = timezone(timedelta(hours=9))
    start = (MOMENT + MINUTE).astimezone(seoul)
    assert series(3).slice(start, start) == series(3)[1:2]


# Putting together


def test_the_later_series_wins() -> None:
    early = CandleSeries(KEY, [candle(0), candle(2)])
    late = CandleSeries(KEY, [candle(1), candle(2, volume=9)])
    assert list(early.merge(late)) == [candle(0), candle(1), candle(2, volume=9)]
    assert list(late.merge(early)) == [candle(0), candle(1), candle(2)]


def test_merging_with_nothing_changes_nothing() -> None:
    given, nothing = series(3), series(0)
    assert given.merge(nothing) == nothing.merge(given) == given
    assert nothing.merge(nothing) == nothing


def test_series_of_different_keys_do_not_merge() -> None:
    for other in (series(1, OTHER), series(0, OTHER)):
        with pytest.raises(InvalidData, match="must be X:A/1m"):
            series(1).merge(other)


# Identity


def test_equal_series_are_equal_and_hash_alike() -> None:
    given = series(3)
    again = CandleSeries.from_arrow(KEY, given.to_arrow())
    assert given == again
    assert hash(given) == hash(again)
    assert len({given, again, given[:2], series(0), series(0)}) == 3
    assert given.same_rows(series(3, OTHER))


def test_any_difference_is_a_difference() -> None:
    given = series(3)
    others: list[Any] = [series(3, OTHER), given[:2], given[1:], list(given), None]
    for name in NAMES:
        changed = {n: column.copy() for n, column in given.to_columns().items()}
        changed[name][1] += 1
        others.append(CandleSeries.from_columns(KEY, changed))
    for other in others:
        assert given != other
        if isinstance(other, CandleSeries):
            assert given.fingerprint() != other.fingerprint()


def test_the_fingerprint_is_the_same_in_every_version() -> None:
    expected = "jts1:d96c5373d4aa424d0b2ce711ea02a03e7c19fdb17c585053c8a4319c5abd185e"
    assert series(3).fingerprint() == series(4)[:3].fingerprint() == expected


def test_a_fingerprint_is_worked_out_once() -> None:
    given = series(3)
    assert given.fingerprint() is given.fingerprint()
    assert series(0).fingerprint() != series(0, OTHER).fingerprint()


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))]
)
def test_a_series_survives_copying_and_pickling(again: Any) -> None:
    for given in (series(3), series(5)[1:3], series(0)):
        assert again(given) == given
        assert again(given).fingerprint() == given.fingerprint()


def test_a_pickled_slice_leaves_the_rest_behind() -> None:
    assert len(pickle.dumps(series(1_000)[:2])) < 1_500


# Showing


def test_the_repr_tells_key_size_and_range() -> None:
    expected = (
        "<CandleSeries X:A/1m 2 candles 2024-01-02 00:00:00+00:00 .. 2024-01-02 00:01:00+00:00>"
    )
    assert repr(series(2)) == expected
    assert repr(series(0)) == "<CandleSeries X:A/1m empty>"


@pytest.mark.parametrize(("rows", "shown"), [(0, 0), (1, 1), (6, 6), (7, 6), (100, 6)])
def test_the_table_shows_both_ends_once(rows: int, shown: int) -> None:
    html = series(rows)._repr_html_()
    assert html.count("<tr><td>2024") == shown
    assert ("…" in html) is (rows > 6)
    line = f"<br>{sparkline(series(rows).columns.close.tolist())}" if rows else ""
    assert f"{rows} candles{line}</caption>" in html


def test_a_line_of_bars_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([10, 80, 45]) == "▁█▄"
    assert sparkline([]) == ""
    assert sparkline([Decimal(7)] * 3) == "▁▁▁"
    assert (len(sparkline(range(1_000))), sparkline(range(1_000))[-1]) == (60, "█")


def test_the_table_shows_a_hostile_key_as_text() -> None:
    html = series(1, SeriesKey("<script>&amp;</script>", Timeframe.M1))._repr_html_()
    assert "<script>" not in html
    assert "&lt;script>&amp;amp;&lt;/script>" in html
