"""What is stored of a series, what does not exist at its source, and what is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.calendar import DAY_MS, TradingCalendar, of_series, resolve
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Int64Array
from jts_storage.domain.gaps import Gap, as_gaps, expected_timestamps
from jts_storage.usecases.any_storage import AnyStorage

PREFIX = "coverage:"
_PAGE = 1_000
_EPOCH = date(1970, 1, 1)


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
        ends = await self._storage.candles.get_coverage(key)
        gaps: list[Gap] = []
        empty: list[Gap] = []
        by_day: Mapping[date, int] = {}
        if ends.first is not None and ends.last is not None:
            stamps = await self._timestamps(key, ends.first, ends.last)
            gaps, empty = await self._missing(key, ends.first, ends.last, calendar, stamps)
            if timezone == "UTC":
                by_day = _by_day(stamps)
            else:
                by_day = await self._storage.candles.coverage_by_day(key, timezone=timezone)
        return SeriesCoverage(
            key=key,
            rows=sum(by_day.values()),
            first=ends.first,
            last=ends.last,
            gaps=tuple(gaps),
            known_empty=tuple(empty),
            by_day=by_day,
        )

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
        checks.range_ms(start, end)
        stamps = await self._timestamps(key, start, end)
        gaps, _ = await self._missing(key, start, end, calendar, stamps)
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
        return [] if stored is None else [(a, b) for a, b in stored.data["empty"]]

    async def _missing(
        self,
        key: SeriesKey,
        start: datetime,
        end: datetime,
        calendar: TradingCalendar | str | None,
        stamps: Int64Array,
    ) -> tuple[list[Gap], list[Gap]]:
        """Return the unexplained gaps among stored timestamps, and those recorded as empty."""
        first, last = checks.range_ms(start, end)
        sessions = resolve(of_series(calendar, key.exchange))
        expected = expected_timestamps(first, last, key.timeframe, sessions)
        missing = ~np.isin(expected, stamps, assume_unique=True)
        empty = missing & _within(expected, await self.known_empty(key))
        return as_gaps(expected, missing & ~empty), as_gaps(expected, empty)

    async def _timestamps(self, key: SeriesKey, start: datetime, end: datetime) -> Int64Array:
        stamps: list[Int64Array] = []
        async for block in self._storage.candles.stream(key, start, end):
            stamps.append(block.columns.timestamp)  # noqa: PERF401 - a comprehension needs more
        return np.concatenate(stamps) if stamps else np.empty(0, np.int64)


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
    """How many there are of each day of UTC."""
    days, rows = np.unique(stamps // DAY_MS, return_counts=True)
    return {
        _EPOCH + timedelta(days=d): n for d, n in zip(days.tolist(), rows.tolist(), strict=True)
    }


def _name(key: SeriesKey) -> str:
    return f"{PREFIX}{key}"
