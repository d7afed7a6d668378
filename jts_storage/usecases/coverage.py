"""What is stored of a series, what does not exist at its source, and what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import Checkpoint
from jts_storage.domain.calendar import DAY_MS, TradingCalendar, of_series, resolve
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Int64Array
from jts_storage.domain.gaps import Gap, as_gaps, expected_timestamps
from jts_storage.domain.resampling import utc_offsets, zone
from jts_storage.usecases.any_storage import AnyStorage

PREFIX = "coverage:"
_PAGE = 1_000
_ALL_TIME = checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP
_SMALLEST = "volume"
"""A panel has one field at least beside the timestamps."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `start` to `end`, both included, with `bars` expected candles in it."""

    start: datetime
    end: datetime
    bars: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesCoverage:
    """How far a series goes and what it lacks.

    :param gaps: expected candles that are missing for an unknown reason.
    :param known_empty: missing candles for times at which, by the source, nothing was traded.
    :param by_day: how many candles each day has, in the time zone asked for.
    """

    key: SeriesKey
    rows: int
    first: datetime | None
    last: datetime | None
    gaps: tuple[Gap, ...]
    known_empty: tuple[Gap, ...]
    by_day: Mapping[date, int]

    @property
    def missing(self) -> int:
        return sum(gap.bars for gap in self.gaps)

    @property
    def complete(self) -> float:
        """The part of the expected candles that is stored or known to be empty."""
        expected = self.rows + self.missing
        return self.rows / expected if expected else 1.0


class Coverage:
    """Answers per series, by a trading calendar; without one the market never closes.

    The calendar ``"exchange"`` is that of the exchange of each series, where it has one.
    """

    def __init__(self, storage: AnyStorage) -> None:
        self._storage = storage

    async def keys(self) -> list[SeriesKey]:
        found: list[SeriesKey] = []
        while True:
            page = await self._storage.candles.list_keys(
                limit=_PAGE, after=found[-1] if found else None
            )
            found += page
            if not page.has_more:
                return found

    async def of(
        self,
        key: SeriesKey,
        *,
        calendar: TradingCalendar | str | None = None,
        timezone: str = "UTC",
    ) -> SeriesCoverage:
        """Return what is stored of `key`, and what is missing between its first and last candle."""
        stamps = await self._timestamps(key, checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
        return _covered(key, stamps, await self.known_empty(key), calendar, zone(timezone))

    async def of_many(
        self,
        keys: Iterable[SeriesKey],
        *,
        calendar: TradingCalendar | str | None = None,
        timezone: str = "UTC",
        progress: Callable[[int], object] | None = None,
    ) -> list[SeriesCoverage]:
        """Return what `of` returns of each series, in the order of `keys`, read many at a time.

        :param progress: called with how many series are done.
        """
        wanted = list(dict.fromkeys(checks.several(keys, SeriesKey, "keys")))
        place = zone(timezone)
        empty = await self._all_known_empty() if wanted else {}
        found: dict[SeriesKey, SeriesCoverage] = {}

        def note(key: SeriesKey, stamps: Int64Array) -> None:
            found[key] = _covered(key, stamps, empty.get(_name(key), []), calendar, place)
            if progress is not None:
                progress(len(found))

        async for key, stamps in self._timestamps_of(wanted):
            note(key, stamps)
        for key in wanted:
            if key not in found:
                note(key, np.empty(0, np.int64))
        return [found[key] for key in wanted]

    async def plan_backfill(
        self,
        key: SeriesKey,
        start: datetime,
        end: datetime,
        *,
        calendar: TradingCalendar | str | None = None,
    ) -> list[Range]:
        """Return the ranges to request from a source to fill the gaps from `start` to `end`.

        It leaves out what is stored and what was recorded with `record_empty`.

        :raises InvalidData: an end is naive, or the range runs backwards.
        """
        ends = checks.range_ms(start, end)
        stamps = await self._timestamps(key, start, end)
        gaps, _ = _missing(key, *ends, calendar, stamps, await self.known_empty(key))
        return [Range(gap.start, gap.end, gap.bars) for gap in gaps]

    async def record_empty(self, key: SeriesKey, start: datetime, end: datetime) -> None:
        """Record that, by the source, nothing was traded from `start` to `end`, both included."""
        asked = checks.range_ms(start, end)

        def with_range(data: Mapping[str, Any] | None) -> Mapping[str, Any]:
            known = [tuple(item) for item in (data or {}).get("empty", [])]
            # Kept beside the ranges, so that nobody has to parse the name of the checkpoint.
            names = [key.symbol, key.timeframe.value, key.exchange]
            step = key.timeframe.step_ms or 0
            return {"key": names, "empty": merged([*known, asked], step)}

        async with self._storage.unit_of_work() as uow:
            await uow.ingestion.checkpoints.update(_name(key), with_range)
            await uow.commit()

    async def known_empty(self, key: SeriesKey) -> list[tuple[int, int]]:
        """Return the ranges recorded as empty, in milliseconds, both ends included."""
        stored = await self._storage.ingestion.checkpoints.get(_name(key))
        return [] if stored is None else _ranges(stored)

    async def _all_known_empty(self) -> dict[str, list[tuple[int, int]]]:
        """The same of every series, by the names of their checkpoints."""
        found: dict[str, list[tuple[int, int]]] = {}
        after = PREFIX
        while True:
            page = await self._storage.ingestion.checkpoints.list(limit=_PAGE, after=after)
            of_coverage = [each for each in page if each.name.startswith(PREFIX)]
            found |= {each.name: _ranges(each) for each in of_coverage}
            if not page or len(of_coverage) < len(page):
                return found
            after = page[-1].name

    async def _timestamps(self, key: SeriesKey, start: datetime, end: datetime) -> Int64Array:
        stamps: list[Int64Array] = []
        async for block in self._storage.candles.stream(key, start, end):
            stamps.append(block.columns.timestamp)  # noqa: PERF401 - a comprehension needs more
        return np.concatenate(stamps) if stamps else np.empty(0, np.int64)

    async def _timestamps_of(
        self, keys: Sequence[SeriesKey]
    ) -> AsyncIterator[tuple[SeriesKey, Int64Array]]:
        """Yield the timestamps of each stored series, once it is read whole."""
        for timeframe in dict.fromkeys(key.timeframe for key in keys):
            of_frame = [key for key in keys if key.timeframe is timeframe]
            reading: SeriesKey | None = None  # it may go on in the next panel
            read: list[Int64Array] = []
            async for panel in self._storage.candles.stream_panels(
                timeframe, *_ALL_TIME, keys=of_frame, fields=[_SMALLEST]
            ):
                stamps = panel.column("timestamp")
                ends = panel.offsets.tolist()
                for key, first, last in zip(panel, ends, ends[1:], strict=False):
                    if reading not in (None, key):
                        yield reading, np.concatenate(read)
                        read = []
                    reading = key
                    read.append(stamps[first:last])
            if reading is not None:
                yield reading, np.concatenate(read)


def _covered(
    key: SeriesKey,
    stamps: Int64Array,
    known_empty: Sequence[tuple[int, int]],
    calendar: TradingCalendar | str | None,
    timezone: tzinfo,
) -> SeriesCoverage:
    if not len(stamps):
        return SeriesCoverage(
            key=key, rows=0, first=None, last=None, gaps=(), known_empty=(), by_day={}
        )
    first, last = int(stamps[0]), int(stamps[-1])
    gaps, empty = _missing(key, first, last, calendar, stamps, known_empty)
    return SeriesCoverage(
        key=key,
        rows=len(stamps),
        first=checks.from_ms(first),
        last=checks.from_ms(last),
        gaps=tuple(gaps),
        known_empty=tuple(empty),
        by_day=_by_day(stamps + utc_offsets(stamps, timezone)),
    )


def _missing(
    key: SeriesKey,
    first: int,
    last: int,
    calendar: TradingCalendar | str | None,
    stamps: Int64Array,
    known_empty: Sequence[tuple[int, int]],
) -> tuple[list[Gap], list[Gap]]:
    """Return the unexplained gaps among stored timestamps, and those recorded as empty."""
    sessions = resolve(of_series(calendar, key.exchange))
    expected = expected_timestamps(first, last, key.timeframe, sessions)
    missing = ~np.isin(expected, stamps, assume_unique=True)
    empty = missing & _within(expected, known_empty)
    return as_gaps(expected, missing & ~empty), as_gaps(expected, empty)


def _ranges(stored: Checkpoint) -> list[tuple[int, int]]:
    return [(first, last) for first, last in stored.data["empty"]]


def merged(ranges: Iterable[Sequence[int]], step: int = 0) -> list[list[int]]:
    """Join ranges that overlap or are at most `step` apart; both ends are included."""
    result: list[list[int]] = []
    for first, last in sorted(map(tuple, ranges)):
        if result and first <= result[-1][1] + step:
            result[-1][1] = max(result[-1][1], last)
        else:
            result.append([first, last])
    return result


def _within(moments: Int64Array, ranges: Sequence[tuple[int, int]]) -> np.ndarray[Any, Any]:
    inside = np.zeros(len(moments), np.bool_)
    for first, last in ranges:
        begin, stop = np.searchsorted(moments, (first, last + 1))
        inside[begin:stop] = True
    return inside


def _by_day(stamps: Int64Array) -> dict[date, int]:
    """How many there are of each day."""
    days, rows = np.unique(stamps // DAY_MS, return_counts=True)
    dates: list[date] = days.astype("M8[D]").tolist()
    return dict(zip(dates, rows.tolist(), strict=True))


def _name(key: SeriesKey) -> str:
    return f"{PREFIX}{key}"
