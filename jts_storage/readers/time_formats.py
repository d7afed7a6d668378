"""Guess the strptime format of a moment, to name it in a message: a guess is never read by."""

from __future__ import annotations

import time

from jts_storage._runtime.surface import option

_DATES = (
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d-%b-%y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d.%m.%Y",
    "%m-%d-%Y",
    "%d-%m-%Y",
    "%a %b %d %Y",
    "%Y%m%d",
    "%Y-%m-%d",
    "%Y/%m/%d",
)
_TIMES = (
    "",
    " %H:%M",
    " %H:%M:%S",
    " %I:%M %p",
    " %I:%M:%S %p",
    " %I-%p",
    " %H%M",
    " %H%M%S",
    ", %H:%M",
)


def spelled(value: object) -> str | None:
    """Return how to read a moment that is not ISO 8601; None if it is of no known format."""
    found = formats_of(value) if isinstance(value, str) else []
    if not found:
        return None
    said = " or ".join(option("time_format", text) for text in found[:2])
    return f"Say how it is written: {said}."


def formats_of(text: str) -> list[str]:
    """Return the formats that fit, the common first; two where day and month may be either."""
    # One for each date: what is 13:45 as %H%M would be 13:04:05 as %H%M%S, too.
    clocks = (next((c for c in _TIMES if _fits(text, date + c)), None) for date in _DATES)
    return [date + clock for date, clock in zip(_DATES, clocks, strict=True) if clock is not None]


def _fits(text: str, form: str) -> bool:
    try:
        time.strptime(text.strip(), form)
    except ValueError:
        return False
    return True
