"""Candles from Parquet files into the table.

The embedded engine reads files of the kit's own types itself: no candle passes through Python. A
server has no access to the files, and other types need the conversions of `CandleSeries`; then
whole columns pass through Arrow. Both refuse the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Table

from jts_storage.clickhouse import file_statements, statements
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.arrow import candle_schema, open_parquet
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import NAMES, PRICES, concatenate, in_order
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData

FILES_AT_ONCE = 500
_ROWS_AT_ONCE = 1_000_000
_TYPES = {field.name: field.type for field in candle_schema()}
_UNSAFE_IN_A_PATTERN = frozenset("{},*?[]'\\\n")
_SETTINGS = {
    "max_threads": 1,  # rows stay in the order of the file, so that the last of equals counts
    "use_hive_partitioning": 0,  # a folder symbol=AAPL is no column of the file
    "input_format_parquet_preserve_order": 1,
}

Write = Callable[[CandleSeries, int], None]
ReserveVersions = Callable[[int], int]
"""Gives the first of so many versions that are later than all that is stored."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where candles of files go.

    :param write: writes a series under a version.
    :param may_read_files: whether the engine may read files itself: nothing is replaced by them
        whose history has to be kept.
    """

    manager: ClickHouseManager
    candles: Table
    write: Write
    versions: ReserveVersions
    may_read_files: bool = True


def import_files(target: Target, key: SeriesKey, paths: Sequence[Path]) -> int:
    """Store the candles of the files under `key`; how many rows the files have.

    Of equal timestamps the later file's counts, and in a file the later row's.

    :raises InvalidData: a file cannot be read, or holds a row that no store may hold.
    """
    schemas = [_schema(path) for path in paths]
    # A server cannot open files of this host.
    is_near = target.may_read_files and target.manager.is_embedded
    if is_near and all(map(_is_ours, schemas, paths)):
        for path in paths:
            _check_pages(path)
        return sum(_import_directly(target, key, part) for part in _parts(paths))
    return _import_columns(target, key, paths)


def _import_directly(target: Target, key: SeriesKey, paths: Sequence[Path]) -> int:
    names = [str(path.resolve()) for path in paths]
    # A pattern that does not begin with a slash would be looked for among the engine's own files.
    alternatives = ",".join(name.removeprefix("/") for name in names)
    pattern = f"/{{{alternatives}}}" if len(names) > 1 else names[0]
    bound: dict[str, Any] = statements.parameters(key, 0, 0) | {"pattern": pattern}
    checked = target.manager.execute(file_statements.check_files(), bound, settings=_SETTINGS)
    rows, impossible = checked[0]
    if impossible:
        return _import_columns(target, key, paths)  # which names the row and the field
    target.manager.execute(
        file_statements.import_files(target.candles),
        bound | {"names": names, "version": target.versions(len(names) + 1)},
        settings=partial(statements.write_settings, _SETTINGS),
        idempotent=True,
    )
    return int(rows)


def _import_columns(target: Target, key: SeriesKey, paths: Sequence[Path]) -> int:
    imported = 0
    # Many small files make one insert.
    waiting: list[CandleSeries] = []
    for table in map(_read, paths):
        imported += table.num_rows
        waiting.append(CandleSeries.from_arrow(key, table))
        if sum(map(len, waiting)) >= _ROWS_AT_ONCE:
            target.write(_together(key, waiting), target.versions(1))
            waiting = []
    if waiting:
        target.write(_together(key, waiting), target.versions(1))
    return imported


def _together(key: SeriesKey, parts: Sequence[CandleSeries]) -> CandleSeries:
    return CandleSeries.trusted(key, in_order(concatenate([part.columns for part in parts]))[0])


def _parts(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    return (paths[start : start + FILES_AT_ONCE] for start in range(0, len(paths), FILES_AT_ONCE))


def _schema(path: Path) -> pa.Schema:
    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as exc:
        raise InvalidData(f"cannot be read as Parquet: {exc}", field=str(path)) from exc


def _read(path: Path) -> pa.Table:
    try:
        return open_parquet(path).read(columns=list(NAMES))
    except (OSError, pa.ArrowException) as exc:
        raise InvalidData(f"cannot be read as Parquet: {exc}", field=str(path)) from exc


def _check_pages(path: Path) -> None:
    """Compare checksums, which the engine does not: a flipped bit may make another price."""
    try:
        for _ in open_parquet(path).iter_batches(columns=list(NAMES)):
            pass
    except (OSError, pa.ArrowException) as exc:
        raise InvalidData(f"cannot be read as Parquet: {exc}", field=str(path)) from exc


def _is_ours(schema: pa.Schema, path: Path) -> bool:
    """Return whether the engine reads the file as `CandleSeries.from_arrow` would."""
    types = dict(zip(schema.names, schema.types, strict=True))
    stamp = types.get("timestamp")
    return (
        not _UNSAFE_IN_A_PATTERN & set(str(path.resolve()))
        and len(schema.names) == len(types)
        and stamp is not None
        and pa.types.is_timestamp(stamp)
        and stamp.unit == "ms"
        and stamp.tz is not None
        and all(types.get(name) == _TYPES[name] for name in (*PRICES, "volume"))
    )
