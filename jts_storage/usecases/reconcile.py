"""Compare the stores that keep the same bars in different forms."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from typing import Protocol

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import rows_by_day
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.resampling import zone
from jts_storage.domain.series import CandleSeries
from jts_storage.usecases.any_storage import AnyStorage

_PAGE = 1_000
# A call lists the folders of the lake once; two months of minutes take a few megabytes.
_DAYS_AT_ONCE = 60


class RawFiles(Protocol):
    """What is asked of a store of raw files: `jts_storage.lake.ParquetStorageEngine` fits."""

    def list_partitions(self, *, frame: Timeframe, symbol: str) -> Sequence[FileDay]:
        """The days of which it has files, in order."""
        ...

    def load_symbol_data(
        self, symbol: str, frame: Timeframe, *, start_date: date, end_date: date, exchange: str
    ) -> CandleSeries:
        """The candles of these days; blocking."""
        ...


class FileDay(Protocol):
    @property
    def trading_day(self) -> date: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Disagreement:
    """One day about which stores disagree; None is what a store knows nothing of.

    :param aggregate: what the bookkeeping counted.
    :param raw: the bars that the bookkeeping holds.
    :param candles: the candles stored.
    :param files: the rows of raw files.
    :param repair: what was done about it, or would be; None if a person must decide.
    """

    key: SeriesKey
    day: date
    aggregate: int | None
    raw: int | None
    candles: int | None
    files: int | None
    repair: str | None


class Reconcile:
    """Compares the bookkeeping of a series with its candles and, if given, its raw files."""

    def __init__(self, storage: AnyStorage, files: RawFiles | None = None) -> None:
        self._storage = storage
        self._files = files

    async def run(
        self, key: SeriesKey, *, timezone: str = "UTC", repair: bool = False
    ) -> list[Disagreement]:
        """The days about which the stores disagree, by day.

        :param repair: mend what loses nothing: candles are copied from raw bars or files where
            there are none, and counts of the bookkeeping follow the candles of days not yet
            complete.
        """
        # They count the bars that were collected, which are those of one minute.
        is_collected = key.timeframe is Timeframe.M1
        aggregates = await self._aggregates(key.symbol) if is_collected else {}
        candles = await self._storage.candles.coverage_by_day(key, timezone=timezone)
        bars = await self._raw_by_day(key, timezone)
        files = await self._files_by_day(key, timezone)
        found = []
        for day in sorted({*aggregates, *candles, *bars, *files}):
            state = aggregates.get(day)
            seen = Disagreement(
                key=key,
                day=day,
                aggregate=state.bar_count if state else None,
                raw=bars.get(day),
                candles=candles.get(day),
                files=files.get(day),
                repair=None,
            )
            if not _differs(seen):
                continue
            seen = replace(seen, repair=_repair_of(seen, state))
            if repair and seen.repair is not None:
                await self._mend(seen, state, timezone)
            found.append(seen)
        return found

    async def _aggregates(self, symbol: str) -> dict[date, SymbolBars]:
        found: dict[date, SymbolBars] = {}
        after: date | None = None
        while True:
            page = await self._storage.ingestion.symbol_bars.list(symbol, limit=_PAGE, after=after)
            found |= {bars.trading_day: bars for bars in page}
            if len(page) < _PAGE:
                return found
            after = page[-1].trading_day

    async def _raw_by_day(self, key: SeriesKey, timezone: str) -> Counter[date]:
        found: Counter[date] = Counter()
        ends = checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP
        async for block in self._storage.ingestion.bars.stream(key, *ends):
            found.update(rows_by_day(block, timezone))
        return found

    async def _files_by_day(self, key: SeriesKey, timezone: str) -> Counter[date]:
        found: Counter[date] = Counter()
        if self._files is None:
            return found
        listed = await asyncio.to_thread(
            self._files.list_partitions, frame=key.timeframe, symbol=key.symbol
        )
        days = [partition.trading_day for partition in listed]
        for first in range(0, len(days), _DAYS_AT_ONCE):
            part = days[first : first + _DAYS_AT_ONCE]
            found.update(rows_by_day(await self._load(key, part[0], part[-1]), timezone))
        return found

    async def _load(self, key: SeriesKey, first: date, last: date) -> CandleSeries:
        assert self._files is not None
        return await asyncio.to_thread(
            self._files.load_symbol_data,
            key.symbol,
            key.timeframe,
            start_date=first,
            end_date=last,
            exchange=key.exchange,
        )

    async def _mend(self, seen: Disagreement, state: SymbolBars | None, timezone: str) -> None:
        start, end = _ends(seen.day, timezone)
        async with self._storage.unit_of_work(source="reconcile") as uow:
            rows = seen.candles or 0
            if not rows and (seen.raw or seen.files):
                # The source with more rows: it has most likely seen the whole day.
                if (seen.raw or 0) >= (seen.files or 0):
                    bars = await uow.ingestion.bars.get_range(seen.key, start, end)
                else:
                    # A session may begin on the evening before its day.
                    around = seen.day - timedelta(days=1), seen.day + timedelta(days=1)
                    bars = (await self._load(seen.key, *around)).slice(start, end)
                await uow.candles.save_many(seen.key, bars)
                rows = len(bars)
            if state is not None and not state.is_complete and state.bar_count != rows:
                await uow.ingestion.symbol_bars.save(
                    replace(state, bar_count=rows, collection_started=True)
                )
            await uow.commit()


def _differs(seen: Disagreement) -> bool:
    candles = seen.candles or 0
    return any(
        count is not None and count != candles for count in (seen.aggregate, seen.raw, seen.files)
    )


def _repair_of(seen: Disagreement, state: SymbolBars | None) -> str | None:
    candles = seen.candles or 0
    if not candles and (seen.raw or seen.files):
        if (seen.raw or 0) >= (seen.files or 0):
            return f"copy {seen.raw} raw bars to the candles"
        return f"copy {seen.files} rows of files to the candles"
    if state is not None and not state.is_complete and state.bar_count != candles:
        return f"count {candles} bars"
    return None


def _ends(day: date, timezone: str) -> tuple[datetime, datetime]:
    local = zone(timezone)
    start = datetime.combine(day, time(), local)
    # Not a day of hours later: where a clock changes, a day has 23 or 25.
    stop = datetime.combine(day + timedelta(days=1), time(), local)
    return start, stop - timedelta(milliseconds=1)
