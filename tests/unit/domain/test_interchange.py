"""Series through Arrow, pandas and polars, and what none of them may bring in."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import BLOCK, NAMES, PRICES, Columns
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidConfiguration, InvalidData
from jts_storage.readers.sources import frame_source
from jts_storage.testing.factories import make_candles

KEY = SeriesKey("A", Timeframe.M1)
MOMENT = datetime(2024, 1, 2, tzinfo=UTC)
MS = checks.to_ms(MOMENT)
LIMIT = checks.PRICE_LIMIT
MANY_DECIMALS = pa.decimal128(18, 4)


@st.composite
def series_strategy(draw: st.DrawFn, largest: int = LIMIT - 1) -> CandleSeries:
    """Any series that may exist, extreme prices, volumes and moments among them."""
    bounds = checks.to_ms(checks.FIRST_TIMESTAMP), checks.to_ms(checks.LAST_TIMESTAMP)
    stamps = sorted(draw(st.sets(st.integers(*bounds), max_size=8)))
    prices = st.lists(st.integers(-largest, largest), min_size=4, max_size=4).map(sorted)
    rows = [draw(prices) for _ in stamps]
    volumes = [draw(st.integers(0, 2**64 - 1)) for _ in stamps]
    low, opening, close, high = np.array(rows, np.int64).reshape(-1, 4).T
    columns = Columns.of(
        np.array(stamps, np.int64), (opening, high, low, close), np.array(volumes, np.uint64)
    )
    return CandleSeries.trusted(KEY, columns.each(np.ascontiguousarray))


def table(rows: int = 3, **changed: Any) -> pa.Table:
    """An Arrow table whose every price is 10, with some columns changed."""
    columns: dict[str, Any] = {
        "timestamp": pa.array([MS + 60_000 * row for row in range(rows)]),
        **{name: pa.array([Decimal("10.0000")] * rows, MANY_DECIMALS) for name in PRICES},
        "volume": pa.array(range(rows), pa.uint64()),
    }
    return pa.table(columns | changed)


def with_prices(column: Any) -> pa.Table:
    return table(len(column), **dict.fromkeys(PRICES, column))


def frame(rows: int = 3, **changed: Any) -> pd.DataFrame:
    columns: dict[str, Any] = {
        "timestamp": pd.date_range(MOMENT, periods=rows, freq="min"),
        **{name: [Decimal(10)] * rows for name in PRICES},
        "volume": list(range(rows)),
    }
    return pd.DataFrame(columns | changed)


def objects(*values: Any) -> pd.Series[Any]:
    return pd.Series(list(values), dtype=object)


def from_arrow(source: Any, **options: Any) -> CandleSeries:
    return CandleSeries.from_arrow(KEY, source, **options)


def from_pandas(source: Any, **options: Any) -> CandleSeries:
    return CandleSeries.from_pandas(KEY, source, **options)


def opens(series: CandleSeries) -> list[Decimal]:
    return [candle.open for candle in series]


# Round trips


@given(series_strategy())
def test_a_series_survives_arrow(series: CandleSeries) -> None:
    assert from_arrow(series.to_arrow()) == series


@given(series_strategy())
def test_a_series_survives_pandas(series: CandleSeries) -> None:
    assert from_pandas(series.to_pandas()) == series
    assert from_pandas(series.to_pandas().reset_index()) == series


@given(series_strategy())
def test_a_series_survives_polars(series: CandleSeries) -> None:
    assert CandleSeries.from_polars(KEY, series.to_polars()) == series


@given(series_strategy())
def test_a_series_survives_a_frame_of_python_objects(series: CandleSeries) -> None:
    rows = [tuple(getattr(candle, name) for name in NAMES) for candle in series]
    made = pd.DataFrame(rows, columns=list(NAMES), dtype=object)
    assert from_pandas(made) == series


@given(series_strategy())
def test_a_series_survives_strings(series: CandleSeries) -> None:
    texts = {
        name: pa.array([str(getattr(candle, name)) for candle in series], pa.string())
        for name in PRICES
    }
    columns = {**series.to_columns(), **texts}
    assert from_arrow(pa.table(columns)) == series


@given(series_strategy(largest=2**51 - 1))
@example(
    CandleSeries.from_columns(
        KEY, {"timestamp": [MS], "volume": [1]} | {n: np.array([2**51 - 1]) for n in PRICES}
    )
)
def test_a_series_survives_floats_that_are_exact(series: CandleSeries) -> None:
    floats = series.to_pandas(prices="float")
    assert from_pandas(floats, floats="exact") == series


def test_the_columns_of_arrow_have_exact_types() -> None:
    made = from_arrow(table()).to_arrow()
    assert made.schema.names == list(NAMES)
    assert made.schema.types == [pa.timestamp("ms", "UTC"), *[MANY_DECIMALS] * 4, pa.uint64()]
    assert made.column("open").to_pylist() == [Decimal("10.0000")] * 3
    made.validate(full=True)


def test_negative_prices_reach_arrow_across_blocks() -> None:
    rows = BLOCK + 3
    prices = np.arange(rows) - BLOCK
    columns = {"timestamp": np.arange(rows), "volume": np.arange(rows)}
    series = CandleSeries.from_columns(KEY, columns | dict.fromkeys(PRICES, prices))
    assert series.to_arrow().column("open")[0].as_py() == Decimal(-BLOCK).scaleb(-4)
    assert from_arrow(series.to_arrow()) == series


def test_pandas_gets_an_index_of_utc_and_exact_or_float_prices() -> None:
    series = from_arrow(table())
    exact, floats = series.to_pandas(), series.to_pandas(prices="float")
    assert exact.index.name == "timestamp"
    assert exact.index[0] == pd.Timestamp(MOMENT)
    assert exact["open"].tolist() == [Decimal(10)] * 3
    assert floats["open"].dtype == np.float64
    assert floats["open"].tolist() == [10.0] * 3
    assert exact["volume"].dtype == floats["volume"].dtype == np.uint64
    with pytest.raises(InvalidData, match="'decimal' or 'float'"):
        series.to_pandas(prices="text")  # type: ignore[arg-type]


def test_polars_gets_exact_decimals() -> None:
    schema = from_arrow(table()).to_polars().schema
    assert schema["open"] == pl.Decimal(18, 4)
    assert schema["timestamp"] == pl.Datetime("ms", "UTC")
    assert schema["volume"] == pl.UInt64


# Aliasing


def test_writing_to_a_frame_leaves_the_series_alone() -> None:
    series = from_arrow(table())
    for prices in ("decimal", "float"):
        made = series.to_pandas(prices=prices)
        made.loc[made.index[0], "volume"] = 99
        made.loc[made.index[0], "open"] = 99
    assert series == from_arrow(table())


def test_an_array_behind_arrow_may_change_afterwards() -> None:
    stamps, volumes = np.array([MS]), np.array([5], np.uint64)
    series = from_arrow(table(1, timestamp=pa.array(stamps), volume=pa.array(volumes)))
    stamps[0], volumes[0] = 0, 99
    assert (series[0].timestamp, series[0].volume) == (MOMENT, 5)


def test_a_frame_may_change_afterwards() -> None:
    made = frame()
    series = from_pandas(made)
    made.loc[0, "volume"] = 99
    made.loc[0, "timestamp"] = pd.Timestamp(0, tz="UTC")
    assert (series[0].timestamp, series[0].volume) == (MOMENT, 0)


# Kinds of columns that are taken


@pytest.mark.parametrize(
    "kind",
    [
        pa.decimal128(38, 4),
        pa.decimal128(38, 20),
        pa.decimal128(10, 1),
        pa.decimal256(76, 4),
        pa.decimal256(60, 30),
        pa.decimal32(9, 2),
        pa.decimal64(18, 4),
    ],
)
def test_decimals_of_every_scale_are_taken(kind: Any) -> None:
    column = pa.array([Decimal("12.5"), Decimal("-3")], kind)
    assert opens(from_arrow(with_prices(column))) == [Decimal("12.5"), Decimal(-3)]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int64(), pa.uint8(), pa.uint64()])
def test_integer_prices_are_whole(kind: Any) -> None:
    assert opens(from_arrow(with_prices(pa.array([1, 100], kind)))) == [1, 100]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_prices_may_be_text(kind: Any) -> None:
    column = pa.array(["1.5", "-.25", "1e3", "+7.", "1.00000"], kind)
    expected = [Decimal("1.5"), Decimal("-0.25"), 1000, 7, 1]
    assert opens(from_arrow(with_prices(column))) == expected


def test_the_decimal_context_of_the_caller_rounds_nothing() -> None:
    column = pa.array(["99999999999999.9999"])
    with localcontext() as context:
        context.prec = 2
        series = from_arrow(with_prices(column))
        assert str(series[0].open) == "99999999999999.9999"
        assert from_pandas(frame(1, **{n: [series[0].open] for n in PRICES}))[0] is not None
        assert CandleSeries.from_candles(KEY, list(series)) == series
        assert from_pandas(series.to_pandas()) == series


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul", "America/New_York", "+09:00"])
def test_moments_of_every_unit_and_zone_are_utc(unit: str, zone: str) -> None:
    ticks = MS * {"s": 1, "ms": 1_000, "us": 10**6, "ns": 10**9}[unit] // 1_000
    column = pa.array([ticks], pa.timestamp(unit, zone))
    assert from_arrow(table(1, timestamp=column)).start == MOMENT


@pytest.mark.parametrize("unit", ["us", "ns"])
def test_moments_before_1970_of_finer_units_are_exact(unit: str) -> None:
    moment = datetime(1950, 6, 25, 4, 0, 0, 1_000, tzinfo=UTC)
    column = pa.array([moment], pa.timestamp(unit, "UTC"))
    assert from_arrow(table(1, timestamp=column)).start == moment


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**63, 2**64 - 1], pa.uint64()),
        pa.array([Decimal(2**63), Decimal(2**64 - 1)], pa.decimal128(38, 0)),
    ],
    ids=["uint64", "decimal"],
)
def test_volumes_above_a_signed_word_are_exact(column: Any) -> None:
    series = from_arrow(table(2, volume=column))
    assert [candle.volume for candle in series] == [2**63, 2**64 - 1]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint16(), pa.float64(), pa.float32()])
def test_whole_volumes_of_every_kind_are_taken(kind: Any) -> None:
    series = from_arrow(table(2, volume=pa.array([0, 100], kind)))
    assert series.columns.volume.tolist() == [0, 100]
    assert series.columns.volume.dtype == np.uint64


def test_chunks_and_slices_are_read_from_where_they_begin() -> None:
    whole = from_arrow(
        table(6, open=pa.array([str(9 + n / 8) for n in range(6)]), low=pa.array([9] * 6))
    )
    parts = whole.to_arrow()
    chunked = pa.concat_tables([parts.slice(0, 2), parts.slice(2, 0), parts.slice(2, 4)])
    assert chunked.column("open").num_chunks == 3
    assert from_arrow(chunked) == whole
    assert from_arrow(chunked.slice(1, 4)) == whole[1:5]
    assert from_arrow(parts.slice(4)) == whole[4:]


def test_a_record_batch_and_columns_of_others_are_taken() -> None:
    batch = table().append_column("note", pa.array(["x"] * 3)).to_batches()[0]
    assert from_arrow(batch) == from_arrow(table())
    floats = table(**{n: pa.array([1.5] * 3) for n in PRICES}).to_batches()[0]
    assert opens(from_arrow(floats, floats="exact")) == [Decimal("1.5")] * 3


def test_rows_out_of_order_are_sorted_and_the_last_of_equals_stays() -> None:
    stamps = pa.array([MS + 1, MS, MS + 1])
    series = from_arrow(table(3, timestamp=stamps))
    assert [candle.volume for candle in series] == [1, 2]


def test_nothing_has_no_types() -> None:
    nothing = CandleSeries.empty(KEY)
    assert from_arrow(pa.table({name: pa.nulls(0) for name in NAMES})) == nothing
    assert from_pandas(pd.DataFrame(columns=list(NAMES))) == nothing
    assert from_pandas(frame()[lambda made: made.volume > 9]) == nothing
    assert CandleSeries.from_polars(KEY, pl.DataFrame(schema=list(NAMES))) == nothing


def test_the_index_of_a_frame_may_be_the_timestamp() -> None:
    expected = from_pandas(frame())
    assert from_pandas(frame().set_index("timestamp")) == expected
    assert from_pandas(frame().set_index("timestamp").rename_axis("time")) == expected
    milliseconds = frame().assign(timestamp=[MS, MS + 60_000, MS + 120_000])
    assert from_pandas(milliseconds.set_index("timestamp")) == expected


def test_datetime_objects_of_several_zones_are_taken() -> None:
    seoul = timezone(timedelta(hours=9))
    stamps = objects(MOMENT, (MOMENT + timedelta(minutes=1)).astimezone(seoul))
    assert from_pandas(frame(2, timestamp=stamps)) == from_pandas(frame(2))


def test_polars_may_hold_text_and_finer_moments() -> None:
    made = from_arrow(table()).to_polars()
    changed = made.with_columns(
        *(pl.col(name).cast(pl.String) for name in PRICES),
        pl.col("timestamp").cast(pl.Datetime("ns", "Asia/Seoul")),
    )
    assert CandleSeries.from_polars(KEY, changed) == from_arrow(table())


# Refused


def refused(source: Any, *, make: Any = from_arrow, **options: Any) -> InvalidData:
    with pytest.raises(InvalidData) as caught:
        make(source, **options)
    return caught.value


@pytest.mark.parametrize("name", NAMES)
def test_a_null_is_refused_with_its_row(name: str) -> None:
    column = table().column(name).to_pylist()
    nulled = pa.array([*column[:2], None], table().column(name).type)
    error = refused(table(**{name: nulled}))
    assert (error.field, error.row, str(error).count("must not be null")) == (name, 2, 1)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("1.23456", "at most four decimals"),
        ("1e-5", "at most four decimals"),
        ("100000000000000", r"must fit Decimal(18, 4)"),
        ("1e30", r"must fit Decimal(18, 4)"),
        ("1e99999999999999999999", "out of range"),
        ("NaN", "must be a number"),
        ("inf", "must be a number"),
        ("abc", "must be a number"),
        ("", "must be a number"),
        ("1_000", "must be a number"),
        (" 1", "must be a number"),
        ("１", "must be a number"),
        ("1,5", "must be a number"),
    ],
)
def test_text_that_is_no_price_is_refused_with_its_row(text: str, rule: str) -> None:
    error = refused(table(open=pa.array(["10", text, "10"])))
    assert (error.field, error.row) == ("open", 1)
    assert rule in str(error)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("1.00001", pa.decimal128(38, 5)),
        ("1.00001", pa.decimal256(60, 5)),
        ("1e14", pa.decimal128(38, 0)),
        ("1e14", pa.decimal128(38, 4)),
        ("922337203685477.5808", pa.decimal128(38, 4)),
        ("-922337203685477.5809", pa.decimal128(38, 4)),
        ("1844674407370955.1617", pa.decimal128(38, 4)),
        ("1e33", pa.decimal128(38, 4)),
        ("1e37", pa.decimal128(38, 0)),
        ("-1e60", pa.decimal256(76, 0)),
    ],
)
def test_decimals_that_do_not_fit_are_refused_with_their_row(value: str, kind: Any) -> None:
    column = pa.chunked_array([pa.array([Decimal(10)], kind), pa.array([Decimal(value)] * 2, kind)])
    error = refused(table(**dict.fromkeys(PRICES, column)))
    assert (error.field, error.row) == ("open", 1)


@pytest.mark.parametrize("value", [10**14, -(10**14), 2**62, -(2**63)])
def test_integers_that_do_not_fit_are_refused_with_their_row(value: int) -> None:
    error = refused(table(open=pa.array([10, value, 10])))
    assert (error.field, error.row, error.value) == ("open", 1, value)


def test_unsigned_integers_are_not_taken_for_negative_ones() -> None:
    top = pa.array([10, 2**64 - 1, 10], pa.uint64())
    for name in ("open", "timestamp"):
        error = refused(table(**{name: top}))
        assert (error.field, error.row, error.value) == (name, 1, 2**64 - 1)


def test_floats_are_refused_unless_asked_for() -> None:
    error = refused(table(open=pa.array([10.0] * 3)))
    assert (error.field, error.row, error.value) == ("open", 0, 10.0)
    assert "floats='exact'" in str(error)


@pytest.mark.parametrize(
    ("value", "rule"),
    [
        (10.00001, "at most four decimals"),
        (0.1 + 0.2, "at most four decimals"),
        (float("nan"), "must be finite"),
        (float("-inf"), "must be finite"),
        (2**51 / 10_000, "too large to be exact"),
        (-1e300, "too large to be exact"),
    ],
)
def test_floats_that_are_no_price_are_refused_even_then(value: float, rule: str) -> None:
    error = refused(table(open=pa.array([10.0, value, 10.0])), floats="exact")
    assert (error.field, error.row) == ("open", 1)
    assert rule in str(error)


@given(st.integers(1 - 2**51, 2**51 - 1), st.integers(-3, 3))
def test_a_float_is_its_price_or_refused(scaled: int, steps: int) -> None:
    value = float(np.float64(scaled / 10_000))
    for _ in range(abs(steps)):
        value = float(np.nextafter(value, np.sign(steps) * np.inf))
    assume(abs(value) < 2**51 / 10_000)
    prices = dict.fromkeys(PRICES, pa.array([value]))
    if steps == 0:
        assert opens(from_arrow(table(1, **prices), floats="exact")) == [
            checks.unscaled_price(scaled)
        ]
    else:
        try:
            found = opens(from_arrow(table(1, **prices), floats="exact"))[0]
        except InvalidData:
            return
        assert float(found) == value


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True]),
        pa.array([b"10"]),
        pa.array([MOMENT]),
        pa.array([[10]]),
        pa.array(["10"]).dictionary_encode(),
    ],
    ids=["bool", "binary", "timestamp", "list", "dictionary"],
)
def test_kinds_that_are_no_price_are_refused(column: Any) -> None:
    error = refused(table(1, open=column))
    assert error.field == "open"
    assert "must be decimals, not" in str(error)


@pytest.mark.parametrize(
    ("column", "row"),
    [
        (pa.array([1, -1]), 1),
        (pa.array([1, -(2**63)]), 1),
        (pa.array([1.0, 1.5]), 1),
        (pa.array([1.0, float("nan")]), 1),
        (pa.array([1.0, float("inf")]), 1),
        (pa.array([1.0, -1.0]), 1),
        (pa.array([1.0, 2.0**64]), 1),
        (pa.array([Decimal("1.0"), Decimal("1.5")]), 1),
        (pa.array([Decimal(1), Decimal(2**64)]), 1),
        (pa.array([Decimal(1), Decimal(2)], pa.decimal32(5, 2)), None),  # Arrow casts none
        (pa.array(["1", "2"]), None),
        (pa.array([True, False]), None),
        (pa.array([b"1", b"2"]), None),
        (pa.array([MOMENT, MOMENT]), None),
        (pa.array([[1], [2]]), None),
    ],
)
def test_what_is_no_volume_is_refused(column: Any, row: int | None) -> None:
    error = refused(table(2, volume=column))
    assert (error.field, error.row) == ("volume", row)


@pytest.mark.parametrize(
    ("ticks", "unit", "rule"),
    [
        (MS * 1_000 + 1, "us", "whole milliseconds"),
        (MS * 10**6 + 1, "ns", "whole milliseconds"),
        (-1, "ns", "whole milliseconds"),
        (2**62 + 1, "us", "whole milliseconds"),
        (2**62, "us", "whole milliseconds"),
        (2**62, "ms", "between 1900 and 2299"),
        (-(2**63), "s", "out of range"),
        (2**62, "s", "out of range"),
        (2**53, "s", "between 1900 and 2299"),
        (-(2**53), "s", "between 1900 and 2299"),
    ],
)
def test_moments_that_would_change_are_refused_with_their_row(
    ticks: int, unit: str, rule: str
) -> None:
    error = refused(table(2, timestamp=pa.array([0, ticks], pa.timestamp(unit, "UTC"))))
    assert (error.field, error.row) == ("timestamp", 1)
    assert rule in str(error)


@pytest.mark.parametrize("tick", [0, 2**62])
def test_naive_moments_are_refused(tick: int) -> None:
    error = refused(table(1, timestamp=pa.array([tick], pa.timestamp("ms"))))
    assert (error.field, error.row) == ("timestamp", 0)
    assert "must carry a time zone" in str(error)
    assert "Attach the zone" in str(error)


@pytest.mark.parametrize(
    "column", [pa.array([0.0]), pa.array(["2024-01-02"]), pa.array([date(2024, 1, 2)])]
)
def test_kinds_that_are_no_moment_are_refused(column: Any) -> None:
    error = refused(table(1, timestamp=column))
    assert error.field == "timestamp"
    assert "must be timestamps, not" in str(error)
    assert "pd.to_datetime(..., utc=True)" in str(error)


def test_missing_and_doubled_columns_are_named() -> None:
    lacking = table().drop_columns(["open", "volume"])
    assert "lacks open, volume; it has timestamp, high" in str(refused(lacking))
    doubled = table().append_column("open", table().column("open"))
    assert "has open more than once" in str(refused(doubled))
    made = pd.concat([frame(), frame()[["low"]]], axis=1)
    assert "has low more than once" in str(refused(made, make=from_pandas))
    assert "lacks low" in str(refused(frame().drop(columns="low"), make=from_pandas))
    assert "lacks timestamp" in str(refused(frame().drop(columns="timestamp"), make=from_pandas))
    lacking_polars = from_arrow(table()).to_polars().drop("close")
    with pytest.raises(InvalidData, match="lacks close"):
        CandleSeries.from_polars(KEY, lacking_polars)


@pytest.mark.parametrize("source", [None, 5, [1], pd.Series([1]), pa.array([1])])
def test_what_is_no_table_is_refused(source: Any) -> None:
    for make in (CandleSeries.from_arrow, CandleSeries.from_pandas, CandleSeries.from_polars):
        with pytest.raises(InvalidData, match="must be a"):
            make(KEY, source)


@pytest.mark.parametrize(
    "stamps",
    [
        (MOMENT, datetime(2024, 1, 3)),
        (MOMENT, MOMENT + timedelta(microseconds=1)),
        (MOMENT, pd.Timestamp(MOMENT) + pd.Timedelta(1, "ns")),
        (MOMENT, None),
        (MOMENT, pd.NaT),
        (MOMENT, "2024-01-03"),
        (MOMENT, datetime.max.replace(tzinfo=timezone(-timedelta(hours=9)))),
    ],
)
def test_a_bad_moment_among_objects_is_refused_with_its_row(stamps: tuple[Any, ...]) -> None:
    error = refused(frame(2, timestamp=objects(*stamps)), make=from_pandas)
    assert (error.field, error.row) == ("timestamp", 1)


def test_bad_moments_of_a_frame_are_refused() -> None:
    missing = pd.to_datetime(pd.Series([MOMENT, None]), utc=True)
    assert refused(frame(2, timestamp=missing), make=from_pandas).row == 1
    naive = frame().set_index("timestamp").tz_localize(None)
    assert "must carry a time zone" in str(refused(naive, make=from_pandas))


@pytest.mark.parametrize(
    "value",
    [
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("1E+80"),
        Decimal("1E-80"),
        Decimal("1.00001"),
        2**70,
        None,
        float("nan"),
        1.5,
        True,
        "x",
        pd.NA,
        pd.NaT,
        object(),
        MOMENT,
    ],
)
def test_a_bad_price_among_objects_is_refused_with_its_row(value: Any) -> None:
    error = refused(frame(2, open=objects(Decimal(10), value)), make=from_pandas)
    assert (error.field, error.row) == ("open", 1)


@pytest.mark.parametrize(
    "value", [2**64, 2**70, -1, 1.5, "1", None, float("nan"), "x", pd.NA, Decimal("1.5"), object()]
)
def test_a_bad_volume_among_objects_is_refused_with_its_row(value: Any) -> None:
    error = refused(frame(2, volume=objects(1, value)), make=from_pandas)
    assert (error.field, error.row) == ("volume", 1)


def test_objects_that_only_arrow_cannot_read_are_refused_without_a_row() -> None:
    error = refused(frame(2, open=objects(Decimal(10), Decimal("0E-80"))), make=from_pandas)
    assert str(error) == "field 'open': cannot be read as prices"


def test_large_volumes_among_objects_are_exact() -> None:
    series = from_pandas(frame(2, volume=objects(1, 2**64 - 1)))
    assert [candle.volume for candle in series] == [1, 2**64 - 1]


def test_missing_volumes_of_pandas_are_refused() -> None:
    for column in (pd.array([1, None], "Int64"), [1.0, float("nan")]):
        error = refused(frame(2, volume=column), make=from_pandas)
        assert (error.field, error.row) == ("volume", 1)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (pl.col("timestamp").dt.replace_time_zone(None), "timestamp"),
        (pl.col("open").cast(pl.Float64), "open"),
        (pl.lit(None, pl.Decimal(18, 4)).alias("open"), "open"),
        (pl.col("volume").cast(pl.Int64) - 1, "volume"),
        (pl.col("volume").cast(pl.Int128), "columns"),
    ],
)
def test_bad_columns_of_polars_are_refused(change: pl.Expr, field: str) -> None:
    made = from_arrow(table()).to_polars().with_columns(change)
    with pytest.raises(InvalidData) as caught:
        CandleSeries.from_polars(KEY, made)
    assert caught.value.field == field


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_a_missing_library_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    series = make_candles(count=2)
    with pytest.raises(InvalidConfiguration, match=rf"{name} is not installed.*\[{name}\]"):
        getattr(series, f"to_{name}")()


def test_a_frame_to_import_names_the_extra_of_a_missing_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frame = make_candles(count=2).to_pandas()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(InvalidConfiguration, match=r"pandas is not installed.*\[pandas\]"):
        frame_source(frame)


def test_who_speaks_arrow_takes_a_series_as_it_is() -> None:
    series = make_candles(3)
    assert pa.table(series).equals(series.to_arrow())
