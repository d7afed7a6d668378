"""Candles in ClickHouse: beside other stores, or alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from time import time_ns
from typing import Any

from jts_storage.clickhouse import statements
from jts_storage.clickhouse.cache import DEFAULT_BYTES
from jts_storage.clickhouse.candle_writer import ClickHouseCandleWriter
from jts_storage.clickhouse.corrections import TellsCorrections
from jts_storage.clickhouse.history import Look
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.statements import parameters
from jts_storage.clickhouse.tables import Tables
from jts_storage.clickhouse.transport import WRITE_ROWS
from jts_storage.clickhouse.versions import (
    Versions,
    WriteClock,
    counted_from,
    paused_for_too_long,
)
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import compare, pieces
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import panel_of
from jts_storage.domain.results import SaveResult
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import series_of
from jts_storage.ports.candles import CandleData

_IMPORT_VERSIONS = 1_000_000
"""Reserved for an import, one for each of its inserts. A version is a nanosecond: many are free."""

_versions = Versions()  # of the process: two managers may write the same series


class ClickHouseCandleStore(TellsCorrections, ClickHouseCandleWriter):
    """A `CandleStore`: units of work write candles to it, and imports of a lake write at once.

    :param clock: gives imports their place in the order of commits.
    """

    def __init__(
        self,
        manager: ClickHouseManager,
        clock: WriteClock,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        max_age: float = 0.0,
        tables: Tables | None = None,
        history: bool = True,
    ) -> None:
        super().__init__(
            manager, cache_bytes=cache_bytes, max_age=max_age, tables=tables, history=history
        )
        self._clock = clock

    async def import_parquet(self, key: SeriesKey, paths: Sequence[Path]) -> int:
        await self._manager.run(self.check_writable)
        async with self._clock.place(versions=_IMPORT_VERSIONS, series=[f"candles {key}"]) as place:
            versions = counted_from(place.version)
            rows = await self._manager.run(self._import_files, key, paths, versions)
        if not place.was_kept:
            raise paused_for_too_long("The import")
        return rows


class ClickHouseCandleRepository(ClickHouseCandleWriter):
    """A `CandleRepository` over one `ClickHouseManager`, for a service without the other stores.

    Each write is a commit of its own, under a version that ClickHouse's clock gives.
    """

    async def save_many(
        self, key: SeriesKey, candles: CandleData, *, detail: bool = False
    ) -> SaveResult:
        return await self._manager.run(self._save_many, key, candles, detail)

    async def save_panel(self, panel: Any, *, timeframe: Timeframe | None = None) -> SaveResult:
        given, duplicates = panel_of(timeframe, panel)
        for key, series in given.items():
            await self.save_many(key, series)
        return SaveResult(given.rows, duplicates)

    async def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        first, last = checks.range_ms(start, end)
        return await self._manager.run(self._delete_range, key, first, last)

    async def import_parquet(self, key: SeriesKey, paths: Sequence[Path]) -> int:
        return await self._manager.run(self._import, key, paths)

    # ---- blocking

    def _save_many(self, key: SeriesKey, candles: CandleData, detail: bool) -> SaveResult:
        series, duplicates = series_of(key, candles)
        counts = {"inserted": 0, "replaced": 0, "unchanged": 0} if detail else {}
        # In pieces, so that no more than one insert is compared in memory.
        for block in pieces(series, WRITE_ROWS) if detail else ():
            stamps = block.columns.timestamp
            stored = self._get_range(key, int(stamps[0]), int(stamps[-1]))
            for name, rows in compare(stored, block).items():
                counts[name] += rows
        if 0 < len(series) <= WRITE_ROWS:
            self._save_found(SeriesRows.of(series))
        elif len(series):
            stamps = series.columns.timestamp
            with self._versions_for(key, int(stamps[0]), int(stamps[-1])) as versions:
                self.write(series, versions(1))
        return SaveResult(len(series), duplicates, **counts)

    def _save_found(self, rows: SeriesRows) -> None:
        """Save what is one insert: what it replaces is looked at once, for the version as well."""
        self.check_writable()
        look: Look | None = None
        begun = self._manager.changes.number
        ((key, ends),) = rows.spans.items()

        def least() -> int:
            nonlocal look
            look = self.look(rows)
            if look is None:
                return self._next_version(key, *ends)
            return max(look.version + 1, time_ns())  # the engine's clock is this process's

        with _versions.of(key, least) as versions:
            self.write_found(rows, versions(1), look, begun)

    def _delete_range(self, key: SeriesKey, first: int, last: int) -> int:
        with self._versions_for(key, first, last) as versions:
            return self.erase(key, first, last, versions(1))

    def _import(self, key: SeriesKey, paths: Sequence[Path]) -> int:
        with self._versions_for(key) as versions:
            return self._import_files(key, paths, versions)

    def _versions_for(
        self, key: SeriesKey, first: int = FIRST_MS, last: int = LAST_MS
    ) -> AbstractContextManager[Callable[[int], int]]:
        """Give versions to a write that has none from a unit of work.

        They come from the server's clock, above what is stored in the range; this host's clock is
        not asked.
        """
        self.check_writable()
        return _versions.of(key, partial(self._next_version, key, first, last))

    def _next_version(self, key: SeriesKey, first: int, last: int) -> int:
        query = statements.select_next_version(self._candles)
        return int(self._manager.execute(query, parameters(key, first, last))[0][0])
