"""How late the newest candle is, by the calendar of its exchange."""

from __future__ import annotations

import numpy as np

from jts_storage.domain.calendar import DAY_MS, TradingCalendar, calendar_of, resolve
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.gaps import expected_timestamps

_LONGEST_CLOSURE_MS = 60 * DAY_MS
"""No exchange is closed for longer, and candles are not expected one by one over years."""


def late_ms(newest: int, now: int, timeframe: Timeframe, exchange: str) -> int | None:
    """For how long the first candle behind `newest` has been over, in milliseconds.

    0 where none is expected yet. None where nobody can say: the calendar of the exchange is not
    known, or the candles are of weeks or months.

    :raises StorageError: the calendar is not installed, cannot be made, or is not of that time.
    """
    if timeframe in (Timeframe.W1, Timeframe.MN1):
        return None
    name = calendar_of(exchange)
    if name is None:
        return None
    calendar = resolve(name)
    soon = min(now, newest + _LONGEST_CLOSURE_MS)
    expected = expected_timestamps(newest, soon, timeframe, calendar)
    later = expected[expected > newest]
    if not len(later):
        return 0
    return max(now - _end_of(int(later[0]), timeframe, calendar), 0)


def _end_of(begin: int, timeframe: Timeframe, calendar: TradingCalendar | None) -> int:
    """When a candle is complete: one of a day at the close of its session."""
    if timeframe.is_intraday:
        assert timeframe.step_ms is not None
        return begin + timeframe.step_ms
    if calendar is None:
        return begin + DAY_MS
    sessions = calendar.sessions(begin, begin + DAY_MS)
    place = int(np.searchsorted(sessions.dates, begin))
    return int(sessions.closes[place])
