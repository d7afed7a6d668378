"""Candles and raw bars in columns."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import date, datetime
from typing import Any

import numpy as np

from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain import checks
from jts_storage.domain.arrow import open_parquet
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import SeriesChanges
from jts_storage.domain.changes import compare, rows_by_day
from jts_storage.domain.columns import Columns, concatenate, empty, in_order
from jts_storage.domain.correction import Correction, Place
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.panel import CandlePanel, panel_of
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.results import Coverage, Page, SaveResult
from jts_storage.domain.series import CandleSeries, series_of
from jts_storage.domain.streams import ReadsPieces
from jts_storage.errors import InvalidData, NotFound
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.past import Past
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.models.table_repository import ReadOnly
from jts_storage.ports.candles import CandleData
from jts_storage.ports.lake import Lake
from jts_storage.unit_of_work.staged.pages import codes_of


class InMemoryCandleRepository(ReadsPieces):
    """A `CandleRepository` over columns by key; raw bars are kept by one of the same kind."""

    def __init__(
        self, database: MemoryDatabase, columns: dict[SeriesKey, Columns] | None = None
    ) -> None:
        self._database = database
        self._columns = database.candles if columns is None else columns

    async def save_many(
        self, key: SeriesKey, candles: CandleData, *, detail: bool = False
    ) -> SaveResult:
        series, duplicates = series_of(key, candles)
        with self._database.lock:
            stored = self._all(key)
            counts = compare(stored, series) if detail else {}
            self._store(key, in_order(concatenate([stored.columns, series.columns]))[0])
        return SaveResult(len(series), duplicates, **counts)

    async def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        first, last = checks.range_ms(start, end)
        with self._database.lock:
            stored = self._all(key).columns
            kept = stored.take(
                np.flatnonzero((stored.timestamp < first) | (stored.timestamp > last))
            )
            self._store(key, kept)
        return stored.rows - kept.rows

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        return self._all(key).slice(start, end)

    async def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        return {
            key: self._all(key).slice(start, end) for key in checks.several(keys, SeriesKey, "keys")
        }

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        return asked.panel(map(self._all, self._keys()))

    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        return {key: self._all(key).columns.rows for key in self._keys() if asked.is_of(key)}

    async def symbols_of(self, market: Market) -> frozenset[str]:
        symbols = SYMBOLS.repository(ReadOnly(InMemoryTable(self._database, SYMBOLS)))
        return await codes_of(symbols, market)

    async def save_panel(self, panel: Any, *, timeframe: Timeframe | None = None) -> SaveResult:
        given, duplicates = panel_of(timeframe, panel)
        for key, series in given.items():
            await self.save_many(key, series)
        return SaveResult(given.rows, duplicates)

    async def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        return self._all(key).tail(checks.whole(count, "count", least=1))

    async def get_coverage(self, key: SeriesKey) -> Coverage:
        series = self._all(key)
        return Coverage(series.start, series.end)

    async def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        return rows_by_day(self._all(key), timezone)

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        return len(
            self._all(key).slice(start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP)
        )

    async def read_pieces(
        self, key: SeriesKey, first: int, last: int, rows: int
    ) -> AsyncIterator[CandleSeries]:
        yield self._all(key).slice_ms(first, last)

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None
    ) -> Page[SeriesKey]:
        checks.whole(limit, "limit", below=2**31)
        keys = [key for key in self._keys() if after is None or key.sort_key > after.sort_key]
        return Page.first(limit, keys)

    async def import_lake(self, lake: Lake, job_id: str) -> int:
        import pyarrow as pa

        files = lake.job_files(job_id)
        if not files:
            raise NotFound(
                f"The lake has no job {job_id!r}.", remedy="list_jobs() has their names."
            )
        rows = 0
        for file in files:
            try:
                table = open_parquet(file.path).read()
            except (OSError, pa.ArrowException) as exc:
                raise InvalidData(
                    f"cannot be read as Parquet: {exc}", field=str(file.path)
                ) from exc
            await self.save_many(file.key, table)
            rows += table.num_rows
        return rows

    async def corrections(
        self, key: SeriesKey, first: int, last: int, behind: Place, limit: int
    ) -> Page[Correction]:
        """What was corrected in a range behind a place; see `CandleStore`."""
        past = self._database.past.get(key, Past())
        found = past.corrections(key, self._all(key).columns, first, last, behind)
        return Page.first(limit, list(found))

    def apply(self, changes: Iterable[SeriesChanges], version: int, source: str = "") -> None:
        """Store what a unit of work staged."""
        for change in changes:
            last = checks.to_ms(checks.LAST_TIMESTAMP)
            becomes = change.over(self._all(change.key), checks.to_ms(checks.FIRST_TIMESTAMP), last)
            self._store(change.key, becomes.columns, version, source)

    def _keys(self) -> list[SeriesKey]:
        with self._database.lock:
            return sorted(self._columns, key=lambda key: key.sort_key)

    def _all(self, key: SeriesKey) -> CandleSeries:
        checks.instance(key, SeriesKey, "key")
        columns = self._columns.get(key)
        return CandleSeries.trusted(key, empty() if columns is None else columns)

    def _store(
        self, key: SeriesKey, columns: Columns, version: int | None = None, source: str = ""
    ) -> None:
        if self._columns is self._database.candles:  # raw bars keep no past
            past = self._database.past.setdefault(key, Past())
            version = version or self._database.next_version()
            past.change(self._all(key).columns, columns, version, source)
        if columns.rows:
            self._columns[key] = columns
        else:
            self._columns.pop(key, None)
