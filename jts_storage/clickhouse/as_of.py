"""Candles as they were when a version was the latest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from jts_storage.clickhouse import history_statements, statements
from jts_storage.clickhouse.cache import may_be_large
from jts_storage.clickhouse.candle_mappers import (
    by_time,
    copied,
    days_of,
    readable_keys,
    series_from_columns,
)
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.panels import PanelReader
from jts_storage.clickhouse.past_rows import counted
from jts_storage.clickhouse.statements import parameters
from jts_storage.clickhouse.tables import Tables
from jts_storage.clickhouse.unmerged import without_deleted
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.columns import Columns, empty
from jts_storage.domain.enums import Market
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.resampling import zone_name
from jts_storage.domain.results import Coverage, Page
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.streams import ReadsPieces

if TYPE_CHECKING:
    from jts_storage.clickhouse.candle_reader import ClickHouseCandleReader

_NOTHING: Final = np.empty(0, np.int64)


class CandlesAsOf(ReadsPieces):
    """A `CandleReader` of what was committed up to a version.

    :param present: reads what counts now.
    """

    def __init__(
        self,
        manager: ClickHouseManager,
        tables: Tables,
        version: int,
        present: ClickHouseCandleReader,
    ) -> None:
        self._manager, self._present, self._version = manager, present, version
        self._candles, self._history = tables.candles, tables.history
        self._source = history_statements.source_as_of(tables.candles, tables.history)
        self._panels = PanelReader(manager, tables.candles)

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        return await self._manager.run_read(self._range, key, *checks.range_ms(start, end))

    async def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        unique = list(dict.fromkeys(checks.several(keys, SeriesKey, "keys")))
        found: dict[SeriesKey, CandleSeries] = {}
        for timeframe in dict.fromkeys(key.timeframe for key in unique):
            of_timeframe = [key for key in unique if key.timeframe is timeframe]
            panel = await self.get_panel(timeframe, start, end, keys=of_timeframe)
            found |= {key: copied(series) for key, series in panel.items()}
        return {key: found.get(key) or CandleSeries.empty(key) for key in unique}

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        read = self._panels.read_as_of
        return await self._manager.run_read(read, asked, self._history, self._version)

    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        sizes = self._panels.sizes_as_of
        return await self._manager.run_read(sizes, asked, self._history, self._version)

    async def symbols_of(self, market: Market) -> frozenset[str]:
        return await self._present.symbols_of(market)

    async def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        limit = checks.whole(count, "count", least=1)
        query = history_statements.select_last(self._source)
        columns = await self._read(query, key, limit=limit)
        backwards = {name: column[::-1] for name, column in columns.items()}
        return series_from_columns(key, backwards)

    async def get_coverage(self, key: SeriesKey) -> Coverage:
        query = history_statements.select_coverage(self._source)
        bound = parameters(key, FIRST_MS, LAST_MS) | {"as_of": self._version}
        first, last, rows = (await self._manager.run_read(self._manager.execute, query, bound))[0]
        return Coverage(*map(checks.from_ms, (first, last))) if rows else Coverage(None, None)

    async def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        query = statements.select_days(self._source)
        return days_of(await self._read(query, key, timezone=zone_name(timezone)))

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        ends = start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP
        columns = await self._read(statements.select_count(self._source, bounded=True), key, *ends)
        return int(columns["rows"][0]) if columns else 0

    async def read_pieces(
        self, key: SeriesKey, first: int, last: int, rows: int
    ) -> AsyncIterator[CandleSeries]:
        while first <= last:
            piece, end_ms = await self._manager.run_read(self._piece, key, first, last, rows)
            yield CandleSeries.trusted(key, piece)
            first = end_ms + 1

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None
    ) -> Page[SeriesKey]:
        checks.whole(limit, "limit", below=2**31)
        query = history_statements.select_keys_as_of(self._candles, self._history)
        bound = {"as_of": self._version}
        found = await self._manager.run_read(self._manager.execute, query, bound)
        keys = sorted(readable_keys(found), key=lambda key: key.sort_key)
        if after is not None:
            keys = [key for key in keys if key.sort_key > after.sort_key]
        return Page.first(limit, keys)

    def _range(self, key: SeriesKey, first: int, last: int) -> CandleSeries:
        is_long = may_be_large(key, first, last)
        query = history_statements.select_lying(self._candles, ordered=is_long)
        lying = by_time(self._columns(query, key, first, last))
        former = self._former(key, first, last)
        return CandleSeries.trusted(key, self._as_of(key, first, last, lying, former))

    def _piece(self, key: SeriesKey, first: int, last: int, rows: int) -> tuple[Columns, int]:
        """Candles from about so many rows, and the time up to which there are no others."""
        query = history_statements.select_lying(self._candles, ordered=True, limited=True)
        while True:
            lying = self._columns(query, key, first, last, limit=rows)
            stamps = lying.get("ms", ())
            if len(stamps) < rows:
                break
            if stamps[0] != stamps[-1]:
                # There may be more rows of the last time.
                last = int(stamps[-1]) - 1
                rows = int(np.searchsorted(stamps, stamps[-1]))
                lying = {name: column[:rows] for name, column in lying.items()}
                break
            rows *= 2
        former = self._former(key, first, last, limit=rows + 1)
        former_stamps = former.get("ms", ())
        if len(former_stamps) > rows:
            # Those that replaced them were deleted by another program.
            last = int(former_stamps[-1])
            lying_yet = int(np.searchsorted(lying.get("ms", _NOTHING), last, side="right"))
            lying = {name: column[:lying_yet] for name, column in lying.items()}
            former = self._former(key, first, last)
        return self._as_of(key, first, last, lying, former), last

    def _former(
        self, key: SeriesKey, first: int, last: int, *, limit: int | None = None
    ) -> dict[str, Any]:
        """Former rows of a range, read behind those that lie there.

        What those replaced is kept before they are.
        """
        query = history_statements.select_former(self._history, limited=limit is not None)
        return self._columns(query, key, first, last, limit=limit)

    def _as_of(
        self,
        key: SeriesKey,
        first: int,
        last: int,
        lying: Mapping[str, Any],
        former: Mapping[str, Any],
    ) -> Columns:
        """The candles of a range, from its rows as they lie and the few that are former."""
        former_ms = former.get("ms", _NOTHING).view(np.int64)
        ms = lying.get("ms", _NOTHING).view(np.int64)
        if not len(ms) and not len(former_ms):
            return empty()
        found = counted(ms, lying, former_ms, former) if len(ms) else None
        if found is None:
            query = statements.select_range(self._source)
            return series_from_columns(key, self._columns(query, key, first, last)).columns
        return series_from_columns(key, without_deleted(found)).columns

    def _columns(
        self, query: str, key: SeriesKey, first: int, last: int, **more: Any
    ) -> dict[str, Any]:
        bound = parameters(key, first, last) | {"as_of": self._version} | more
        stored = statements.stored_types(self._candles)
        return self._manager.read_columns(query, bound, stored=stored)

    async def _read(
        self,
        query: str,
        key: SeriesKey,
        start: datetime = checks.FIRST_TIMESTAMP,
        end: datetime = checks.LAST_TIMESTAMP,
        **more: Any,
    ) -> dict[str, Any]:
        bound = parameters(key, *checks.range_ms(start, end)) | {"as_of": self._version} | more
        stored = statements.stored_types(self._candles)
        read = self._manager.read_columns
        return await self._manager.run_read(read, query, bound, stored=stored)
