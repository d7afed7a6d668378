"""Candles that a unit of work has written but not committed, laid over what is stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, Protocol, TypeGuard

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain import checks
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.candle_changes import CandleChanges, SeriesChanges
from jts_storage.domain.changes import compare, pieces, rows_by_day
from jts_storage.domain.coarser import CoarserQuery, ReadsCoarser
from jts_storage.domain.columns import FIELDS
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.panel import CandlePanel, panel_of
from jts_storage.domain.panel_query import PanelQuery, ReadsPanels
from jts_storage.domain.results import Coverage, Page, SaveResult
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries, series_of
from jts_storage.ports.candles import CandleData, CandleReader
from jts_storage.ports.symbols import SymbolReader
from jts_storage.unit_of_work.staged.pages import codes_of, merged_page

_FEW_CANDLES = 100
_ONE = SaveResult(1)
_FIRST, _LAST = checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP


class StoredCandles(CandleReader, Protocol):
    """What is committed, as `ReadsPanels` reads it."""

    async def read_panel(self, asked: PanelQuery) -> CandlePanel: ...
    async def read_resampled(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel: ...
    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]: ...

    def stream_long(self, asked: PanelQuery, block_rows: int) -> AsyncIterator[CandlePanel]: ...

    async def symbols_of(self, market: Market) -> frozenset[str]: ...


class StagedCandles(ReadsPanels, ReadsCoarser):
    """A `CandleRepository` whose writes stay here until they are handed over.

    :param symbols: as this unit of work has them, if it has symbols.
    """

    def __init__(
        self,
        stored: StoredCandles,
        lifetime: Lifetime | None = None,
        symbols: SymbolReader | None = None,
    ) -> None:
        self._stored = stored
        self._symbols = symbols
        self._lifetime = lifetime or Lifetime()
        self.changes = CandleChanges()

    @property
    def _changes(self) -> dict[SeriesKey, SeriesChanges]:
        return self.changes.by_series()

    async def save_many(
        self, key: SeriesKey, candles: CandleData, *, detail: bool = False
    ) -> SaveResult:
        self._lifetime.check()
        if not detail and _are_few_candles(candles):
            # Each was checked when it was made: their columns can wait for those of others.
            if self.changes.add(checks.instance(key, SeriesKey, "key"), candles):
                await asyncio.sleep(0)
            return _ONE if len(candles) == 1 else _saved(candles)
        series, duplicates = series_of(key, candles)
        counts: dict[str, int] = {}
        if detail and len(series):
            assert series.start is not None and series.end is not None
            counts = compare(await self.get_range(key, series.start, series.end), series)
        elif detail:
            counts = {"inserted": 0, "replaced": 0, "unchanged": 0}
        self._lifetime.check()
        self.changes.save(SeriesRows.of(series))
        return SaveResult(len(series), duplicates, **counts)

    async def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        count = await self.count(key, start, end)
        self._lifetime.check()
        self.changes.delete(key, *checks.range_ms(start, end))
        return count

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        stored = await self._stored.get_range(key, start, end)
        changes = self._changes.get(key)
        return changes.over(stored, *checks.range_ms(start, end)) if changes else stored

    async def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        ends = checks.range_ms(start, end)
        return {
            key: self._changes[key].over(stored, *ends) if key in self._changes else stored
            for key, stored in (await self._stored.get_ranges(keys, start, end)).items()
        }

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        changed = [key for key in self._changes if asked.is_of(key)]
        if not changed:
            return await self._stored.read_panel(asked)
        ends = checks.from_ms(asked.first), checks.from_ms(asked.last)
        if asked.rows is not None and ends == (_FIRST, _LAST):
            series = {key: await self.get_latest(key, asked.rows) for key in changed}
        else:
            series = await self.get_ranges(changed, *ends)
        stored = await self._stored.read_panel(replace(asked, fields=FIELDS))
        others = (stored[key] for key in stored if key not in series)
        return asked.panel([*others, *series.values()])

    async def read_resampled(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel:
        if any(map(asked.is_of, self._changes)):
            return await super().read_resampled(asked, target, timezone)
        return await self._stored.read_resampled(asked, target, timezone)

    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        sizes = await self._stored.panel_sizes(asked)
        for key, change in self._changes.items():
            if asked.is_of(key):
                sizes[key] = sizes.get(key, 0) + change.upserts.rows
        return dict(sorted(sizes.items(), key=lambda item: item[0].sort_key))

    async def stream_long(self, asked: PanelQuery, block_rows: int) -> AsyncIterator[CandlePanel]:
        if any(map(asked.is_of, self._changes)):
            blocks = super().stream_long(asked, block_rows)
        else:
            blocks = self._stored.stream_long(asked, block_rows)
        async for panel in blocks:
            yield panel

    async def symbols_of(self, market: Market) -> frozenset[str]:
        if self._symbols is None:
            return await self._stored.symbols_of(market)
        return await codes_of(self._symbols, market)

    async def save_panel(self, panel: Any, *, timeframe: Timeframe | None = None) -> SaveResult:
        given, duplicates = panel_of(timeframe, panel)
        self._lifetime.check()
        self.changes.save(SeriesRows(tuple(given), given.offsets, given.columns))
        return SaveResult(given.rows, duplicates)

    async def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        changes = self._changes.get(key)
        asked = count
        while True:
            stored = await self._stored.get_latest(key, asked)
            if changes is None:
                return stored
            complete = len(stored) < asked
            first = _FIRST if complete or stored.start is None else stored.start
            latest = changes.over(stored, checks.to_ms(first), checks.to_ms(_LAST))
            if complete or len(latest) >= count:
                return latest.tail(count)
            asked *= 4

    async def get_coverage(self, key: SeriesKey) -> Coverage:
        if key not in self._changes:
            return await self._stored.get_coverage(key)
        async for block in self.stream(key, _FIRST, _LAST, block_rows=1_024):
            return Coverage(block.start, (await self.get_latest(key)).end)
        return Coverage(None, None)

    async def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        if key not in self._changes:
            return await self._stored.coverage_by_day(key, timezone=timezone)
        days: Counter[date] = Counter()
        async for block in self.stream(key, _FIRST, _LAST):
            days.update(rows_by_day(block, timezone))
        return dict(days)

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        stored = await self._stored.count(key, start, end)
        changes = self._changes.get(key)
        span = changes.span if changes else None
        if span is None:
            return stored
        first = max(span[0], checks.to_ms(start or _FIRST))
        last = min(span[1], checks.to_ms(end or _LAST))
        if last < first:
            return stored
        ends = checks.from_ms(first), checks.from_ms(last)
        affected = await self._stored.count(key, *ends)
        return stored - affected + len(await self.get_range(key, *ends))

    async def read_coarser(self, asked: CoarserQuery) -> CandleSeries:
        key, zone = asked.key, asked.timezone
        if key in self._changes:
            return await super().read_coarser(asked)
        return await self._stored.resample(key, asked.target, *asked.ends, timezone=zone)

    async def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 262_144
    ) -> AsyncIterator[CandleSeries]:
        changes = self._changes.get(key)
        first, last = checks.range_ms(start, end)
        async for block in self._stored.stream(key, start, end, block_rows=block_rows):
            if changes is None:
                yield block
                continue
            assert block.end is not None
            block_end = checks.to_ms(block.end)
            for piece in pieces(changes.over(block, first, block_end), block_rows):
                yield piece
            first = block_end + 1
        if changes is not None and first <= last:
            rest = changes.over(CandleSeries.empty(key), first, last)
            for piece in pieces(rest, block_rows):
                yield piece

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None
    ) -> Page[SeriesKey]:
        checks.whole(limit, "limit", below=2**31)
        staged = [key for key in self._changes if await self.count(key)]

        async def page(limit: int, after: SeriesKey | None) -> Sequence[SeriesKey]:
            return await self._stored.list_keys(limit=limit, after=after)

        found = await merged_page(
            page,
            staged,
            set(self._changes),
            key_of=lambda key: key,
            order=lambda key: key.sort_key,
            limit=min(limit + 1, 2**31 - 1),
            after=after,
        )
        return Page.first(limit, found)


def _saved(candles: Sequence[Candle]) -> SaveResult:
    written = len({candle.timestamp for candle in candles})
    return SaveResult(written, len(candles) - written)


def _are_few_candles(candles: object) -> TypeGuard[Sequence[Candle]]:
    if not isinstance(candles, (list, tuple)):  # as a union it would be made anew each time
        return False
    rows = len(candles)
    if rows == 1:
        return type(candles[0]) is Candle
    return 0 < rows <= _FEW_CANDLES and all(type(candle) is Candle for candle in candles)
