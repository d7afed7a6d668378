"""Numbers as people write them, to text that Arrow reads exactly. No float is ever made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage.domain import checks
from jts_storage.domain.columns import Int64Array
from jts_storage.errors import InvalidData

_POINT, _SLASH, _NINE = b"./9"
THOUSANDS = (",", ".", " ", "'")


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """How numbers are written: ``1,234.5`` has the decimal mark ``.``, ``1.234,5`` has ``,``.

    :param thousands: the mark between thousands; None takes commas beside a decimal point, points
        and blanks beside a decimal comma.
    """

    decimal: str = "."
    thousands: str | None = None

    def __post_init__(self) -> None:
        if self.decimal not in (".", ","):
            raise InvalidData("must be '.' or ','", field="decimal", value=self.decimal)
        check_thousands(self.thousands)
        if self.decimal == self.thousands:
            raise InvalidData(
                "must not be the decimal mark too", field="thousands", value=self.thousands
            )

    @property
    def marks_between(self) -> str:
        """What may stand between thousands: one of these marks, the same in the whole number."""
        return self.thousands or ("," if self.decimal == "." else ". ")

    @property
    def between(self) -> str:
        """A pattern of what may stand between thousands."""
        return f"[{self.marks_between}]"

    @property
    def grouped(self) -> str:
        """A pattern of numbers with marks between thousands."""
        return f"^{self._grouped}$"

    @property
    def number(self) -> str:
        """A pattern of all numbers that are read in this style."""
        mark = f"[{self.decimal}]"
        plain = rf"[+-]?(\d+{mark}?\d*|{mark}\d+)([eE][+-]?\d+)?"
        return f"^({self._grouped}|{plain})$"

    @property
    def _grouped(self) -> str:
        groups = "|".join(rf"([{mark}]\d{{3}})+" for mark in self.marks_between)
        return rf"[+-]?[1-9]\d{{0,2}}({groups})([{self.decimal}]\d*)?"


def check_thousands(mark: str | None) -> None:
    """:raises InvalidData: it is not one of the marks between thousands."""
    if mark is not None and mark not in THOUSANDS:
        raise InvalidData("must be ',', '.', ' ' or \"'\"", field="thousands", value=mark)


def given_style(decimal: str | None, thousands: str | None) -> NumberStyle | None:
    """Return the style the caller gave; None if the decimal mark must be found in the numbers."""
    if decimal is None and thousands in (".", ","):
        decimal = "," if thousands == "." else "."
    return NumberStyle(decimal, thousands) if decimal is not None else None


def plain_numbers(column: Any, style: NumberStyle) -> Any:
    """Remove blanks and thousands marks, and write decimals with a point.

    Text that is not a number is left as it is: the reader behind this names its row.
    """
    if style.decimal == "." and is_plain(column):
        return column
    column = pc.utf8_trim_whitespace(column)
    if style.decimal == ",":
        return _with_decimal_comma(column, style)
    return _without_thousands(column, style)


def is_plain(column: Any) -> bool:
    """Return whether every text has digits and points only, and at least one, as most columns have.

    Looked at as bytes, which costs a small part of what a pattern does.
    """
    return _plain_bytes(column) is not None


def has_marks(column: Any) -> bool:
    """Return whether some text has more than digits."""
    plain = _plain_bytes(column)
    return plain is None or bool((plain[0] == _POINT).any())


def plain_prices(column: Any) -> tuple[Int64Array, int] | None:
    """Prices times 10**4, and how many decimals are written, if it is the same number in all.

    Removing the points and reading integers is twice as fast as reading decimals. None means that
    the texts are not uniform or too large, so they have to be read as decimals.
    """
    plain = _plain_bytes(column)
    if plain is None:
        return None
    # All texts lie in one buffer: without the points it holds the digits of every price.
    written, ends = plain
    is_point = written == _POINT
    points = int(np.count_nonzero(is_point))
    decimals = 0
    if points:
        decimals = int(ends[1]) - 1 - int(is_point[: ends[1]].argmax())
        stops = ends[1:]
        fits = points == len(stops) and decimals <= checks.PRICE_DECIMALS
        if not (fits and (np.diff(ends) > decimals).all() and is_point[stops - 1 - decimals].all()):
            return None
        written = written[~is_point]
        ends = np.subtract(ends, np.arange(len(ends)), dtype=np.int32, casting="unsafe")
    digits = pa.Array.from_buffers(
        pa.string(), len(column), [None, pa.py_buffer(ends), pa.py_buffer(written)]
    )
    try:
        values = np.asarray(digits.cast(pa.int64()))
    except pa.ArrowInvalid:
        return None
    factor = 10 ** (checks.PRICE_DECIMALS - decimals)
    if int(values.max()) >= checks.PRICE_LIMIT // factor:
        return None
    return values * factor, decimals


def _plain_bytes(column: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]] | None:
    """Return the bytes of all texts joined, and the offset of each; None if they are not plain."""
    if not len(column) or column.null_count:
        return None
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32, len(column) + 1, column.offset * 4)
    if not np.diff(ends).all():
        return None
    written = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    if ((written > _NINE) | (written < _POINT) | (written == _SLASH)).any():
        return None
    return written, ends - ends[0]


def _with_decimal_comma(column: Any, style: NumberStyle) -> Any:
    column = _without_thousands(column, style)
    # A point that separates no thousands is not a decimal mark here. As an apostrophe it makes the
    # reader behind this refuse the number.
    column = pc.if_else(
        pc.match_substring(column, "."), pc.replace_substring(column, ".", "'"), column
    )
    return pc.replace_substring(column, ",", ".")


def _without_thousands(column: Any, style: NumberStyle) -> Any:
    grouped = pc.match_substring_regex(column, style.grouped)
    if not pc.any(grouped).as_py():
        return column
    return pc.if_else(grouped, pc.replace_substring_regex(column, style.between, ""), column)
