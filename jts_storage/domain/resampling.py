"""Coarser candles out of finer ones, a reduction over whole columns.

A bar of a day or longer is stamped with its date at 00:00 UTC: the date of its session where a
calendar is given, its local date in the time zone otherwise. Weeks begin on Monday.
"""

from __future__ import annotations

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.calendar import DAY_MS, Sessions, TradingCalendar
from jts_storage.domain.columns import Columns, Int64Array, UInt64Array
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData

_WEEK_MS = 7 * DAY_MS
_MONDAY_MS = 4 * DAY_MS  # 1970-01-05, the first Monday of the epoch


def zone(timezone: tzinfo | str) -> tzinfo:
    """:raises InvalidData: it is no zone, or there is none of that name."""
    if isinstance(timezone, tzinfo):
        return timezone
    if not isinstance(timezone, str):
        raise InvalidData("must be a time zone or its name", field="timezone", value=timezone)
    if timezone == "UTC":
        return UTC
    try:
        return ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as exc:
        raise InvalidData("is no time zone", field="timezone", value=timezone) from exc


def zone_name(timezone: tzinfo | str) -> str:
    """The name under which every store knows the zone.

    :raises InvalidData: it is no zone, or has no name.
    """
    found = zone(timezone)
    name = "UTC" if found is UTC else getattr(found, "key", None)
    if name is None:
        raise InvalidData("must be a zone with a name", field="timezone", value=str(timezone))
    return str(name)


def check_coarser(source: Timeframe, target: Timeframe) -> None:
    if not source.nests_in(target):
        raise InvalidData(
            f"candles of {source.value} cannot make up {target.value}",
            field="timeframe",
            value=target.value,
        )


def resample(
    columns: Columns,
    source: Timeframe,
    target: Timeframe,
    calendar: TradingCalendar | None,
    timezone: tzinfo,
) -> Columns:
    offsets = np.array([0, columns.rows], np.int64)
    return resample_each(columns, offsets, source, target, calendar, timezone)[0]


def resample_each(
    columns: Columns,
    offsets: Int64Array,
    source: Timeframe,
    target: Timeframe,
    calendar: TradingCalendar | None,
    timezone: tzinfo,
) -> tuple[Columns, Int64Array]:
    """Return the coarser candles of series that lie one after the other, and where each begins.

    :param offsets: where each series begins, and behind the last where it ends.
    """
    check_coarser(source, target)
    if not columns.rows:
        return columns, offsets
    stamps = _stamps(columns.timestamp, source, target, calendar, timezone)
    begins = np.append(True, stamps[1:] != stamps[:-1])
    begins[offsets[:-1][offsets[:-1] < columns.rows]] = True
    starts = np.flatnonzero(begins)
    last = np.append(starts[1:], columns.rows) - 1
    coarser = Columns(
        stamps[starts],
        columns.open[starts],
        np.maximum.reduceat(columns.high, starts),
        np.minimum.reduceat(columns.low, starts),
        columns.close[last],
        _summed(columns.volume, starts, stamps),
    )
    return coarser, np.searchsorted(starts, offsets).astype(np.int64)


def _stamps(
    timestamps: Int64Array,
    source: Timeframe,
    target: Timeframe,
    calendar: TradingCalendar | None,
    timezone: tzinfo,
) -> Int64Array:
    """The timestamp of the coarser bar that each row belongs to."""
    if not source.is_intraday:
        dates = timestamps // DAY_MS * DAY_MS
    elif calendar is not None:
        sessions = calendar.sessions(int(timestamps.min()), int(timestamps.max()))
        index = _session_of(timestamps, sessions)
        if target.is_intraday:
            resumes = sessions.break_ends[index]
            after_noon = (resumes != -1) & (timestamps >= resumes)
            opens = np.where(after_noon, resumes, sessions.opens[index])
            return opens + _floor(timestamps - opens, target)
        dates = sessions.dates[index]
    elif target.is_intraday:
        return _floor(timestamps, target)
    else:
        dates = (timestamps + utc_offsets(timestamps, timezone)) // DAY_MS * DAY_MS
    return period_starts(dates, target)


def period_starts(dates: Int64Array, timeframe: Timeframe) -> Int64Array:
    """The day, Monday or first of the month that each date (a UTC midnight) falls in."""
    if timeframe is Timeframe.D1:
        return dates
    if timeframe is Timeframe.W1:
        return (dates - _MONDAY_MS) // _WEEK_MS * _WEEK_MS + _MONDAY_MS
    return dates.view("M8[ms]").astype("M8[M]").astype("M8[ms]").astype(np.int64)


def _floor(values: Int64Array, target: Timeframe) -> Int64Array:
    step = target.step_ms
    assert step is not None
    return values // step * step


def _session_of(timestamps: Int64Array, sessions: Sessions) -> Int64Array:
    """Return where each row belongs: to the first session that has not closed before it.

    A bar stamped at the close itself (a closing auction) is still of that session; one from
    before the opening is of the session that it precedes.
    """
    index = np.searchsorted(sessions.closes, timestamps, side="left")
    # Where one session begins as the other closes, a bar of that moment is of the one that begins.
    following = np.minimum(index + 1, len(sessions) - 1)
    index = np.where(timestamps == sessions.opens[following], following, index)
    last = int(index.argmax())
    if index[last] >= len(sessions):
        raise InvalidData(
            "lies after the last session that the calendar knows",
            field="timestamp",
            value=str(checks.from_ms(int(timestamps[last]))),
            row=last,
        )
    return index.astype(np.int64)


def utc_offsets(timestamps: Int64Array, timezone: tzinfo) -> Int64Array | int:
    """The zone's offset from UTC in milliseconds at each row of an ascending column.

    A day at whose two ends the offset is the same has one offset; only on the two days a year on
    which a clock changes is every distinct minute asked.
    """
    if timezone is UTC:
        return 0
    days, day_of_row = np.unique(timestamps // DAY_MS, return_inverse=True)
    begin = _offsets_at(days * DAY_MS, timezone)
    changes = begin != _offsets_at((days + 1) * DAY_MS, timezone)
    offsets = begin[day_of_row]
    rows = np.flatnonzero(changes[day_of_row])
    if len(rows):
        minutes, minute_of_row = np.unique(timestamps[rows] // 60_000, return_inverse=True)
        offsets[rows] = _offsets_at(minutes * 60_000, timezone)[minute_of_row]
    return offsets


def _offsets_at(milliseconds: Int64Array, timezone: tzinfo) -> Int64Array:
    return np.fromiter(
        (
            int(checks.from_ms(int(ms)).astimezone(timezone).utcoffset().total_seconds() * 1000)  # type: ignore[union-attr]
            for ms in milliseconds
        ),
        np.int64,
        len(milliseconds),
    )


def _summed(volume: UInt64Array, starts: Int64Array, stamps: Int64Array) -> UInt64Array:
    sums = np.add.reduceat(volume, starts)
    # uint64 wraps around silently, so the sums are looked at as floats first.
    approximate = np.add.reduceat(volume.astype(np.float64), starts)
    over = approximate >= 2.0**63
    for bar in np.flatnonzero(over):  # only bars near the limit are added up exactly
        stop = starts[bar + 1] if bar + 1 < len(starts) else len(volume)
        if sum(map(int, volume[starts[bar] : stop])) >= checks.VOLUME_LIMIT:
            raise InvalidData(
                "the volumes of one bar add up to more than 2**64",
                field="volume",
                value=str(checks.from_ms(int(stamps[starts[bar]]))),
            )
    return sums
