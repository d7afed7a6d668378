"""Moments as text, brought into the form of ISO 8601 that Arrow reads, each by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jts_storage.domain.columns import AnyArray, Int64Array

OFFSET: Final = r"(Z|[+-]\d{2}:?\d{2}|[+-]\d{2})$"
_SPELLINGS: Final = (
    (r"^(\d{4})[./] ?(\d{1,2})[./] ?(\d{1,2})\.?", r"\1-\2-\3"),
    (r"^(\d{4})-(\d)-", r"\1-0\2-"),
    (r"^(\d{4}-\d{2})-(\d)(\D|$)", r"\1-0\2\3"),
    (r" ?UTC$", "Z"),
    (r" ([+-]\d{2})", r"\1"),
    (r"(\.\d{3})0+", r"\1"),
)
_MOST: Final = str(2**63 - 1)
_DIGITS: Final = r"\d{1,2}|([01]?\d|2[0-3])[0-5]\d([0-5]\d)?"
_CLOCK: Final = r"([01]\d|2[0-3])(:[0-5]\d){1,2}(\.\d+)?( ?(Z|UTC|[+-]\d{2}(:?\d{2})?))?"
TIME: Final = rf"^\s*({_CLOCK}|{_DIGITS})\s*$"
"""A time of day that can be read, with colons or as a number."""
HOURS, SECONDS = 4, 6
"""How many digits times of day have."""


def iso(column: Any) -> Any:
    """Rewrite moments that are almost ISO 8601: other separators, or more digits than needed."""
    column = pc.utf8_trim_whitespace(column)
    for pattern, becomes in _SPELLINGS:
        column = pc.replace_substring_regex(column, pattern, becomes)
    return column


def zone_of(text: str) -> bool | None:
    """Return whether a moment is written with an offset; None if it is no moment."""
    column = iso(pa.array([text]))
    found = column[0].as_py()
    has_zone = len(found) > 10 and re.search(OFFSET, found) is not None
    try:
        column.cast(pa.timestamp("ms", "UTC" if has_zone else None))
    except pa.ArrowInvalid:
        return None
    return has_zone


def from_digits(column: Any) -> Any:
    """``20240102``, ``202401020900`` and ``20240102090000`` with the marks of ISO 8601."""
    column = pc.utf8_trim_whitespace(column)
    column = pc.replace_substring_regex(column, r"\.0*$", "")
    column = pc.replace_substring_regex(column, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    column = pc.replace_substring_regex(
        column, r"^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})$", r"\1-\2-\3 \4:\5"
    )
    return pc.replace_substring_regex(
        column, r"^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})$", r"\1-\2-\3 \4:\5:\6"
    )


def whole_numbers(column: Any) -> tuple[Int64Array, AnyArray]:
    """The whole numbers of a column of text or numbers, and which rows have one.

    Text may have zeros behind a point.
    """
    if pa.types.is_floating(column.type):
        return _whole_floats(column)
    try:
        # Arrow takes 0x1F for a number, which nobody writes for a moment.
        is_text = pa.types.is_string(column.type)
        if not (column.null_count or (is_text and _any(pc.match_substring(column, "x")))):
            values = np.asarray(column.cast(pa.int64()).to_numpy(), np.int64)
            return values, np.ones(len(values), np.bool_)
    except pa.ArrowInvalid:  # the patterns cost far more than the cast
        pass
    text = pc.utf8_trim_whitespace(column.cast(pa.string()))
    text = pc.replace_substring_regex(text, r"\.0*$", "")
    found = np.asarray(pc.fill_null(pc.match_substring_regex(text, r"^-?\d{1,19}$"), False))
    digits = pc.utf8_ltrim(text, "-")
    fits = pc.or_(pc.less(pc.binary_length(digits), 19), pc.less_equal(digits, _MOST))
    found = found & np.asarray(pc.fill_null(fits, False))
    values = np.zeros(len(column), np.int64)
    values[found] = np.asarray(text.filter(pa.array(found)).cast(pa.int64()))
    return values, found


def _whole_floats(column: Any) -> tuple[Int64Array, AnyArray]:
    """Each by itself: one that is infinite, too large or has a fraction is none, and no more."""
    values = np.asarray(column.to_numpy(zero_copy_only=False), np.float64)
    # Compared so that NaN is none, which stands for null, too.
    found = (np.abs(values) < 2**63) & (np.trunc(values) == values)
    return np.where(found, values, 0).astype(np.int64), found


def _any(mask: Any) -> bool:
    return bool(pc.any(mask).as_py())


def time_digits(times: Any) -> int:
    """How many digits times of day have at most that are written as numbers; 0 if none is.

    What is no time of day, such as 999999, says nothing of the others.
    """
    text = pc.utf8_trim_whitespace(times.cast(pa.string()))
    digits = text.filter(pc.match_substring_regex(text, rf"^({_DIGITS})$"))
    return pc.max(pc.utf8_length(digits)).as_py() or 0


def width_of(digits: int) -> int:
    """How many digits all times of a source have, whose longest has so many; 0 if they have none.

    One column is written in one way: 500 is five o'clock, but beside 90000 five past midnight.
    Numbers of one or two digits alone may be anything.
    """
    return 0 if digits < 3 else HOURS if digits <= HOURS else SECONDS


def joined(date: Any, time: Any, width: int | None = None, *, as_written: bool = False) -> Any:
    """A column of dates and one of times (``0900``, ``90000``, ``09:00``) as one of text.

    Where one of the two is empty there is no moment: nobody means midnight by it.

    :param width: of times of the whole source that are written as numbers, as `width_of` gives it;
        None takes that of this column. Numbers of no such width cannot be read.
    :param as_written: whether they stay as they are instead, for the format that the caller gave.
    """
    width = width_of(time_digits(time)) if width is None else width
    date, time = (_filled(pc.utf8_trim_whitespace(part.cast(pa.string()))) for part in (date, time))
    if not as_written:
        # Arrow would take two digits for hours, and no text that begins with a blank.
        strange = pc.binary_join_element_wise("", time, " ")
        other = pc.if_else(pc.match_substring_regex(time, r"^\d+$"), strange, time)
    else:
        other = time
    if width:
        # Zeros in front are written where all have the same width, so another is a mistake.
        digits = pc.match_substring_regex(time, rf"^(\d{{{width}}}|0|[1-9]\d{{0,{width - 2}}})$")
        padded = pc.utf8_lpad(time, width, "0")
        spread = pc.replace_substring_regex(padded, r"^(\d{2})(\d{2})(\d{2})?$", r"\1:\2:\3")
        other = pc.if_else(digits, pc.replace_substring_regex(spread, ":$", ""), other)
    compact = pc.match_substring_regex(date, r"^\d{8}$")
    spread = pc.replace_substring_regex(date, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    return pc.binary_join_element_wise(pc.if_else(compact, spread, date), other, " ")


def dates_alone(date: Any, time: Any) -> Any:
    """A column of dates beside one of times that is empty in the source, but for what is no time.

    Where that stands, there is no moment.
    """
    time = pc.fill_null(pc.utf8_trim_whitespace(time.cast(pa.string())), "")
    is_empty = pc.equal(time, "")
    if pc.all(is_empty).as_py():
        return date
    date = date.cast(pa.string())
    return pc.if_else(is_empty, date, pc.binary_join_element_wise(date, time, " "))


def _filled(text: Any) -> Any:
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)


def first_refused(column: Any, convert: Callable[[Any], object]) -> int:
    """Return the first row that `convert` refuses, found by halving: Arrow does not name it."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            convert(column.slice(low, middle - low))
        except pa.ArrowInvalid:
            high = middle
        else:
            low = middle
    return low
