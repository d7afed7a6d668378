"""A store of raw candles in Parquet files, one a job, symbol and day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.interchange import Floats
from jts_storage.domain.series import CandleSeries, series_of
from jts_storage.errors import Conflict, InvalidConfiguration, InvalidData
from jts_storage.lake import compaction, files, layout, loading
from jts_storage.lake.errors import Damage, DamagedFile
from jts_storage.lake.files import FileFacts, JobFile
from jts_storage.lake.layout import Partition, safe_name
from jts_storage.lake.loading import OnDamaged, Skipping
from jts_storage.lake.locks import PartitionLocks

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["series", "arrow", "pandas"]
Compression = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]
_COMPRESSIONS = ("zstd", "snappy", "gzip", "lz4", "brotli", "none")
_FORMATS = ("series", "arrow", "pandas")


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


class ParquetStorageEngine:
    """Blocking; safe among threads and processes that share the folder.

    The layout has no place for an exchange, so each file says it itself: a job keeps one exchange
    a symbol and day. A file is whole or not there; what a write acknowledged is on disk.

    :param root: the folder of the store; made with the first write.
    :param lock_timeout: seconds to wait for another writer of a partition before `Conflict`.
    :param floats: ``"exact"`` takes float prices, in data and in files of others, where each is
        the nearest to a price of four decimals.
    """

    def __init__(
        self,
        root: Path | str,
        compression: Compression = "zstd",
        *,
        lock_timeout: float = 60,
        floats: Floats = "refuse",
    ) -> None:
        if compression not in _COMPRESSIONS:
            raise InvalidConfiguration(
                f"compression must be one of {', '.join(_COMPRESSIONS)}, got {compression!r}"
            )
        self.root = Path(root)
        self._compression = compression
        self._floats = floats
        self._locks = PartitionLocks(self.root, lock_timeout)

    def __repr__(self) -> str:
        return f"ParquetStorageEngine({str(self.root)!r}, compression={self._compression!r})"

    def write(
        self,
        data: Any,
        *,
        frame: Timeframe | str,
        symbol: str,
        trading_day: date,
        job_id: str,
        overwrite: bool = False,
        exchange: str | None = None,
    ) -> Path:
        """Store the candles of a job and day, all or none; the file returns.

        :param data: a `CandleSeries`, candles, an Arrow table, a pandas or polars frame. Times are
            a column (or index) `timestamp`, or `ts_ns` in nanoseconds.
        :param trading_day: the session they belong to, by which they are found; their timestamps
            may lie on another date in UTC.
        :param exchange: by default that of the series, else none.
        :raises InvalidData: the data are empty or hold what no store may, a name is unsafe.
        :raises Conflict: the job has this file already and `overwrite` is not set.
        """
        partition = Partition.of(frame, symbol, trading_day)
        path = self._path(partition, job_id)
        series = self._series(data, partition, exchange)
        facts = FileFacts.about(series, partition, path.stem)
        with self._locks.held(partition):
            if not overwrite and path.exists():
                raise Conflict(
                    f"The job {job_id!r} has a file for {partition} already: {path}.",
                    remedy="Pass overwrite=True to replace it, or use another job id.",
                )
            _sweep(path.parent)
            files.write_file(path, series, facts, self._compression)
        return path

    @overload
    def load_job_bars(
        self,
        job_id: str,
        *,
        frame: Timeframe | str | None = ...,
        format: Literal["series"] = ...,
        on_damaged: OnDamaged = ...,
        report: list[Damage] | None = ...,
    ) -> dict[str, CandleSeries]: ...
    @overload
    def load_job_bars(
        self,
        job_id: str,
        *,
        frame: Timeframe | str | None = ...,
        format: Literal["pandas"],
        on_damaged: OnDamaged = ...,
        report: list[Damage] | None = ...,
    ) -> dict[str, pd.DataFrame]: ...
    @overload
    def load_job_bars(
        self,
        job_id: str,
        *,
        frame: Timeframe | str | None = ...,
        format: Literal["arrow"],
        on_damaged: OnDamaged = ...,
        report: list[Damage] | None = ...,
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
        """All candles of a job by symbol; empty if there is no such job.

        :param frame: needed where a symbol has candles of several timeframes in the job.
        :param on_damaged: ``"skip"`` logs each damaged file, adds it to `report` and goes on.
        :raises DamagedFile: naming the first file that cannot be read.
        :raises InvalidData: a symbol's files are of several timeframes or exchanges.
        """
        job = safe_name(job_id, "job_id")
        self._check_format(format)
        wanted = None if frame is None else member(Timeframe, frame, "frame").value
        skipping = Skipping(on_damaged, report)
        found = loading.load_files(
            lambda: [path for _, path in self._job_paths(job, wanted)], self._floats, skipping
        )
        by_symbol: dict[str, list[loading.Loaded]] = {}
        for file in found:
            by_symbol.setdefault(file.facts.symbol, []).append(file)
        return {
            symbol: self._as(format, self._merged(symbol, job, part))
            for symbol, part in sorted(by_symbol.items())
        }

    @overload
    def load_symbol_data(
        self,
        symbol: str,
        frame: Timeframe | str,
        *,
        start_date: date | None = ...,
        end_date: date | None = ...,
        exchange: str | None = ...,
        format: Literal["series"] = ...,
        on_damaged: OnDamaged = ...,
        report: list[Damage] | None = ...,
    ) -> CandleSeries: ...
    @overload
    def load_symbol_data(
        self,
        symbol: str,
        frame: Timeframe | str,
        *,
        start_date: date | None = ...,
        end_date: date | None = ...,
        exchange: str | None = ...,
        format: Literal["pandas"],
        on_damaged: OnDamaged = ...,
        report: list[Damage] | None = ...,
    ) -> pd.DataFrame: ...
    @overload
    def load_symbol_data(
        self,
        symbol: str,
        frame: Timeframe | str,
        *,
        start_date: date | None = ...,
        end_date: date | None = ...,
        exchange: str | None = ...,
        format: Literal["arrow"],
        on_damaged: OnDamaged = ...,
        report: list[Damage] | None = ...,
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
        """The candles of all jobs whose trading day lies in the range, both ends included.

        Where several files hold a timestamp, the one written last counts. Nothing stored is an
        empty series.

        :param exchange: needed where files are of several.
        :param on_damaged: ``"skip"`` logs each damaged file, adds it to `report` and goes on.
        :raises DamagedFile: naming the first file that cannot be read.
        """
        timeframe = member(Timeframe, frame, "frame")
        safe_name(symbol, "symbol")
        self._check_format(format)
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
        place = loading.one_exchange(found, f"{symbol} {timeframe.value}")
        key = SeriesKey(symbol, timeframe, exchange if exchange is not None else place)
        return self._as(format, loading.merged(key, found))

    def list_jobs(
        self, *, frame: Timeframe | str | None = None, symbol: str | None = None
    ) -> list[str]:
        """The ids of all jobs, in order."""
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
        """The partitions that hold a file, in order."""
        timeframe = None if frame is None else member(Timeframe, frame, "frame").value
        name = None if symbol is None else safe_name(symbol, "symbol")
        return [
            partition
            for partition in layout.partitions(self.root, timeframe, name)
            if layout.job_paths(self.root, partition)
        ]

    def job_files(self, job_id: str) -> list[JobFile]:
        """The files of a job with key and time range, from their footers."""
        job = safe_name(job_id, "job_id")
        while True:
            try:
                return [files.describe(path) for _, path in self._job_paths(job)]
            except FileNotFoundError:
                continue  # a compaction took one away; each time there are fewer

    def delete_job(self, job_id: str) -> int:
        """Remove all files of a job; how many there were.

        What a compaction has put into another job's file stays.
        """
        deleted = 0
        for partition, path in self._job_paths(safe_name(job_id, "job_id")):
            with self._locks.held(partition):
                if path.exists():
                    path.unlink()
                    files.sync_folder(path.parent)
                    deleted += 1
        return deleted

    def compact(
        self,
        frame: Timeframe | str,
        symbol: str,
        trading_day: date | None = None,
        *,
        job_id: str = "compacted",
    ) -> list[Path]:
        """Make one file of the many of a day, or of each day of the symbol; the new files.

        `load_symbol_data` gives the same before and after. The jobs become part of `job_id`. Old
        files are deleted when the new one is on disk and was read back, compared by count and
        fingerprint; to be killed anywhere, or to run it again, loses nothing.

        :raises DamagedFile: a file cannot be read; then its day stays as it is.
        :raises InvalidData: a day's files are of several exchanges.
        """
        job = safe_name(job_id, "job_id")
        if trading_day is None:
            days = self.list_partitions(frame=frame, symbol=symbol)
        else:
            days = [Partition.of(frame, symbol, trading_day)]
        made = []
        for partition in days:
            with self._locks.held(partition):
                target = self._path(partition, job)
                _sweep(target.parent)
                sources = layout.job_paths(self.root, partition)
                if compaction.compact(sources, target, partition, self._compression, self._floats):
                    made.append(target)
        return made

    def verify(
        self, *, frame: Timeframe | str | None = None, symbol: str | None = None
    ) -> VerifyReport:
        """Read every file and compare it with its fingerprint; nothing is changed."""
        count = rows = 0
        damaged: list[Damage] = []
        leftovers: list[Path] = []
        timeframe = None if frame is None else member(Timeframe, frame, "frame").value
        name = None if symbol is None else safe_name(symbol, "symbol")
        for partition in layout.partitions(self.root, timeframe, name):
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

    def _series(self, data: Any, partition: Partition, exchange: str | None) -> CandleSeries:
        if isinstance(data, CandleSeries) and exchange is None:
            exchange = data.key.exchange
        key = SeriesKey(partition.symbol, Timeframe(partition.frame), exchange or "")
        library = type(data).__module__.partition(".")[0]
        if library == "pyarrow":
            table = files.with_timestamps(data)
            series = CandleSeries.from_arrow(key, table, floats=self._floats)
        elif library == "pandas":
            series = CandleSeries.from_pandas(key, _with_timestamps(data), floats=self._floats)
        elif library == "polars":
            table = files.with_timestamps(data.to_arrow())
            series = CandleSeries.from_arrow(key, table, floats=self._floats)
        else:
            series = series_of(key, data)[0]
        if not len(series):
            raise InvalidData("must hold at least one candle", field="data")
        return series

    @staticmethod
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

    @staticmethod
    def _check_format(format: str) -> None:
        if format not in _FORMATS:
            raise InvalidData(f"must be one of {', '.join(_FORMATS)}", field="format", value=format)

    @staticmethod
    def _as(format: Format, series: CandleSeries) -> Any:
        if format == "arrow":
            return series.to_arrow()
        return series.to_pandas() if format == "pandas" else series


def _sweep(folder: Path) -> None:
    """Remove what killed writers left; whoever holds the partition's lock is its only writer."""
    for leftover in layout.temporary_paths(folder):
        leftover.unlink(missing_ok=True)


def _with_timestamps(frame: pd.DataFrame) -> pd.DataFrame:
    if "timestamp" in frame.columns or "ts_ns" not in frame.columns:
        return frame
    import pandas as pd

    return frame.assign(timestamp=pd.to_datetime(frame["ts_ns"], unit="ns", utc=True))
