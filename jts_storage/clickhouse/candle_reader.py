"""Reading candles from ClickHouse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from math import inf
from time import monotonic
from typing import Any, TypeVar

from jts_storage.clickhouse import statements
from jts_storage.clickhouse.as_of import CandlesAsOf
from jts_storage.clickhouse.cache import DEFAULT_BYTES, RangeCache, may_be_large
from jts_storage.clickhouse.candle_mappers import (
    by_time,
    copied,
    days_of,
    may_overflow,
    readable_keys,
    series_from_columns,
    series_from_end,
    series_from_rows,
)
from jts_storage.clickhouse.candle_rows import KEY, CandleSource, latest, original
from jts_storage.clickhouse.held_answers import FirstAndLast, LatestCandles, NumberOfCandles
from jts_storage.clickhouse.history_statements import select_stored
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.panels import PanelReader
from jts_storage.clickhouse.statements import STREAM_SETTINGS, parameters
from jts_storage.clickhouse.stored_rows import of_one
from jts_storage.clickhouse.symbol_statements import select_codes
from jts_storage.clickhouse.tables import Tables, build
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.coarser import CoarserQuery
from jts_storage.domain.columns import FIELDS
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery, rows_at_once
from jts_storage.domain.resampling import zone_name
from jts_storage.domain.results import Coverage, Page
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.streams import ReadsPieces
from jts_storage.errors import SchemaDrift

_FEW_KEYS = 8
"""Up to so many keys are read side by side, and may be held; more are read by one statement."""

_MOST_LATEST_HELD = 10
"""Up to so many of the latest candles of a series are held."""

_GIVEN_IN_A_ROW = 64
"""So many held ranges and answers are given before other tasks have a turn."""

_T = TypeVar("_T")

_MERGE_SECONDS = 60.0
"""For how long duplicate rows that were met are expected again: the engine merges when it likes."""


class ClickHouseCandleReader(ReadsPieces):
    """A `CandleReader` over one `ClickHouseManager`, its blocking work done in threads.

    :param cache_bytes: how much of what was read to hold, to be given again as long as the table
        is provably unchanged; 0 holds nothing.
    :param max_age: for how many seconds what a server said of its table is believed, so that one
        question serves many reads. What others wrote meanwhile is not seen until then.
    :param tables: the declared tables, if not those of `tables.build`.
    """

    def __init__(
        self,
        manager: ClickHouseManager,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        max_age: float = 0.0,
        tables: Tables | None = None,
    ) -> None:
        self._manager = manager
        tables = tables or build(manager.config.cluster)
        self._tables = tables
        self._candles, self._symbols = tables.candles, tables.symbols
        self._stored_types = statements.stored_types(self._candles)
        self._cache = RangeCache(manager, self._candles, cache_bytes, max_age)
        self._given_at_once = 0
        self._panels = PanelReader(manager, self._candles)
        self._is_ours = False
        self._is_distributed = False
        self._partition_key = ""
        self._duplicates_met_at: dict[SeriesKey, float] = {}

    def as_of(self, version: int) -> CandlesAsOf:
        """Reads what was committed up to a version."""
        return CandlesAsOf(self._manager, self._tables, version, self)

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        first, last = checks.range_ms(start, end)
        checks.instance(key, SeriesKey, "key")
        held = self._cache.held(key, first, last)
        if held is None:
            return await self._manager.run_read(self._get_range, key, first, last)
        return await self._given(held)

    async def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        unique = list(dict.fromkeys(checks.several(keys, SeriesKey, "keys")))
        ends = checks.range_ms(start, end)
        if len(unique) <= _FEW_KEYS:
            found = await asyncio.gather(*(self.get_range(key, start, end) for key in unique))
            return dict(zip(unique, found, strict=True))
        found_of_all: dict[SeriesKey, CandleSeries] = {}
        for timeframe in dict.fromkeys(key.timeframe for key in unique):
            keys = tuple(key for key in unique if key.timeframe is timeframe)
            panel = await self.read_panel(PanelQuery(timeframe, *ends, keys, None))
            # Copied, so that one series does not keep the memory of all.
            found_of_all |= {key: copied(series) for key, series in panel.items()}
        return {key: found_of_all.get(key) or CandleSeries.empty(key) for key in unique}

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        return await self._manager.run_read(self._get_panel, asked)

    async def read_resampled(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel:
        found = await self._manager.run_read(self._resampled_panel, asked, target, timezone)
        if found is None:
            return await super().read_resampled(asked, target, timezone)
        return found

    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        return await self._manager.run_read(self._panel_sizes, asked)

    async def symbols_of(self, market: Market) -> frozenset[str]:
        query, bound = select_codes(self._symbols), {"market": market.value}
        found = await self._manager.run_read(self._manager.execute, query, bound)
        return frozenset(code for (code,) in found)

    async def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        checks.whole(count, "count", least=1)
        checks.instance(key, SeriesKey, "key")
        if count > _MOST_LATEST_HELD:
            return await self._manager.run_read(self._get_latest, key, count)
        return await self._answer(LatestCandles(count), key, lambda: self._get_latest(key, count))

    async def get_coverage(self, key: SeriesKey) -> Coverage:
        checks.instance(key, SeriesKey, "key")
        return await self._answer(FirstAndLast(), key, lambda: self._get_coverage(key))

    async def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        return days_of(await self._read(statements.select_days, key, timezone=zone_name(timezone)))

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        ends = checks.range_ms(start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP)
        bounded = start is not None or end is not None
        checks.instance(key, SeriesKey, "key")
        return await self._answer(
            NumberOfCandles(*ends), key, lambda: self._count(key, *ends, bounded=bounded)
        )

    async def read_coarser(self, asked: CoarserQuery) -> CandleSeries:
        key, target, zone = asked.key, asked.target, asked.timezone
        columns = await self._read(
            lambda source: statements.select_resampled(
                source, key.timeframe, target, is_utc=zone == "UTC"
            ),
            key,
            asked.first,
            asked.last,
            settings=statements.RESAMPLE_SETTINGS,
            timezone=zone,
        )
        # ClickHouse's sums wrap around silently; those in Python are checked.
        if columns and may_overflow(columns):
            return await super().read_coarser(asked)
        return series_from_columns(SeriesKey(key.symbol, target, key.exchange), columns)

    async def read_pieces(
        self, key: SeriesKey, first: int, last: int, rows: int
    ) -> AsyncIterator[CandleSeries]:
        # Each piece is a statement of its own: nothing is held open between them, and a broken
        # connection costs a repetition, not the stream.
        while first <= last:
            piece = await self._manager.run_read(self._get_piece, key, first, last, rows)
            yield piece
            if len(piece) < rows:
                return
            first = int(piece.columns.timestamp[-1]) + 1

    async def stream_long(self, asked: PanelQuery, block_rows: int) -> AsyncIterator[CandlePanel]:
        # All fields are read quicker, and of the original table only, by the key of one series.
        if asked.fields == FIELDS or not (await self._manager.run_read(self._source)).has_versions:
            async for panel in super().stream_long(asked, block_rows):
                yield panel
            return
        rows = rows_at_once(block_rows)
        while asked.first <= asked.last:
            panel = await self._manager.run_read(self._panels.first_rows, asked, rows)
            for block in panel.pieces(block_rows):
                yield block
            if panel.rows < rows:
                return
            asked = replace(asked, first=int(panel.column("timestamp")[-1]) + 1)

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None
    ) -> Page[SeriesKey]:
        checks.whole(limit, "limit", below=2**31)
        found = await self._answer(
            ("keys", limit, after), None, lambda: tuple(self._list_keys(limit + 1, after))
        )
        return Page.first(limit, found)

    async def _answer(self, what: Hashable, key: SeriesKey | None, ask: Callable[[], _T]) -> _T:
        """Return an answer that is held, or ask for it in a thread."""
        held = self._cache.answered(what, key)
        if held is None:
            return await self._manager.run_read(self._cache.answer, what, key, ask)
        return await self._given(held)

    async def _given(self, held: _T) -> _T:
        """Return what is held, and now and then let other tasks run: nothing is waited for."""
        self._given_at_once += 1
        if self._given_at_once % _GIVEN_IN_A_ROW == 0:
            await asyncio.sleep(0)
        return held

    # ---- blocking

    def _get_range(self, key: SeriesKey, first: int, last: int) -> CandleSeries:
        return self._cache.get(key, first, last, lambda: self._read_range(key, first, last))

    def _read_range(self, key: SeriesKey, first: int, last: int) -> CandleSeries:
        """Read rows without their state first: it is quicker, and shows whether any compete.

        Where some do, read again with their state, and for the next minute so at once.
        """
        attempted = self._duplicates_met_at.get(key, -inf)
        if self._source().has_versions and monotonic() - attempted >= _MERGE_SECONDS:
            is_long = may_be_large(key, first, last)
            query = statements.select_rows(self._source(), ordered=is_long)
            rows = self._read_columns(query, parameters(key, first, last))
            series = series_from_rows(key, by_time(rows))
            if series is not None:
                self._duplicates_met_at.pop(key, None)
                return series
            self._duplicates_met_at[key] = monotonic()
        return self._merged_range(key, first, last)

    def _merged_range(self, key: SeriesKey, first: int, last: int) -> CandleSeries:
        bound = parameters(key, first, last)
        if not self._source().has_versions:
            query = statements.select_range(self._source())
            return series_from_columns(key, self._read_columns(query, bound))
        query = select_stored(self._candles, one=True, since=False)
        return CandleSeries.trusted(key, of_one(self._read_columns(query, bound)).present)

    def _get_panel(self, asked: PanelQuery) -> CandlePanel:
        if self._source().has_versions:
            return self._panels.read(asked)
        wanted = self._keys_of(asked)
        return asked.panel(self._get_range(key, asked.first, asked.last) for key in wanted)

    def _resampled_panel(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel | None:
        if not self._source().has_versions:
            return None
        return self._panels.resampled(asked, target, timezone)

    def _panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        if self._source().has_versions:
            return self._panels.sizes(asked)
        ranges = {
            key: self._get_range(key, asked.first, asked.last) for key in self._keys_of(asked)
        }
        return {key: len(series) for key, series in ranges.items() if len(series)}

    def _keys_of(self, asked: PanelQuery) -> list[SeriesKey]:
        keys = self._list_keys(2**31 - 1, None) if asked.keys is None else asked.keys
        return [key for key in keys if asked.is_of(key)]

    def _get_piece(self, key: SeriesKey, first: int, last: int, rows: int) -> CandleSeries:
        query = statements.select_range(self._source(), limited=True)
        bound = parameters(key, first, last) | {"limit": rows}
        columns = self._read_columns(query, bound, settings=STREAM_SETTINGS)
        return series_from_columns(key, columns)

    def _get_latest(self, key: SeriesKey, count: int) -> CandleSeries:
        return self._end(key, count, newest=True).tail(count)

    def _count(self, key: SeriesKey, first: int, last: int, *, bounded: bool) -> int:
        query = statements.select_count(self._source(), bounded=bounded)
        columns = self._read_columns(query, parameters(key, first, last))
        return int(columns["rows"][0]) if columns else 0

    def _get_coverage(self, key: SeriesKey) -> Coverage:
        begun = self._manager.changes.number
        last = self._end(key, 1, newest=True)
        while len(last):
            first, before = self._end(key, 1, newest=False), last
            # A commit in between may have moved both ends: no moment had the one and the other.
            if self._cache.is_unchanged(begun, key):
                return Coverage(first.start, last.end)
            begun = self._manager.changes.number
            last = self._end(key, 1, newest=True)
            if last == before and len(first):
                return Coverage(first.start, last.end)
        return Coverage(None, None)

    def _end(self, key: SeriesKey, count: int, *, newest: bool) -> CandleSeries:
        """At least `count` candles from one end of the series, or all there are."""
        # Each may be there twice, and the last timestamp may be cut off.
        asked = 2 * count + 2
        while True:
            query = statements.select_end(self._source(), newest=newest)
            bound = parameters(key, FIRST_MS, LAST_MS) | {"limit": asked}
            columns = self._read_columns(query, bound)
            is_cut = len(columns.get("ms", ())) == asked
            series = series_from_end(key, columns, is_cut=is_cut)
            if len(series) >= count or not is_cut:
                return series
            asked *= 4  # deletions or duplicates have left too few

    def _list_keys(self, limit: int, after: SeriesKey | None) -> list[SeriesKey]:
        found: list[SeriesKey] = []
        cursor = after.sort_key if after else ("", "", "")
        with_deletions = self._keys_with_deletions()
        while True:
            bound = dict(zip(KEY, cursor, strict=True)) | {"limit": limit}
            query = statements.select_keys(self._candles, after=any(cursor))
            page = self._manager.execute(query, bound)
            found += [
                key
                for key in readable_keys(page)
                # All candles of a series may be deleted; only then its last one is asked for.
                if key.sort_key not in with_deletions or len(self._get_latest(key, 1))
            ]
            cursor = page[-1] if page else cursor
            if len(page) < limit or len(found) >= limit:
                return found[:limit]

    def _keys_with_deletions(self) -> set[tuple[str, ...]]:
        if not self._source().has_versions:
            return set()
        query = statements.select_keys_with_deletions(self._candles)
        return {tuple(row) for row in self._manager.execute(query)}

    async def _read(
        self,
        build: Any,
        key: SeriesKey,
        first: int = FIRST_MS,
        last: int = LAST_MS,
        *,
        settings: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            query = build(self._source())
            return self._read_columns(query, parameters(key, first, last) | more, settings=settings)

        return await self._manager.run_read(read)

    def _read_columns(
        self,
        query: str,
        bound: dict[str, Any],
        *,
        settings: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        return self._manager.read_columns(
            query, bound, stored=self._stored_types, settings=settings
        )

    def _source(self) -> CandleSource:
        if self._is_ours:
            return latest(self._candles)
        found = self._manager.execute(statements.select_engine(self._candles))
        if not found:
            raise SchemaDrift(
                "Table candles does not exist.", remedy="Run `jts-storage migrate up`."
            )
        # The original table is asked for each time: a migration may replace it at any moment.
        engine, partition_key = found[0]
        is_distributed = self._is_distributed = engine == "Distributed"
        # What lies behind is not asked, so it may be split by year too.
        self._partition_key = self._by_year if is_distributed else partition_key
        self._is_ours = "Replacing" in engine or is_distributed
        return (latest if self._is_ours else original)(self._candles)

    @property
    def _by_year(self) -> str:
        return statements.by_year(self._candles)
