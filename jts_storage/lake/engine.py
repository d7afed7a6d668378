"""A store of raw candles in Parquet files, one for each job, symbol and day."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Literal, get_args

from jts_storage.domain.enums import Timeframe
from jts_storage.domain.interchange import Floats
from jts_storage.errors import Conflict, InvalidConfiguration
from jts_storage.lake import compaction, conversion, files, layout
from jts_storage.lake.files import FileFacts
from jts_storage.lake.layout import Partition, safe_name
from jts_storage.lake.locks import PartitionLocks
from jts_storage.lake.reader import LakeReader

Compression = Literal["zstd", "snappy", "gzip", "lz4", "brotli", "none"]
_COMPRESSIONS = get_args(Compression)


class ParquetStorageEngine(LakeReader):
    """Blocking; safe among threads and processes that share the folder.

    The folders do not show the exchange, it is in the metadata of each file: a job keeps one
    exchange for each symbol and day. A file is written completely or not at all, and when a write
    returns, it is on disk.

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
        super().__init__(Path(root), floats)
        self._compression = compression
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
        """Store all candles of a job and day, or none, and return their file.

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
        series = conversion.series_of_data(data, partition, exchange, self._floats)
        facts = FileFacts.about(series, partition, path.stem)
        with self._locks.held(partition):
            # Within the lock: another process may write the same job at this moment.
            if not overwrite and path.exists():
                raise Conflict(
                    f"The job {job_id!r} has a file for {partition} already: {path}.",
                    remedy="Pass overwrite=True to replace it, or use another job id.",
                )
            _sweep(path.parent)
            files.write_file(path, series, facts, self._compression)
        return path

    def delete_job(self, job_id: str) -> int:
        """Remove all files of a job and return how many there were.

        What a compaction has put into another job's file stays.
        """
        deleted = 0
        for partition, path in self._job_paths(safe_name(job_id, "job_id")):
            with self._locks.held(partition):
                if path.exists():  # a compaction may have merged it while this waited
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
        """Merge the files of a day, or of each day of the symbol, and return the new files.

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


def _sweep(folder: Path) -> None:
    """Remove what killed writers left: the caller holds the lock, so no other writer runs."""
    for leftover in layout.temporary_paths(folder):
        leftover.unlink(missing_ok=True)
