"""Candles as they are, and as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import date, datetime
from typing import Protocol

from jts_storage._runtime.reads_only import ReadsOnly
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.correction import Correction, Place, end_of
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.moments import AsOf, checked
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.results import Coverage, Page
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError
from jts_storage.ports.candles import CandleReader
from jts_storage.ports.history import View
from jts_storage.ports.lake import Lake
from jts_storage.unit_of_work.kept_candles import Purges


class TakesLakes(CandleReader, Protocol):
    """Reads what is committed now, and takes in what a lake holds."""

    async def import_lake(self, lake: Lake, job_id: str) -> int: ...


class Present(TakesLakes, Protocol):
    """And tells what was corrected."""

    async def corrections(
        self, key: SeriesKey, first: int, last: int, behind: Place, limit: int
    ) -> Page[Correction]: ...


class TimedCandles(ReadsOnly):
    """A `CandleStore` over readers of one moment each.

    :param view: gives all as of another moment.
    :param purges: tells which moments were purged.
    """

    place = "candles"

    def __init__(
        self, now: Present, view: Callable[[AsOf], Awaitable[View]], purges: Purges
    ) -> None:
        self._now, self._view, self._purges = now, view, purges

    async def import_lake(self, lake: Lake, job_id: str) -> int:
        return await self._now.import_lake(lake, job_id)

    async def get_range(
        self, key: SeriesKey, start: datetime, end: datetime, *, as_of: AsOf | None = None
    ) -> CandleSeries:
        return await (await self._at(as_of)).get_range(key, start, end)

    async def get_ranges(
        self,
        keys: Iterable[SeriesKey],
        start: datetime,
        end: datetime,
        *,
        as_of: AsOf | None = None,
    ) -> dict[SeriesKey, CandleSeries]:
        return await (await self._at(as_of)).get_ranges(keys, start, end)

    async def get_panel(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        last: int | None = None,
        as_of: AsOf | None = None,
    ) -> CandlePanel:
        return await (await self._at(as_of)).get_panel(
            timeframe,
            start,
            end,
            keys=keys,
            exchange=exchange,
            market=market,
            fields=fields,
            last=last,
        )

    async def get_latest_panel(
        self,
        timeframe: Timeframe,
        count: int = 1,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        as_of: AsOf | None = None,
    ) -> CandlePanel:
        return await (await self._at(as_of)).get_latest_panel(
            timeframe, count, keys=keys, exchange=exchange, market=market, fields=fields
        )

    async def resample_panel(
        self,
        timeframe: Timeframe,
        target: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        timezone: str = "UTC",
        as_of: AsOf | None = None,
    ) -> CandlePanel:
        return await (await self._at(as_of)).resample_panel(
            timeframe,
            target,
            start,
            end,
            keys=keys,
            exchange=exchange,
            market=market,
            timezone=timezone,
        )

    async def stream_panels(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        block_rows: int = 1_000_000,
        as_of: AsOf | None = None,
    ) -> AsyncIterator[CandlePanel]:
        reader = await self._at(as_of)
        async for each in reader.stream_panels(
            timeframe,
            start,
            end,
            keys=keys,
            exchange=exchange,
            market=market,
            fields=fields,
            block_rows=block_rows,
        ):
            yield each

    async def get_latest(
        self, key: SeriesKey, count: int = 1, *, as_of: AsOf | None = None
    ) -> CandleSeries:
        return await (await self._at(as_of)).get_latest(key, count)

    async def get_coverage(self, key: SeriesKey, *, as_of: AsOf | None = None) -> Coverage:
        return await (await self._at(as_of)).get_coverage(key)

    async def coverage_by_day(
        self, key: SeriesKey, *, timezone: str = "UTC", as_of: AsOf | None = None
    ) -> dict[date, int]:
        return await (await self._at(as_of)).coverage_by_day(key, timezone=timezone)

    async def count(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        as_of: AsOf | None = None,
    ) -> int:
        return await (await self._at(as_of)).count(key, start, end)

    async def resample(
        self,
        key: SeriesKey,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        timezone: str = "UTC",
        as_of: AsOf | None = None,
    ) -> CandleSeries:
        return await (await self._at(as_of)).resample(key, timeframe, start, end, timezone=timezone)

    async def stream(
        self,
        key: SeriesKey,
        start: datetime,
        end: datetime,
        *,
        block_rows: int = 262_144,
        as_of: AsOf | None = None,
    ) -> AsyncIterator[CandleSeries]:
        reader = await self._at(as_of)
        async for each in reader.stream(key, start, end, block_rows=block_rows):
            yield each

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None, as_of: AsOf | None = None
    ) -> Page[SeriesKey]:
        return await (await self._at(as_of)).list_keys(limit=limit, after=after)

    async def changes(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        since: AsOf | None = None,
        limit: int = 1_000,
        after: Correction | None = None,
    ) -> Page[Correction]:
        ends = checks.range_ms(start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP)
        checks.instance(key, SeriesKey, "key")
        checks.whole(limit, "limit", least=1, below=2**31)
        if after is not None:
            checks.instance(after, Correction, "after")
        asked = None if since is None else (await self._view(since)).commit
        while True:
            reach = await self._purges.reach(key)
            for commit in (asked, None if after is None else after.commit):
                if commit is not None:
                    reach.check(commit, key)
            if reach.kept is None:
                raise StorageError(
                    f"Nobody knows what was corrected of {key}: no history is kept.",
                    remedy="Set JTS_HISTORY=true: what is replaced from then on is kept.",
                )
            behind = end_of(max(reach.least, asked.version if asked else 0))
            if after is not None:
                behind = max(behind, after.place)
            found = await self._now.corrections(key, *ends, behind, limit)
            # What is purged or forgotten meanwhile is half there, half gone.
            if await self._purges.reach(key) == reach:
                return found

    async def purge_history(
        self,
        keys: Iterable[SeriesKey] | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        named = None
        if keys is not None:
            named = tuple(dict.fromkeys(checks.several(keys, SeriesKey, "keys")))
        if before is not None:
            checked(before, "before")
        return await self._purges.purge(named, before, despite_snapshots=despite_snapshots)

    async def _at(self, as_of: AsOf | None) -> CandleReader:
        return self._now if as_of is None else (await self._view(as_of)).candles
