"""Which values of JSON show of what kind a column is: numbers, or text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from jts_storage.domain.columns import FIELDS
from jts_storage.readers.epochs import is_moment
from jts_storage.readers.moments import MOMENTS
from jts_storage.readers.numbers import THOUSANDS, NumberStyle
from jts_storage.readers.values import MISSING, MISSING_WORDS
from jts_storage.readers.written import TIME, zone_of

_NUMBERS: Final = tuple(
    re.compile(NumberStyle(decimal, thousands).number)
    for decimal in (".", ",")
    for thousands in (None, *THOUSANDS)
    if thousands != decimal
)
_A_DIGIT: Final = re.compile(r"\D*\d")
_SOME_DIGITS: Final = re.compile(r"(\D*\d){3}")
"""No date has fewer, in whatever format it is written."""
_TIME: Final = re.compile(TIME)
_MISSING: Final = re.compile(MISSING, re.IGNORECASE)
_ESCAPES: Final = dict(zip('"\\/\b\f\n\r\t', '"\\/bfnrt', strict=True))
_A_NUMBER: Final = re.compile(r"\s*-?\d+(\.0*)?\s*")


def is_missing(target: str, value: object) -> bool:
    """Whether a value says that there is no number."""
    if target not in FIELDS or not isinstance(value, str):
        return value is None
    return _MISSING.fullmatch(value) is not None


def with_nulls(lines: bytes, names: Iterable[str]) -> bytes:
    """The lines with null in place of text that says that a number is missing.

    :param names: of the columns of numbers.
    """
    return _missing_in(tuple(names)).sub(rb"\1null", lines)


@lru_cache
def _missing_in(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """A pattern of these names with text that says that a number is missing."""
    blank = b"(?:%b)*" % b"|".join(map(_spelled, " \t\n\r\f\v"))
    words = b"|".join(
        b"".join(b"(?:%b|%b)" % (_spelled(char), _spelled(char.upper())) for char in word)
        for word in MISSING_WORDS
    )
    known = b"|".join(b"".join(map(_spelled, name)) for name in names)
    # A quote within a text has a backslash in front, so nothing in it looks like a name.
    return re.compile(
        rb'((?<!\\)"(?:%b)"[ \t]*:[ \t]*)"%b(?:%b)?%b"' % (known, blank, words, blank)
    )


def _spelled(char: str) -> bytes:
    """A pattern of all that JSON may write for a character."""
    code = char.encode("utf-16-be").hex()
    units = [f"\\\\u(?i:{code[at : at + 4]})" for at in range(0, len(code), 4)]
    escape = [re.escape(f"\\{_ESCAPES[char]}")] if char in _ESCAPES else []
    itself = [] if char in '"\\' else [re.escape(char)]
    return f"(?:{'|'.join([*itself, *escape, ''.join(units)])})".encode()


def undecided(targets: Mapping[str, str], values: Mapping[str, object]) -> dict[str, str]:
    """The columns, with their targets, of whose kind these values say nothing for certain."""
    return {
        name: target
        for target, name in targets.items()
        if target in (*FIELDS, *MOMENTS) and not shows_kind(target, values.get(name))
    }


def shows_kind(target: str, value: object) -> bool:
    """Whether a value can be read as one of the column; text that says it is missing cannot."""
    if isinstance(value, str):
        text = value.strip()
        if target in FIELDS:
            return any(number.match(text) for number in _NUMBERS)
        # A number in quotes is read among numbers, too.
        if _A_NUMBER.fullmatch(text):
            return False
        return bool(_TIME.match(text)) if target == "time" else zone_of(text) is not None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if target in FIELDS or target == "time":
        return True
    return abs(value) < 2**63 and is_moment(int(value))


def may_be_text(target: str, value: object) -> bool:
    """Whether a value that shows no kind may be a moment, in a format that the caller says."""
    pattern = _A_DIGIT if target == "time" else _SOME_DIGITS
    return target in MOMENTS and isinstance(value, str) and pattern.match(value) is not None
