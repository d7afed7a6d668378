"""Which candles are missing between the first and the last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt

from jts_storage.domain import checks
from jts_storage.domain.calendar import Sessions, TradingCalendar
from jts_storage.domain.columns import Int64Array
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.resampling import period_starts


@dataclass(frozen=True, slots=True)
class Gap:
    """`bars` expected candles in a row that are missing, from `start` to `end`, both included."""

    start: datetime
    end: datetime
    bars: int


def find_gaps(
    timestamps: Int64Array, timeframe: Timeframe, calendar: TradingCalendar | None
) -> list[Gap]:
    if len(timestamps) < 2:
        return []
    expected = expected_timestamps(int(timestamps[0]), int(timestamps[-1]), timeframe, calendar)
    return as_gaps(expected, ~np.isin(expected, timestamps, assume_unique=True))


def as_gaps(expected: Int64Array, missing: npt.NDArray[np.bool_]) -> list[Gap]:
    """Neighbouring missing timestamps as one gap each."""
    # Between a True and a False the difference is set, at both ends of each gap.
    edges = np.flatnonzero(np.diff(np.concatenate(([False], missing, [False]))))
    return [
        Gap(checks.from_ms(int(expected[a])), checks.from_ms(int(expected[b - 1])), int(b - a))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]


def expected_timestamps(
    first: int, last: int, timeframe: Timeframe, calendar: TradingCalendar | None
) -> Int64Array:
    """Return when candles should begin between two moments, both included.

    Without a calendar the market never closes: the grid is counted from the first moment.
    """
    if calendar is None:
        grid = _unbroken(first, last, timeframe)
    else:
        sessions = calendar.sessions(first, last)
        if timeframe.is_intraday:
            assert timeframe.step_ms is not None
            grid = _session_grid(sessions, timeframe.step_ms)
        else:
            starts = period_starts(sessions.dates, timeframe)
            grid = starts[np.diff(starts, prepend=starts[:1] - 1) != 0]  # sorted as the dates are
    return grid[(grid >= first) & (grid <= last)]


def _unbroken(first: int, last: int, timeframe: Timeframe) -> Int64Array:
    if timeframe.step_ms is not None:
        return np.arange(first, last + 1, timeframe.step_ms, dtype=np.int64)
    months = np.arange(
        np.datetime64(first, "ms").astype("M8[M]"), np.datetime64(last, "ms").astype("M8[M]") + 1
    )
    return months.astype("M8[ms]").astype(np.int64)


def _session_grid(sessions: Sessions, step: int) -> Int64Array:
    """Bars counted from the opening, and anew from the end of a break at noon."""
    noon = sessions.break_starts != -1
    opens = np.concatenate((sessions.opens, sessions.break_ends[noon]))
    morning_closes = np.where(noon, sessions.break_starts, sessions.closes)
    closes = np.concatenate((morning_closes, sessions.closes[noon]))
    bars = -(-(closes - opens) // step)  # rounded up: the last bar may be cut short by the close
    bar = np.arange(int(bars.sum())) - np.repeat(np.cumsum(bars) - bars, bars)
    return np.sort(np.repeat(opens, bars) + bar * step)
