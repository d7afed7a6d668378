"""Many candles become the same columns as few, whichever way is taken."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest

from jts_storage.domain import arrays
from jts_storage.domain.candle import Candle
from jts_storage.domain.columns import concatenate
from jts_storage.testing.factories import START

MANY = 600
LARGEST = Decimal("99999999999999.9999")


def candles(*prices: Decimal) -> list[Candle]:
    return [
        Candle(START + timedelta(minutes=n % 7), price, price, price, price, n)
        for n, price in enumerate((prices * MANY)[:MANY])
    ]


@pytest.mark.parametrize(
    "price",
    [
        Decimal("78200.5"),
        Decimal("-0.0001"),
        Decimal("1E+3"),
        Decimal("1.000000"),
        Decimal("-0.00"),
        Decimal(0),
        LARGEST,
        -LARGEST,
    ],
    ids=str,
)
def test_prices_of_many_candles_are_those_of_few(price: Decimal) -> None:
    rows = candles(price, Decimal("1.5"), LARGEST)
    assert len(rows) >= arrays._WORTH_ARROW > 7
    found = arrays.from_candles(rows)
    few = [arrays.from_candles(rows[start : start + 7]) for start in range(0, MANY, 7)]
    assert all(map(np.array_equal, found, concatenate(few)))
    assert int(found.open[0]) == int(price.scaleb(4))
    assert [column.dtype for column in found] == [column.dtype for column in few[0]]


def flat(moment: datetime) -> Candle:
    one = Decimal(1)
    return Candle(moment, one, one, one, one, 1)


def test_the_one_moment_of_many_candles_is_that_of_each() -> None:
    same = [flat(START) for _ in range(3)]
    other = flat(START + timedelta(milliseconds=1))
    first = int(arrays.from_candles(same[:1]).timestamp[0])
    assert arrays.from_candles(same).timestamp.tolist() == [first] * 3
    assert arrays.from_candles([*same, other]).timestamp.tolist() == [first] * 3 + [first + 1]
    assert arrays.from_candles([]).rows == 0
