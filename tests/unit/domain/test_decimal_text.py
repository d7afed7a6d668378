"""Numbers of many digits, which Arrow's own cast gets wrong without a word."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.decimal_text import to_decimals
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.readers.adjusting import VolumeRule
from jts_storage.readers.rounding import adjusted_volumes, rounded_prices

EXACT = Context(prec=500)
WRAPPED = [
    "735.3999999999999772626324556767940521240234375",  # read as zero
    "340282366920938463463374607431768211456.5",  # 2**128 + 0.5: read as 0.5
    "18446744073709551615.4",
    "34474459740285432418.6",
]
NEAR = ["429496.7296", "4294967.296", "429496729.6", "429496.729600000000000000"]
digits = st.text("0123456789", max_size=45)
numbers = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["", "-", "+"]),
    digits,
    st.sampled_from(["", "."]),
    digits,
    st.sampled_from(["", "", "", "e5", "E-7", "e+2", "e-60"]),
) | st.integers(0, 2**20).flatmap(
    lambda many: st.integers(-2, 2).map(lambda near: f"{(many * 2**32 + near) / Decimal(10**4)}")
)


def value_of(text: str) -> Decimal | None:
    try:
        return Decimal(text) if any(each.isdigit() for each in text.partition("e")[0]) else None
    except ArithmeticError:
        return None


@given(numbers)
@example(WRAPPED[0])
@example(WRAPPED[1])
@example(WRAPPED[2])
@example(WRAPPED[3])
@example(NEAR[3])
def test_text_is_read_as_it_says_or_refused(text: str) -> None:
    number = value_of(text)
    try:
        (read,) = to_decimals(pa.array([text]), 4).to_pylist()
    except pa.ArrowInvalid:
        if number is not None and abs(number) < Decimal(10) ** 33:
            assert EXACT.scaleb(number, 4) != EXACT.scaleb(number, 4).to_integral_value()
    else:
        assert read == number


@given(st.lists(numbers, min_size=1, max_size=5), st.sampled_from([0, 2, 4, 8]))
@example(NEAR, 4)
@example(NEAR, 0)
@example(WRAPPED, 4)
@example(WRAPPED[:1], 0)
def test_rounding_is_that_of_exact_decimals(texts: list[str], places: int) -> None:
    values = [value_of(text) for text in texts]
    unit = Decimal(1).scaleb(-places)
    try:
        rounded, changes = rounded_prices(pa.array(texts), places, "close")
    except InvalidData as exc:
        assert exc.row is not None
        gone = values[exc.row]
        assert gone
        assert not gone.quantize(unit, ROUND_HALF_EVEN, EXACT)
        return
    if rounded.type != pa.string():
        wanted = [
            value.quantize(unit, ROUND_HALF_EVEN, EXACT) for value in values if value is not None
        ]
        assert rounded.to_pylist() == wanted
        assert changes.values == sum(x != y for x, y in zip(values, wanted, strict=True))
    else:
        most = Decimal(2**64) / 10**places - 2
        assert any(value is None or abs(value) >= most for value in values)
    floor = VolumeRule.of(f"floor,scale:{places}")
    whole, _ = adjusted_volumes(pa.array(texts), floor)
    if whole.type != pa.string():
        cut = [value.quantize(unit, ROUND_DOWN, EXACT) for value in values if value is not None]
        assert whole.to_pylist() == [EXACT.scaleb(each, places) for each in cut]


@pytest.mark.parametrize("text", WRAPPED)
def test_no_series_takes_what_would_wrap(text: str) -> None:
    table: Any = {
        "timestamp": pa.array([0], pa.timestamp("ms", "UTC")),
        **{name: pa.array([text]) for name in ("open", "high", "low", "close")},
        "volume": pa.array([1], pa.uint64()),
    }
    with pytest.raises(InvalidData):
        CandleSeries.from_arrow(SeriesKey("A", Timeframe.M1), pa.table(table))
