"""One Parquet file: its columns, its metadata, and how it is written completely or not at all.

Prices are decimal128(18, 4), stored as 64-bit integers. Each page carries a checksum, and the file
its row count, time range and the fingerprint of its candles.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
import zlib
from dataclasses import asdict, dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jts_storage.domain import checks, interchange
from jts_storage.domain.arrow import (
    ROW_GROUP_ROWS,
    candle_schema,
    open_parquet,
    parquet_options,
)
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns, checked, in_order
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.interchange import Floats
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.lake.errors import DamagedFile, reading, writing
from jts_storage.lake.layout import SUFFIX, TEMPORARY, Partition

_METADATA, _CHECKSUM = b"jts_storage", b"jts_storage_crc32"
_VERSION = 2
_REMEMBERED = 10_000
_synced: set[tuple[Path, int]] = set()  # folders, with their inodes: one may be made anew
_LEVELS = 4  # of folders that a lake makes: the day's, the symbol's, the frame's, its own
SCHEMA = candle_schema(nullable=False)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The metadata of a file; of a file by another program only what its path says.

    :param written_ns: orders the files of a partition: of equal timestamps the later file's count.
    :param sources: the job ids that a compaction put into it.
    """

    symbol: str
    frame: str
    trading_day: str
    job_id: str
    exchange: str = ""
    rows: int | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    fingerprint: str | None = None
    written_ns: int = 0
    sources: tuple[str, ...] = ()

    @classmethod
    def about(
        cls, series: CandleSeries, partition: Partition, job_id: str, sources: tuple[str, ...] = ()
    ) -> FileFacts:
        stamps = series.columns.timestamp
        return cls(
            partition.symbol,
            partition.frame,
            partition.trading_day.isoformat(),
            job_id,
            series.key.exchange,
            len(series),
            int(stamps[0]),
            int(stamps[-1]),
            series.fingerprint(),
            time.time_ns(),
            sources,
        )

    @property
    def age(self) -> tuple[int, str]:
        """Orders the files of a partition, also those that do not say when they were written."""
        return self.written_ns, self.job_id

    @property
    def key(self) -> SeriesKey:
        return SeriesKey(self.symbol, member(Timeframe, self.frame, "frame"), self.exchange)


@dataclass(frozen=True, slots=True)
class JobFile:
    """A file of a job, and the candles it holds."""

    path: Path
    key: SeriesKey
    trading_day: date
    job_id: str
    rows: int
    start: datetime | None
    end: datetime | None
    fingerprint: str | None


def write_file(
    path: Path, series: CandleSeries, facts: FileFacts, compression: str, *, verify: bool = False
) -> None:
    """Put a whole file in place of `path`, or nothing; when it returns, the file is on disk.

    :param verify: read it back first, and compare it with `series`.
    """
    # Hidden, so that nobody reads it; in the same folder, so that the rename is atomic.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}")
    with writing(path):
        make_folder(path.parent)
        try:
            _write(temporary, series, facts, compression)
            if verify and not read_series(temporary)[0].same_rows(series):
                raise DamagedFile(temporary, "it differs from what was written")
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
        _sync_above(path.parent)


def read_columns(path: Path, floats: Floats = "refuse") -> tuple[Columns, FileFacts]:
    """Read the candles, with page checksums verified, and the metadata."""
    with reading(path):
        with open_parquet(path) as file:
            table = file.read(use_threads=False)
            facts = facts_of(file.metadata, path)
        if facts.fingerprint is not None and not table.schema.equals(SCHEMA):
            raise DamagedFile(path, "its columns are not those that were written")
        if facts.rows is not None and facts.rows != table.num_rows:
            raise DamagedFile(path, f"it holds {table.num_rows} rows instead of {facts.rows}")
        return checked(interchange.from_arrow(with_timestamps(table), floats)), facts


def read_series(path: Path, floats: Floats = "refuse") -> tuple[CandleSeries, FileFacts]:
    """The candles, compared with the fingerprint they were written with."""
    columns, facts = read_columns(path, floats)
    with reading(path):
        series = CandleSeries.trusted(facts.key, in_order(columns)[0])
    if facts.fingerprint is not None and series.fingerprint() != facts.fingerprint:
        raise DamagedFile(path, "its candles differ from those that were written")
    return series, facts


def describe(path: Path) -> JobFile:
    """Read the metadata without the columns."""
    with reading(path), open_parquet(path) as file:
        facts = facts_of(file.metadata, path)
        return JobFile(
            path,
            facts.key,
            date.fromisoformat(facts.trading_day),
            facts.job_id,
            file.metadata.num_rows,
            None if facts.start_ms is None else checks.from_ms(facts.start_ms),
            None if facts.end_ms is None else checks.from_ms(facts.end_ms),
            facts.fingerprint,
        )


def with_timestamps(table: Any) -> Any:
    """The table with a column `timestamp` in place of `ts_ns`, nanoseconds since 1970."""
    if "timestamp" in table.schema.names or "ts_ns" not in table.schema.names:
        return table
    index = table.schema.names.index("ts_ns")
    try:
        stamps = table.column(index).cast(pa.int64()).cast(pa.timestamp("ns", "UTC"))
    except pa.ArrowInvalid as exc:
        raise InvalidData(f"must be nanoseconds since 1970: {exc}", field="ts_ns") from exc
    return table.set_column(index, "timestamp", stamps)


def sync_folder(folder: Path) -> None:
    """Write the folder itself to disk, so that a rename or deletion in it survives a power cut."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, on disk when it returns."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.is_dir()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)


def _sync_above(folder: Path) -> None:
    """Write the folders above to disk, once in each process: their maker may have died before."""
    seen = folder, folder.stat().st_ino
    if seen in _synced:
        return
    for above in folder.parents[: _LEVELS - 1]:
        sync_folder(above)
    if len(_synced) >= _REMEMBERED:
        _synced.clear()
    _synced.add(seen)


def _write(path: Path, series: CandleSeries, facts: FileFacts, compression: str) -> None:
    text = json.dumps({"version": _VERSION, **asdict(facts)}, ensure_ascii=False).encode()
    schema = SCHEMA.with_metadata({_METADATA: text, _CHECKSUM: _checksum(text)})
    table = pa.Table.from_arrays(series.to_arrow().columns, schema=schema)
    with path.open("wb") as file:
        pq.write_table(
            table,
            file,
            row_group_size=ROW_GROUP_ROWS,
            **parquet_options(compression),
        )
        file.flush()
        os.fsync(file.fileno())


def _checksum(text: bytes) -> bytes:
    """Return a checksum of the metadata: Parquet has none for a footer."""
    return b"%08x" % zlib.crc32(text)


def _footer(path: Path) -> bytes:
    """The last bytes of a Parquet file: a description, its length in four bytes, and a mark."""
    with path.open("rb") as file:
        end = file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        file.seek(max(end - length, 0))
        return file.read(length)


def facts_of(metadata: Any, path: Path) -> FileFacts:
    """Return the metadata in a footer.

    Symbol, timeframe, day and job are taken from the path: a file may have been moved on purpose.
    """
    frame, symbol, day = path.parts[-4:-1]
    placed: dict[str, Any] = {
        "symbol": symbol.removeprefix("symbol="),
        "frame": frame.removeprefix("frame="),
        "trading_day": day.removeprefix("date="),
        "job_id": path.name.removesuffix(SUFFIX),
    }
    stored = metadata.metadata or {}
    text = stored.get(_METADATA)
    if text is None:
        if _METADATA in _footer(path):  # a footer of ours that is damaged
            raise DamagedFile(path, "its metadata is gone")
        return FileFacts(**placed)
    try:
        given = json.loads(text.decode())
        # Files of the first version have no checksum.
        if given.pop("version") > 1 and stored.get(_CHECKSUM) != _checksum(text):
            raise ValueError("its checksum differs")
        return FileFacts(**{**given, **placed, "sources": tuple(given["sources"])})
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise DamagedFile(path, f"its metadata cannot be read ({exc})") from exc
