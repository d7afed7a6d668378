"""Many files as one series."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from jts_storage.domain import interchange
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import NAMES, Columns, checked, concatenate, empty, in_order
from jts_storage.domain.interchange import Floats
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import Conflict, InvalidData
from jts_storage.lake.errors import Damage, DamagedFile, reading
from jts_storage.lake.files import FileFacts, read_table

OnDamaged = Literal["raise", "skip"]

_ATTEMPTS = 10
_FEW = 4
_WORKERS = min(4, os.cpu_count() or 1)
log = logging.getLogger(__name__)


class Skipping:
    """What to do about a damaged file: raise it, or log, report and go on without."""

    def __init__(self, on_damaged: OnDamaged, report: list[Damage] | None) -> None:
        if on_damaged not in ("raise", "skip"):
            raise InvalidData("must be 'raise' or 'skip'", field="on_damaged", value=on_damaged)
        self._skips = on_damaged == "skip"
        self._report = report

    def handle(self, error: DamagedFile) -> None:
        if not self._skips:
            raise error
        log.warning("damaged file skipped", extra={"path": str(error.path), "why": error.reason})
        if self._report is not None:
            self._report.append(Damage(error.path, error.reason))


class Loaded:
    """A file's columns as they were read."""

    __slots__ = ("facts", "path", "table")

    def __init__(self, path: Path, table: Any, facts: FileFacts) -> None:
        self.path = path
        self.table = table
        self.facts = facts


def load_files(list_paths: Callable[[], Iterable[Path]], skipping: Skipping) -> list[Loaded]:
    """Read what `list_paths` names, again when a compaction took a file away meanwhile."""
    for _ in range(_ATTEMPTS):
        paths = list(list_paths())
        try:
            outcomes = _read_all(paths)
        except FileNotFoundError:
            continue
        for outcome in outcomes:
            if isinstance(outcome, DamagedFile):
                skipping.handle(outcome)
        return [outcome for outcome in outcomes if isinstance(outcome, Loaded)]
    raise Conflict(
        "The files were replaced faster than they could be read.", remedy="Read them again."
    )


def merged(
    key: SeriesKey, files: Sequence[Loaded], floats: Floats, skipping: Skipping
) -> CandleSeries:
    """The candles of all files; of equal timestamps that of the file written last counts."""
    columns = _columns(files, floats, skipping)
    if not _ascends(columns):
        by_time = sorted(files, key=lambda file: (file.facts.written_ns, file.path.name))
        columns = in_order(_columns(by_time, floats, skipping))[0]
    return CandleSeries.trusted(key, columns)


def one_exchange(files: Sequence[Loaded], what: str) -> str:
    """:raises InvalidData: the files are of several exchanges."""
    exchanges = sorted({file.facts.exchange for file in files})
    if len(exchanges) > 1:
        raise InvalidData(
            f"{what} holds candles of several exchanges ({', '.join(map(repr, exchanges))})",
            field="exchange",
            remedy="Name one of them with exchange=.",
        )
    return exchanges[0] if exchanges else ""


def _read_all(paths: list[Path]) -> list[Loaded | DamagedFile]:
    if len(paths) <= _FEW:
        return [_read(path) for path in paths]
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="jts-lake") as pool:
        size = -(-len(paths) // (_WORKERS * 4))
        parts = [paths[start : start + size] for start in range(0, len(paths), size)]
        return [outcome for part in pool.map(_read_some, parts) for outcome in part]


def _read_some(paths: list[Path]) -> list[Loaded | DamagedFile]:
    return [_read(path) for path in paths]


def _read(path: Path) -> Loaded | DamagedFile:
    try:
        return Loaded(path, *read_table(path))
    except DamagedFile as exc:
        return exc


def _columns(files: Sequence[Loaded], floats: Floats, skipping: Skipping) -> Columns:
    if not files:
        return empty()
    try:
        table = pa.concat_tables([file.table.select(list(NAMES)) for file in files])
        return checked(interchange.from_arrow(table.combine_chunks(), floats))
    except (InvalidData, KeyError, pa.ArrowException):
        # Files of other types, or one of them is at fault: one by one it gets a name.
        return concatenate(list(_each(files, floats, skipping)))


def _each(files: Sequence[Loaded], floats: Floats, skipping: Skipping) -> Iterator[Columns]:
    for file in files:
        try:
            with reading(file.path):
                columns = checked(interchange.from_arrow(file.table, floats))
        except DamagedFile as exc:
            skipping.handle(exc)
        else:
            yield columns


def _ascends(columns: Columns) -> bool:
    stamps = columns.timestamp
    return bool((stamps[1:] > stamps[:-1]).all())
