"""Decimals of Python and of BSON, by integer arithmetic.

The driver converts digit by digit in Python: of a backtest of 10,000 trades, that was half of the
time. These give the same values, and leave to the driver what they do not cover.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from struct import Struct
from typing import Final

import numpy as np
from bson import Decimal128

from jts_storage.domain.checks import EXACT

# A Decimal128 has a sign, 14 bits of exponent and 113 of coefficient, in two little-endian words.
_BIAS: Final = 6176
_LAST_EXPONENT: Final = 6111
_MOST_DIGITS: Final = 34
_LARGEST: Final = 10**_MOST_DIGITS - 1
_SIGN: Final = 1 << 63
_IS_SPECIAL: Final = 0b11 << 61
"""Infinity, NaN, and a form of the exponent that only numbers beyond 34 digits would need."""
_HIGH_COEFFICIENT: Final = (1 << 49) - 1
_halves: Final = Struct("<QQ")


def to_decimal128(value: Decimal) -> Decimal128:
    """As `Decimal128(value)`."""
    sign, digits, exponent = value.as_tuple()
    if (
        not isinstance(exponent, int)
        or not -_BIAS <= exponent <= _LAST_EXPONENT
        or len(digits) > _MOST_DIGITS
    ):
        return Decimal128(value)
    coefficient = abs(int(EXACT.scaleb(value, -exponent)))
    high = (coefficient >> 64) | (exponent + _BIAS) << 49 | sign << 63
    return Decimal128.from_bid(_halves.pack(coefficient & 0xFFFFFFFFFFFFFFFF, high))


def from_decimal128(value: Decimal128) -> Decimal:
    """As `value.to_decimal()`."""
    low, high = _halves.unpack(value.bid)
    coefficient = (high & _HIGH_COEFFICIENT) << 64 | low
    if high & _IS_SPECIAL == _IS_SPECIAL or coefficient > _LARGEST:
        return value.to_decimal()
    if high & _SIGN:
        if not coefficient:
            return value.to_decimal()  # an integer has no negative zero
        coefficient = -coefficient
    return EXACT.scaleb(coefficient, (high >> 49 & 0x3FFF) - _BIAS)


def from_decimal128s(values: Sequence[Decimal128]) -> list[Decimal]:
    """As `from_decimal128` of each; at once, if each has a coefficient of 63 bits or fewer."""
    halves = np.frombuffer(b"".join([value.bid for value in values]), "<u8")
    low, high = halves[::2], halves[1::2]
    is_beyond = (high & _HIGH_COEFFICIENT != 0) | (low >= 1 << 63)
    is_negative = high & _SIGN != 0
    is_special = (high & _IS_SPECIAL == _IS_SPECIAL) | is_negative & (low == 0)
    if np.any(is_beyond | is_special):
        return list(map(from_decimal128, values))
    coefficients = low.astype(np.int64)
    np.negative(coefficients, out=coefficients, where=is_negative)
    exponents = (high >> 49 & 0x3FFF).astype(np.int64) - _BIAS
    return list(map(EXACT.scaleb, coefficients.tolist(), exponents.tolist()))
