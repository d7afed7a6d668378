"""Numbers in text, read as exact decimals.

Arrow reads text of up to 18 digits rightly. With more, its cast may wrap around, give zero, or be
wrong by one in the last place, without a word (26.0.1; see tests/unit/domain/test_decimal_text.py).
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation
from typing import Any

DIGITS = 38
"""Of a decimal of 128 bits."""
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)"
_FEW = 18
_NUMBER = re.compile(rf"{NUMBER}(?:[eE][+-]?[0-9]+)?")
_EXACT = Context(prec=10_000)


def to_decimals(column: Any, scale: int) -> Any:
    """Read a column of text as decimals of 38 digits, so many of them behind the point.

    :raises pyarrow.ArrowInvalid: some text is no number, or has more digits.
    """
    import pyarrow as pa

    return without_many_digits(column, scale).cast(pa.decimal128(DIGITS, scale))


def without_many_digits(column: Any, scale: int) -> Any:
    """Write numbers of many digits, or with an exponent, with so many decimals and no more."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_string_view(column.type):
        column = column.cast(pa.string())
    is_long = pc.greater(pc.binary_length(column), _FEW)
    is_long = pc.or_(is_long, pc.match_substring(column, "e", ignore_case=True))
    if not pc.any(is_long).as_py():
        return column
    short = [_written(text, scale) for text in column.filter(is_long).to_pylist()]
    return pc.replace_with_mask(column, is_long, pa.array(short, column.type))


def _written(text: str | None, scale: int) -> str | None:
    import pyarrow as pa

    if text is None:
        return None
    number = plain(text)
    if number is None or (number and number.adjusted() >= DIGITS - scale):
        raise pa.ArrowInvalid(f"The string {text[:100]!r} is no number of {DIGITS} digits")
    scaled = _EXACT.scaleb(number, scale)
    whole = scaled.to_integral_value(context=_EXACT)
    if scaled != whole:
        raise pa.ArrowInvalid(f"The number {text[:100]} has more than {scale} decimals")
    return f"{_EXACT.scaleb(whole, -scale):f}"


def plain(text: str) -> Decimal | None:
    """The number that a text is; None if it is none, or has an exponent beyond all reason."""
    if _NUMBER.fullmatch(text) is None:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if abs(number.adjusted()) < _EXACT.prec // 2 else None
