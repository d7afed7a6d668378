"""Decimals become the very bytes that the driver makes of them, and come back as it reads them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from bson import Decimal128
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.mongo.decimals import from_decimal128, from_decimal128s, to_decimal128

decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=34).map(tuple),
    st.integers(-40, 20) | st.integers(-6_176, 6_111),
)


@given(decimals)
def test_what_is_written_is_what_the_driver_writes(value: Decimal) -> None:
    assert to_decimal128(value).bid == Decimal128(value).bid


@given(st.binary(min_size=16, max_size=16) | decimals.map(lambda value: Decimal128(value).bid))
def test_what_is_read_is_what_the_driver_reads(bid: bytes) -> None:
    stored = Decimal128.from_bid(bid)
    found, expected = from_decimal128(stored), stored.to_decimal()
    assert found.as_tuple() == expected.as_tuple()


small = st.builds(
    lambda sign, number, exponent: Decimal((sign, tuple(map(int, str(number))), exponent)),
    st.integers(0, 1),
    st.integers(0, 2**64) | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64]),
    st.integers(-6_176, 6_111),
)


@given(st.lists(small) | st.lists(small | decimals | st.just(Decimal("NaN"))))
def test_a_column_is_read_as_each_of_its_values(values: list[Decimal]) -> None:
    stored = list(map(Decimal128, values))
    expected = [each.to_decimal().as_tuple() for each in stored]
    assert [each.as_tuple() for each in from_decimal128s(stored)] == expected


@pytest.mark.parametrize("value", ["0", "-0", "-0E-5", "NaN", "sNaN", "Infinity", "-Infinity"])
def test_zero_and_what_is_no_number(value: str) -> None:
    stored = to_decimal128(Decimal(value))
    assert stored.bid == Decimal128(Decimal(value)).bid
    assert from_decimal128(stored).as_tuple() == Decimal(value).as_tuple()
