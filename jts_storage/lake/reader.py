"""Reading the raw candles of a lake: by job, by symbol, and a check of every file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.interchange import Floats
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.lake import conversion, files, layout, loading
from jts_storage.lake.conversion import Format
from jts_storage.lake.errors import Damage, DamagedFile
from jts_storage.lake.files import JobFile
from jts_storage.lake.layout import Partition, safe_name
from jts_storage.lake.loading import OnDamaged, Skipping

if TYPE_CHECKING:
    import pandas as pd


class _OfJob(TypedDict, total=False):
    """What `load_job_bars` takes beside a format, for its overloads."""

    frame: Timeframe | str | None
    on_damaged: OnDamaged
    report: list[Damage] | None


class _OfSymbol(TypedDict, total=False):
    """What `load_symbol_data` takes beside a format, for its overloads."""

    start_date: date | None
    end_date: date | None
    exchange: str | None
    on_damaged: OnDamaged
    report: list[Damage] | None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `verify` found.

    :param leftovers: temporary files of writers that were killed; harmless, the next write to
        their partition removes them.
    """

    files: int = 0
    rows: int = 0
    damaged: tuple[Damage, ...] = ()
    leftovers: tuple[Path, ...] = field(default=())

    @property
    def is_sound(self) -> bool:
        return not self.damaged


class LakeReader:
    """The reading half of `ParquetStorageEngine`; it takes no lock.

    A compaction may delete a file between its listing and its reading: then the folder is listed
    again.
    """

    def __init__(self, root: Path, floats: Floats) -> None:
        self.root = root
        self._floats = floats

    @overload
    def load_job_bars(
        self, job_id: str, *, format: Literal["series"] = ..., **options: Unpack[_OfJob]
    ) -> dict[str, CandleSeries]: ...
    @overload
    def load_job_bars(
        self, job_id: str, *, format: Literal["pandas"], **options: Unpack[_OfJob]
    ) -> dict[str, pd.DataFrame]: ...
    @overload
    def load_job_bars(
        self, job_id: str, *, format: Literal["arrow"], **options: Unpack[_OfJob]
    ) -> dict[str, Any]: ...
    def load_job_bars(
        self,
        job_id: str,
        *,
        frame: Timeframe | str | None = None,
        format: Format = "series",
        on_damaged: OnDamaged = "raise",
        report: list[Damage] | None = None,
    ) -> dict[str, Any]:
        """Return all candles of a job by symbol; empty if there is no such job.

        :param frame: needed where a symbol has candles of several timeframes in the job.
        :param on_damaged: ``"skip"`` logs each damaged file, adds it to `report` and goes on.
        :raises DamagedFile: naming the first file that cannot be read.
        :raises InvalidData: a symbol's files are of several timeframes or exchanges.
        """
        job = safe_name(job_id, "job_id")
        conversion.check_format(format)
        wanted = None if frame is None else member(Timeframe, frame, "frame").value
        skipping = Skipping(on_damaged, report)
        found = loading.load_files(
            lambda: [path for _, path in self._job_paths(job, wanted)], self._floats, skipping
        )
        by_symbol: dict[str, list[loading.Loaded]] = {}
        for file in found:
            by_symbol.setdefault(file.facts.symbol, []).append(file)
        return {
            symbol: conversion.converted(_merged(symbol, job, part), format)
            for symbol, part in sorted(by_symbol.items())
        }

    @overload
    def load_symbol_data(
        self,
        symbol: str,
        frame: Timeframe | str,
        *,
        format: Literal["series"] = ...,
        **options: Unpack[_OfSymbol],
    ) -> CandleSeries: ...
    @overload
    def load_symbol_data(
        self,
        symbol: str,
        frame: Timeframe | str,
        *,
        format: Literal["pandas"],
        **options: Unpack[_OfSymbol],
    ) -> pd.DataFrame: ...
    @overload
    def load_symbol_data(
        self,
        symbol: str,
        frame: Timeframe | str,
        *,
        format: Literal["arrow"],
        **options: Unpack[_OfSymbol],
    ) -> Any: ...
    def load_symbol_data(
        self,
        symbol: str,
        frame: Timeframe | str,
        *,
        start_date: date | None = None,
        end_date: date | None = None,
        exchange: str | None = None,
        format: Format = "series",
        on_damaged: OnDamaged = "raise",
        report: list[Damage] | None = None,
    ) -> Any:
        """Return the candles of all jobs whose trading day is in the range, both ends included.

        Where several files hold a timestamp, the one written last counts. Nothing stored is an
        empty series.

        :param exchange: needed where files are of several.
        :param on_damaged: ``"skip"`` logs each damaged file, adds it to `report` and goes on.
        :raises DamagedFile: naming the first file that cannot be read.
        """
        timeframe = member(Timeframe, frame, "frame")
        safe_name(symbol, "symbol")
        conversion.check_format(format)
        first = date.min if start_date is None else checks.day(start_date, "start_date")
        last = date.max if end_date is None else checks.day(end_date, "end_date")
        if last < first:
            raise InvalidData(f"must not lie before {first}", field="end_date", value=str(last))

        def paths() -> Iterator[Path]:
            for partition in layout.partitions(self.root, timeframe.value, symbol):
                if first <= partition.trading_day <= last:
                    yield from layout.job_paths(self.root, partition)

        skipping = Skipping(on_damaged, report)
        found = loading.load_files(paths, self._floats, skipping)
        if exchange is not None:
            found = [file for file in found if file.facts.exchange == exchange]
        only = loading.one_exchange(found, f"{symbol} {timeframe.value}")
        key = SeriesKey(symbol, timeframe, exchange if exchange is not None else only)
        return conversion.converted(loading.merged(key, found), format)

    def list_jobs(
        self, *, frame: Timeframe | str | None = None, symbol: str | None = None
    ) -> list[str]:
        """Return the ids of all jobs, sorted."""
        return sorted(
            {
                path.stem
                for partition in self.list_partitions(frame=frame, symbol=symbol)
                for path in layout.job_paths(self.root, partition)
            }
        )

    def list_partitions(
        self, *, frame: Timeframe | str | None = None, symbol: str | None = None
    ) -> list[Partition]:
        """Return the partitions that hold a file, sorted."""
        found = self._partitions(frame, symbol)
        return [partition for partition in found if layout.job_paths(self.root, partition)]

    def job_files(self, job_id: str) -> list[JobFile]:
        """Return the files of a job with key and time range, read from their footers."""
        job = safe_name(job_id, "job_id")
        while True:
            try:
                return [files.describe(path) for _, path in self._job_paths(job)]
            except FileNotFoundError:
                continue  # a compaction took one away; each time there are fewer

    def verify(
        self, *, frame: Timeframe | str | None = None, symbol: str | None = None
    ) -> VerifyReport:
        """Read every file and compare it with its fingerprint; change nothing."""
        count = rows = 0
        damaged: list[Damage] = []
        leftovers: list[Path] = []
        for partition in self._partitions(frame, symbol):
            leftovers += layout.temporary_paths(self.root / partition.folder)
            for path in layout.job_paths(self.root, partition):
                try:
                    rows += len(files.read_series(path, self._floats)[0])
                except DamagedFile as exc:
                    damaged.append(Damage(path, exc.reason))
                except FileNotFoundError:
                    continue  # compacted or deleted meanwhile
                count += 1
        return VerifyReport(count, rows, tuple(damaged), tuple(leftovers))

    def _partitions(self, frame: Timeframe | str | None, symbol: str | None) -> Iterator[Partition]:
        """Return all partitions, also those without a file."""
        timeframe = None if frame is None else member(Timeframe, frame, "frame").value
        name = None if symbol is None else safe_name(symbol, "symbol")
        return layout.partitions(self.root, timeframe, name)

    def _path(self, partition: Partition, job_id: str) -> Path:
        job = safe_name(job_id, "job_id")
        return self.root / partition.folder / f"{job}{layout.SUFFIX}"

    def _job_paths(self, job: str, frame: str | None = None) -> list[tuple[Partition, Path]]:
        found = []
        for partition in layout.partitions(self.root, frame):
            path = self._path(partition, job)
            if path.exists():
                found.append((partition, path))
        return found


def _merged(symbol: str, job: str, found: list[loading.Loaded]) -> CandleSeries:
    frames = sorted({file.facts.frame for file in found})
    if len(frames) > 1:
        raise InvalidData(
            f"the job {job!r} holds {symbol} in several timeframes ({', '.join(frames)})",
            field="frame",
            remedy="Name one of them with frame=.",
        )
    exchange = loading.one_exchange(found, f"the job {job!r} of {symbol}")
    key = SeriesKey(symbol, Timeframe(frames[0]), exchange)
    return loading.merged(key, found)
