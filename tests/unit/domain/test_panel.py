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


_SOME_DAYS = ((SeriesKey("A", Timeframe.D1), (0, 1, 7)), (SeriesKey("B", Timeframe.D1), (1, 7)))


def _days(first: datetime, days: tuple[int, ...]) -> list[Candle]:
    one = Decimal(1)
    return [Candle(first + timedelta(days=n), one, one, one, one, 1) for n in days]


def test_a_panel_says_its_own_timeframe() -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey("A", M1), 5)])
    assert panel_of(M1, panel) is panel
    with pytest.raises(InvalidData, match="of the panel, which is 1m"):
        panel_of(Timeframe.D1, panel)


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
        lambda: CandlePanel(M1, [one]).tail(0),
        lambda: CandlePanel(M1, [one]).resample(Timeframe.W1).resample(M1),
    ]
    for make in bad:
        with pytest.raises(InvalidData):
            make()


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
