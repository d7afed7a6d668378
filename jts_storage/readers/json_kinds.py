"""Which values of JSON show of what kind a column is: numbers, or text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from jts_storage.domain.columns import FIELDS
from jts_storage.readers.epochs import is_moment
from jts_storage.readers.moments import MOMENTS
from jts_storage.readers.numbers import THOUSANDS, NumberStyle

_NUMBERS: Final = tuple(
    re.compile(NumberStyle(decimal, thousands).number)
    for decimal in (".", ",")
    for thousands in (None, *THOUSANDS)
    if thousands != decimal
)
_A_DIGIT: Final = re.compile(r"\D*\d")
_SOME_DIGITS: Final = re.compile(r"(\D*\d){3}")
"""No date has fewer, in whatever format it is written."""


def undecided(targets: Mapping[str, str], values: Mapping[str, object]) -> dict[str, str]:
    """The columns, with their targets, of whose kind these values say nothing."""
    return {
        name: target
        for target, name in targets.items()
        if target in (*FIELDS, *MOMENTS) and not shows_kind(target, values.get(name))
    }


def shows_kind(target: str, value: object) -> bool:
    """Whether a value may be one of the column; text that says it is missing is none."""
    if isinstance(value, str):
        text = value.strip()
        if target in FIELDS:
            return any(number.match(text) for number in _NUMBERS)
        return (_A_DIGIT if target == "time" else _SOME_DIGITS).match(text) is not None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return target in FIELDS or target == "time" or is_moment(int(value))
