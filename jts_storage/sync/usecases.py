"""Blocking twins of the use cases, over a blocking `Storage`."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.sync.storage import Storage
from jts_storage.usecases import coverage, export_candles, import_candles, reconcile, validate
from jts_storage.usecases.coverage import Range, SeriesCoverage
from jts_storage.usecases.export_candles import ExportResult
from jts_storage.usecases.quality import QualityPolicy
from jts_storage.usecases.reconcile import Disagreement
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

    def run(self, data: Any, timeframe: Timeframe, **how: Any) -> ImportResult:
        return self._call(import_candles.ImportCandles(self._stores).run(data, timeframe, **how))


class ExportCandles(_Blocking):
    """Blocking: as `jts_storage.usecases.export_candles.ExportCandles`."""

    def run(self, key: SeriesKey, path: Path | str, **how: Any) -> ExportResult:
        return self._call(export_candles.ExportCandles(self._stores).run(key, path, **how))


class ValidateCandles(_Blocking):
    """Blocking: as `jts_storage.usecases.validate.ValidateCandles`."""

    def run(
        self, key: SeriesKey, policy: QualityPolicy | None = None, **ends: datetime | None
    ) -> ValidationResult:
        return self._call(validate.ValidateCandles(self._stores).run(key, policy, **ends))


class Coverage(_Blocking):
    """Blocking: as `jts_storage.usecases.coverage.Coverage`."""

    def keys(self) -> Iterable[SeriesKey]:
        return self._call(coverage.Coverage(self._stores).keys())

    def of(self, key: SeriesKey, **how: Any) -> SeriesCoverage:
        return self._call(coverage.Coverage(self._stores).of(key, **how))

    def plan_backfill(
        self, key: SeriesKey, start: datetime, end: datetime, **how: Any
    ) -> list[Range]:
        return self._call(coverage.Coverage(self._stores).plan_backfill(key, start, end, **how))

    def record_empty(self, key: SeriesKey, start: datetime, end: datetime) -> None:
        self._call(coverage.Coverage(self._stores).record_empty(key, start, end))


class Reconcile(_Blocking):
    """Blocking: as `jts_storage.usecases.reconcile.Reconcile`."""

    def run(self, key: SeriesKey, **how: Any) -> list[Disagreement]:
        return self._call(reconcile.Reconcile(self._stores).run(key, **how))
