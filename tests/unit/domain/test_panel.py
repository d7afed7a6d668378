"""A panel is its series: taken apart, coarser, as a matrix, and there and back through frames."""

from __future__ import annotations

import pickle
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel, panel_of
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.testing.contracts.samples import flat
from jts_storage.testing.factories import START, make_candles

M1 = Timeframe.M1
NAMES = ("A", "A", "B", "가나", "z'%")

markets = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=0, max_size=len(NAMES)
).map(
    lambda parts: [
        make_candles(SeriesKey(NAMES[n], M1, "KRX" if n % 2 else ""), first + rows, seed=n)[first:]
        for n, (first, rows) in enumerate(parts)
    ]
)


@given(markets)
@settings(max_examples=60, deadline=None)
def test_a_panel_gives_its_series_back(series: list[CandleSeries]) -> None:
    panel = CandlePanel(M1, reversed(series))
    assert list(panel) == sorted((s.key for s in series), key=lambda key: key.sort_key)
    assert all(panel[each.key] == each for each in series)
    assert (len(panel), panel.rows) == (len(series), sum(map(len, series)))
    assert SeriesKey("nobody", M1) not in panel
    assert panel.tail(3) == CandlePanel(M1, [each.tail(3) for each in series])
    assert panel.select(list(panel)[::2]) == CandlePanel(M1, [panel[key] for key in [*panel][::2]])
    known = "its keys are such as SeriesKey" if series else "the panel is empty"
    with pytest.raises(KeyError, match=f"has no rows in this panel; {known}"):
        panel[SeriesKey("nobody", M1)]
    with pytest.raises(KeyError, match=f"'005930' is no SeriesKey; {known}"):
        panel["005930"]  # type: ignore[index]
    assert panel == CandlePanel(M1, panel.values())
    assert panel.fingerprint() == CandlePanel(M1, panel.values()).fingerprint()
    copied = pickle.loads(pickle.dumps(panel))
    assert copied == panel
    assert not copied.columns.close.flags.writeable


@given(markets, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_frames_in_any_order_give_it_back(series: list[CandleSeries], order: random.Random) -> None:
    panel = CandlePanel(M1, series)
    table = panel.to_arrow()
    rows = list(range(table.num_rows))
    order.shuffle(rows)
    assert CandlePanel.from_arrow(M1, table.take(pa.array(rows, pa.int64()))) == panel
    assert CandlePanel.from_pandas(M1, panel.to_pandas()) == panel
    assert CandlePanel.from_polars(M1, panel.to_polars()) == panel
    assert pa.table(panel).num_rows == panel.rows


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Seoul"])
@pytest.mark.parametrize("timeframe", [Timeframe.M5, Timeframe.H1, Timeframe.D1, Timeframe.MN1])
def test_each_series_is_resampled_as_it_would_be_alone(timeframe: Timeframe, timezone: str) -> None:
    series = [make_candles(SeriesKey(f"S{n}", M1), 700 + n, seed=n)[n * 7 :] for n in range(6)]
    coarser = CandlePanel(M1, series).resample(timeframe, timezone=timezone)
    assert coarser == CandlePanel(
        timeframe, [each.resample(timeframe, timezone=timezone) for each in series]
    )


def test_sessions_of_a_calendar_are_those_of_each_series() -> None:
    pytest.importorskip("exchange_calendars")
    series = [make_candles(SeriesKey(f"S{n}", M1), 300, seed=n)[n:] for n in range(3)]
    coarser = CandlePanel(M1, series).resample(Timeframe.D1, calendar="XKRX")
    alone = [each.resample(Timeframe.D1, calendar="XKRX") for each in series]
    assert coarser == CandlePanel(Timeframe.D1, alone)


@given(markets, st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_matrix_holds_each_value_at_its_time(series: list[CandleSeries], fill: bool) -> None:
    panel = CandlePanel(M1, series)
    exact = panel.matrix("close", fill=fill)
    floats = panel.matrix("close", floats=True, fill=fill)
    times = sorted({int(t) for each in series for t in each.columns.timestamp})
    assert exact.times.tolist() == times
    for n, key in enumerate(panel):
        stored = dict(
            zip(
                panel[key].columns.timestamp.tolist(),
                panel[key].columns.close.tolist(),
                strict=True,
            )
        )
        last = None
        for row, time in enumerate(times):
            last = stored.get(time, last if fill else None)
            assert bool(exact.present[row, n]) is (last is not None)
            assert exact.values[row, n] == (last or 0)
            assert (last is None) == bool(np.isnan(floats.values[row, n]))
            assert last is None or floats.values[row, n] == last / 10_000
    assert exact.keys == tuple(panel)


def test_a_matrix_is_aligned_on_given_times() -> None:
    key = SeriesKey("A", M1)
    panel = CandlePanel(M1, [make_candles(key, 5)])
    asked = [START + timedelta(minutes=n) for n in (1, 3, 9)]
    matrix = panel.matrix(
        "volume", times=np.array([t.replace(tzinfo=None) for t in asked], "M8[ms]")
    )
    volumes = panel[key].columns.volume
    assert matrix.values[:, 0].tolist() == [volumes[1], volumes[3], 0]
    assert matrix.present[:, 0].tolist() == [True, True, False]
    assert panel.matrix("open", times=[]).values.shape == (0, 1)
    frame = panel.matrix("close", floats=True).to_pandas()
    assert frame.shape == (5, 1) and frame.index[0] == START
    other = make_candles(SeriesKey("B", M1), 3)
    for field in ("close", "volume"):
        exact, floats = (
            CandlePanel(M1, [panel[key], other]).matrix(field, floats=kind).to_pandas()
            for kind in (False, True)
        )
        assert exact.equals(floats)


@pytest.mark.parametrize("floats", [False, True])
def test_the_last_value_may_be_of_a_time_between_those_given(floats: bool) -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey(name, M1), rows) for name, rows in _ROWS])
    times = panel.column("timestamp")[:6] + 30_000  # each half a minute after a candle of A
    close = panel.column("close") / (10_000 if floats else 1)
    matrix = panel.matrix("close", floats=floats, fill=True, times=times[[1, 3, 5]])
    assert matrix.values[:, 0].tolist() == close[[1, 3, 5]].tolist()
    assert matrix.values[:, 1].tolist() == close[[7, 8, 8]].tolist(), "B ends before"
    assert matrix.present.all()
    assert not panel.matrix("close", times=times).present.any(), "no candle is at one of them"
    early = panel.matrix("close", fill=True, times=[times[0] - 60_000])
    assert not early.present.any() and not early.values.any()


_ROWS = (("A", 6), ("B", 3))


def test_a_panel_of_some_fields_has_no_series() -> None:
    whole = CandlePanel(M1, [make_candles(SeriesKey(name, M1), 5) for name in "AB"])
    panel = whole.only("volume", "close")
    assert panel.fields == ("close", "volume")
    assert "close and volume only" in repr(panel)
    assert panel != whole and panel == whole.only("close", "volume")
    assert pickle.loads(pickle.dumps(panel)) == panel
    assert (panel.column("close") == whole.columns.close).all()
    assert (panel.matrix("volume").values == whole.matrix("volume").values).all()
    assert panel.tail(2) == whole.tail(2).only("close", "volume")
    assert panel.select([SeriesKey("B", M1)]).fields == ("close", "volume")
    frame = panel.to_pandas()
    assert list(frame.columns) == ["close", "volume"]
    assert list(panel.to_polars().columns) == [
        "symbol",
        "exchange",
        "timestamp",
        "close",
        "volume",
    ]
    refused: list[Any] = [
        lambda: panel[SeriesKey("A", M1)],
        lambda: panel.columns,
        lambda: panel.column("open"),
        lambda: panel.matrix("open"),
        lambda: panel.only("open"),
        lambda: panel.resample(Timeframe.H1),
        lambda: panel.fingerprint(),
        lambda: panel_of(None, panel),
    ]
    for ask in refused:
        with pytest.raises(InvalidData):
            ask()
    assert CandlePanel.empty(M1).only("close").fields == ("close",)


def test_fields_that_were_not_read_take_no_memory() -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 50)]).only("close").tail(40)
    absent = panel._columns.open
    assert (absent.strides, len(absent)) == ((0,), 40)


def test_a_matrix_is_aligned_on_a_calendar() -> None:
    pytest.importorskip("exchange_calendars")
    monday = datetime(2024, 1, 8, tzinfo=UTC)
    days = [CandleSeries.from_candles(key, _days(monday, rows)) for key, rows in _SOME_DAYS]
    matrix = CandlePanel(Timeframe.D1, days).matrix("close", calendar="XKRX")
    expected = [monday + timedelta(days=n) for n in (0, 1, 2, 3, 4, 7)]
    assert [datetime.fromtimestamp(t / 1000, UTC) for t in matrix.times.tolist()] == expected
    assert matrix.present.sum(axis=1).tolist() == [1, 2, 0, 0, 0, 2]
    with pytest.raises(InvalidData):
        CandlePanel(Timeframe.D1, days).matrix("close", calendar="XKRX", times=[1])
    assert CandlePanel.empty(M1).matrix("close", calendar="XKRX").values.shape == (0, 0)


def test_a_calendar_reaches_from_the_first_time_of_any_series_to_the_last() -> None:
    pytest.importorskip("exchange_calendars")
    monday = datetime(2024, 1, 8, tzinfo=UTC)
    middle, around = SeriesKey("A", Timeframe.D1), SeriesKey("B", Timeframe.D1)
    last = SeriesKey("C", Timeframe.D1)
    days = ((middle, (1, 2)), (around, (0, 4)), (last, (3,)))
    panel = CandlePanel(
        Timeframe.D1, [CandleSeries.from_candles(key, _days(monday, rows)) for key, rows in days]
    )
    matrix = panel.matrix("close", calendar="XKRX")
    assert matrix.present.sum(axis=1).tolist() == [1, 1, 1, 1, 1]


_SOME_DAYS = ((SeriesKey("A", Timeframe.D1), (0, 1, 7)), (SeriesKey("B", Timeframe.D1), (1, 7)))


def _days(first: datetime, days: tuple[int, ...]) -> list[Candle]:
    one = Decimal(1)
    return [Candle(first + timedelta(days=n), one, one, one, one, 1) for n in days]


def test_a_panel_says_its_own_timeframe() -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 5)])
    assert panel_of(M1, panel) == (panel, 0)
    with pytest.raises(InvalidData, match="of the panel, which is 1m"):
        panel_of(Timeframe.D1, panel)


def test_a_timeframe_may_be_given_as_its_text() -> None:
    text: Any = "1m"
    one = make_candles(SeriesKey("A", M1), 3)
    assert CandlePanel(text, [one]) == CandlePanel(M1, [one])
    assert CandlePanel.empty(text).timeframe is M1
    unknown: Any = "2m"
    for make in (CandlePanel, CandlePanel.empty):
        with pytest.raises(InvalidData):
            make(unknown)


def test_nothing_of_it_can_be_changed() -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 5)])
    matrix = panel.matrix("close")
    for array in (*panel.columns, panel.offsets, matrix.values, matrix.present, matrix.times):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_bad_panels_are_refused() -> None:
    one = make_candles(SeriesKey("A", M1), 3)
    table = CandlePanel(M1, [one]).to_arrow()
    nameless = table.set_column(0, "symbol", pa.array([None, "A", "A"], pa.string()))
    bad: list[Any] = [
        lambda: CandlePanel(Timeframe.D1, [one]),
        lambda: CandlePanel(M1, [one, one]),
        lambda: CandlePanel.from_arrow(M1, one.to_arrow()),
        lambda: CandlePanel.from_arrow(M1, nameless),
        lambda: CandlePanel(M1, [one]).matrix("price"),
        lambda: CandlePanel(M1, [one]).matrix("open", times=[2, 1]),
        lambda: CandlePanel(M1, [one]).matrix("open", times=["x"]),
        lambda: CandlePanel(M1, [one]).matrix("open", times=[[1, 2], [3, 4]]),
        lambda: CandlePanel.from_polars(M1, table),
        lambda: panel_of(M1, CandlePanel(M1, [one]).to_polars().lazy()),
        lambda: CandlePanel(M1, [one]).tail(0),
        lambda: CandlePanel(M1, [one]).resample(Timeframe.W1).resample(M1),
    ]
    for make in bad:
        with pytest.raises(InvalidData):
            make()


@pytest.mark.parametrize("name", ["symbol", "exchange"])
@pytest.mark.parametrize(
    "names",
    [
        pa.array([5930, 5930, 660]),
        pa.array([5930.0, 5930, 660]),
        pa.array([True, True, False]),
        pa.array([Decimal(5930)] * 3),
        pa.array([5930, 5930, 660]).dictionary_encode(),
        pa.array([b"\xff", b"A", b"B"]),
        pa.DictionaryArray.from_arrays(pa.array([0, 0, 1]), pa.array(["A", None])),
    ],
    ids=[
        "ints",
        "floats",
        "booleans",
        "decimals",
        "categories of ints",
        "no texts",
        "a null category",
    ],
)
def test_names_that_are_no_texts_are_refused(name: str, names: Any) -> None:
    table = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 3)]).to_arrow()
    place = table.schema.get_field_index(name)
    with pytest.raises(InvalidData, match=r"must be texts|must not be null") as caught:
        CandlePanel.from_arrow(M1, table.set_column(place, name, names))
    assert caught.value.field == name
    empty = table.set_column(place, name, names).slice(0, 0)
    assert not CandlePanel.from_arrow(M1, empty)


@pytest.mark.parametrize("kind", ["string", "large_string", "string_view", "binary"])
def test_names_may_be_texts_of_any_kind(kind: str) -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey("삼성", M1), 3)])
    table = panel.to_arrow()
    names = pa.array(["삼성"] * 3, getattr(pa, kind)())
    assert CandlePanel.from_arrow(M1, table.set_column(0, "symbol", names)) == panel


@pytest.mark.parametrize("name", ["symbol", "exchange"])
def test_a_column_of_names_that_comes_twice_is_refused(name: str) -> None:
    table = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 3)]).to_arrow()
    twice = table.append_column(name, table.column(name))
    with pytest.raises(InvalidData, match=f"has {name} more than once"):
        CandlePanel.from_arrow(M1, twice)


def test_of_equal_timestamps_of_a_series_the_last_row_counts() -> None:
    first, second = (make_candles(SeriesKey("A", M1), 3, seed=n) for n in (1, 2))
    other = make_candles(SeriesKey("B", M1), 3)
    tables = [CandlePanel(M1, [each]).to_arrow() for each in (first, other, second)]
    panel = CandlePanel.from_arrow(M1, pa.concat_tables([t.unify_dictionaries() for t in tables]))
    assert panel == CandlePanel(M1, [second, other])
    assert panel[first.key].start == datetime(2024, 1, 2, tzinfo=UTC)


def test_a_series_that_is_selected_twice_is_there_once() -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey(name, M1), 3) for name in "ABC"])
    a, b, _ = panel
    chosen = panel.select([b, a, b, SeriesKey("nobody", M1)])
    assert (list(chosen), chosen.rows) == ([a, b], 6)
    assert chosen == CandlePanel(M1, [panel[a], panel[b]])


def test_panels_whose_series_end_elsewhere_are_others() -> None:
    rows = [flat(START + n * timedelta(minutes=1), "1.5", 1) for n in range(2)]
    a, b = (SeriesKey(name, M1) for name in "AB")
    columns = CandleSeries(a, rows).columns
    one = CandlePanel.trusted(M1, (a, b), np.array([0, 1, 2]), columns)
    other = CandlePanel.trusted(M1, (a, b), np.array([0, 2, 2]), columns)
    assert one != other
    assert one == CandlePanel.trusted(M1, (a, b), np.array([0, 1, 2]), columns)


def test_a_fingerprint_is_of_all_series_and_their_keys() -> None:
    series = [make_candles(SeriesKey(name, M1), 3) for name in "AB"]
    panel = CandlePanel(M1, series)
    other = make_candles(SeriesKey("B", M1), 3, seed=9)
    renamed = make_candles(SeriesKey("C", M1), 3)
    others = [[series[0], other], [series[0], renamed], [series[0]], []]
    prints = {CandlePanel(M1, each).fingerprint() for each in others}
    assert len(prints) == len(others)
    assert panel.fingerprint() not in prints
    assert panel.fingerprint() == (
        "jts1p:1m:507e35fdeac5c10e8b788190644ff2d14b523447fb0ba0beddc6d73a3b333883"
    ), "as in every version of the kit"


def test_panels_of_other_fields_are_others() -> None:
    nothing_traded = [flat(START, "1.5", 0)]
    panel = CandlePanel(M1, [CandleSeries(SeriesKey("A", M1), nothing_traded)])
    prices = panel.only("open", "high", "low", "close")
    assert prices == panel.only("close", "low", "high", "open")
    assert prices != panel
    assert prices != panel.only("close")


def test_floats_of_a_matrix_are_prices_and_whole_volumes() -> None:
    candle = flat(START, "1.5", 70_000)
    panel = CandlePanel(M1, [CandleSeries(SeriesKey("A", M1), [candle])])
    assert panel.matrix("close", floats=True).values.tolist() == [[1.5]]
    assert panel.matrix("volume", floats=True).values.tolist() == [[70_000.0]]
    assert panel.matrix("volume").to_pandas().iloc[0, 0] == 70_000.0


def test_times_of_a_matrix_that_do_not_ascend_are_refused() -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 3)])
    first, second, _ = panel.column("timestamp").tolist()
    for times in ([first, first], [second, first]):
        with pytest.raises(InvalidData, match="must ascend"):
            panel.matrix("close", times=times)


@pytest.mark.parametrize("floats", [False, True])
def test_a_matrix_is_filled_with_the_last_candle_before_each_time(floats: bool) -> None:
    """Also with one that is at none of the times: it is the last that the series has had."""
    a, b = (SeriesKey(name, M1) for name in "AB")
    candles = [flat(START + timedelta(minutes=n), str(n + 1), 1) for n in range(6)]
    panel = CandlePanel(M1, [CandleSeries(a, candles[:4]), CandleSeries(b, [candles[5]])])
    first = panel.column("timestamp").tolist()[0]
    times = [first + at for at in (-1, 60_001, 120_000, 120_001, 600_000)]
    exact = [0, 20_000, 30_000, 30_000, 40_000], [0, 0, 0, 0, 60_000]
    filled = panel.matrix("close", fill=True, times=times, floats=floats)
    assert filled.present.T.tolist() == [[price > 0 for price in each] for each in exact]
    found = np.where(filled.present, filled.values * (10_000 if floats else 1), 0)
    assert tuple(found.T.tolist()) == exact
    assert panel.matrix("close", times=times).present.sum() == 1, "not filled: its own time alone"


def test_a_matrix_by_a_calendar_is_filled_with_what_the_calendar_does_not_expect() -> None:
    key = SeriesKey("A", Timeframe.D1)
    sunday, tuesday = (START.replace(day=day) for day in (7, 9))
    saved = [flat(START, "1", 1), flat(sunday, "2", 1), flat(tuesday, "3", 1)]
    panel = CandlePanel(Timeframe.D1, [CandleSeries(key, saved)])
    filled = panel.matrix("close", fill=True, calendar="XKRX")
    assert filled.values[:, 0].tolist() == [10_000] * 4 + [20_000, 30_000]


def test_times_of_a_matrix_may_be_those_of_its_frame() -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 3)])
    frame = panel.matrix("close").to_pandas()
    for times in (frame.index, list(frame.index), [each.to_pydatetime() for each in frame.index]):
        assert (
            panel.matrix("close", times=times).times.tolist() == panel.column("timestamp").tolist()
        )
    with pytest.raises(InvalidData, match="must carry a time zone"):
        panel.matrix("close", times=[START.replace(tzinfo=None)])


def test_series_are_no_panel_and_told_how_they_are_stored() -> None:
    one = make_candles(SeriesKey("A", M1), 3)
    for wrong in (one, [one]):
        with pytest.raises(InvalidData, match=r"must be a panel or a frame.*save_many"):
            panel_of(None, wrong)
