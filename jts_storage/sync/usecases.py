"""Blocking twins of the use cases, over a blocking `Storage`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any, TypeVar

from jts_storage.domain.calendar import TradingCalendar
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.sync.storage import Storage
from jts_storage.usecases import (
    coverage,
    export_candles,
    import_candles,
    quarantine,
    reconcile,
    validate,
)
from jts_storage.usecases.coverage import Range, SeriesCoverage
from jts_storage.usecases.export_candles import ExportResult
from jts_storage.usecases.import_candles import Data, ImportOptions, ImportProgress
from jts_storage.usecases.quality import QualityPolicy
from jts_storage.usecases.quarantine import QuarantinedRow
from jts_storage.usecases.reconcile import Disagreement, RawFiles
from jts_storage.usecases.results import ImportResult
from jts_storage.usecases.validate import ValidationResult

T = TypeVar("T")


class _Blocking:
    def __init__(self, storage: Storage) -> None:
        self._portal = storage._portal  # noqa: SLF001 - a twin runs on the storage's own loop
        self._stores = storage._storage  # noqa: SLF001

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return self._portal.call(work)


class ImportCandles(_Blocking):
    """Blocking: as `jts_storage.usecases.import_candles.ImportCandles`."""

    def run(
        self,
        data: Data,
        timeframe: Timeframe | None = None,
        *,
        symbol: str | None = None,
        exchange: str = "",
        options: ImportOptions | None = None,
        progress: Callable[[ImportProgress], None] | None = None,
    ) -> ImportResult:
        """:param progress: called in the thread of the storage's own event loop."""
        return self._call(
            import_candles.ImportCandles(self._stores).run(
                data,
                timeframe,
                symbol=symbol,
                exchange=exchange,
                options=options,
                progress=progress,
            )
        )


class ExportCandles(_Blocking):
    """Blocking: as `jts_storage.usecases.export_candles.ExportCandles`."""

    def run(
        self,
        key: SeriesKey,
        path: Path | str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        timeframe: Timeframe | None = None,
        calendar: TradingCalendar | str | None = None,
        timezone: tzinfo | str = UTC,
        progress: Callable[[int], None] | None = None,
    ) -> ExportResult:
        """:param progress: called in the thread of the storage's own event loop."""
        return self._call(
            export_candles.ExportCandles(self._stores).run(
                key,
                path,
                start=start,
                end=end,
                timeframe=timeframe,
                calendar=calendar,
                timezone=timezone,
                progress=progress,
            )
        )


class ValidateCandles(_Blocking):
    """Blocking: as `jts_storage.usecases.validate.ValidateCandles`."""

    def run(
        self,
        key: SeriesKey,
        policy: QualityPolicy | None = None,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> ValidationResult:
        work = validate.ValidateCandles(self._stores)
        return self._call(work.run(key, policy, start=start, end=end))


class Coverage(_Blocking):
    """Blocking: as `jts_storage.usecases.coverage.Coverage`."""

    def keys(self) -> list[SeriesKey]:
        return self._call(coverage.Coverage(self._stores).keys())

    def of(
        self,
        key: SeriesKey,
        *,
        calendar: TradingCalendar | str | None = None,
        timezone: str = "UTC",
    ) -> SeriesCoverage:
        work = coverage.Coverage(self._stores)
        return self._call(work.of(key, calendar=calendar, timezone=timezone))

    def plan_backfill(
        self,
        key: SeriesKey,
        start: datetime,
        end: datetime,
        *,
        calendar: TradingCalendar | str | None = None,
    ) -> list[Range]:
        work = coverage.Coverage(self._stores)
        return self._call(work.plan_backfill(key, start, end, calendar=calendar))

    def record_empty(self, key: SeriesKey, start: datetime, end: datetime) -> None:
        self._call(coverage.Coverage(self._stores).record_empty(key, start, end))

    def known_empty(self, key: SeriesKey) -> list[tuple[int, int]]:
        return self._call(coverage.Coverage(self._stores).known_empty(key))


class Reconcile(_Blocking):
    """Blocking: as `jts_storage.usecases.reconcile.Reconcile`."""

    def __init__(self, storage: Storage, files: RawFiles | None = None) -> None:
        super().__init__(storage)
        self._files = files

    def run(
        self, key: SeriesKey, *, timezone: str = "UTC", repair: bool = False
    ) -> list[Disagreement]:
        work = reconcile.Reconcile(self._stores, self._files)
        return self._call(work.run(key, timezone=timezone, repair=repair))


class Quarantine(_Blocking):
    """Blocking: as `jts_storage.usecases.quarantine.Quarantine`."""

    def review(
        self, key: SeriesKey | None = None, *, limit: int | None = None
    ) -> list[QuarantinedRow]:
        return self._call(quarantine.Quarantine(self._stores).review(key, limit=limit))

    def release(self, key: SeriesKey | None = None) -> tuple[int, int]:
        return self._call(quarantine.Quarantine(self._stores).release(key))

    def discard(self, key: SeriesKey | None = None) -> int:
        return self._call(quarantine.Quarantine(self._stores).discard(key))
