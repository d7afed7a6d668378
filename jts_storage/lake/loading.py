"""Many files as one series."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal, NamedTuple

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns, ascends, concatenate, empty, in_order
from jts_storage.domain.interchange import Floats
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import Conflict, InvalidData
from jts_storage.lake.errors import Damage, DamagedFile
from jts_storage.lake.files import FileFacts, read_columns
from jts_storage.lake.scanning import scan

OnDamaged = Literal["raise", "skip"]

_ATTEMPTS = 10
# Up to this many files, starting a parallel scan takes longer than reading one by one.
_FEW = 4
log = logging.getLogger(__name__)


class Skipping:
    """What to do about a damaged file: raise its error, or log and report it and read on."""

    def __init__(self, on_damaged: OnDamaged, report: list[Damage] | None) -> None:
        if on_damaged not in ("raise", "skip"):
            raise InvalidData("must be 'raise' or 'skip'", field="on_damaged", value=on_damaged)
        self._skips = on_damaged == "skip"
        self._report = report

    def handle(self, error: DamagedFile) -> None:
        if not self._skips:
            raise error
        about = {"path": str(error.path)}
        log.warning("A damaged file is skipped: %s", error.reason, extra=about)
        if self._report is not None:
            self._report.append(Damage(error.path, error.reason))


class Loaded(NamedTuple):
    """A file that was read: some rows of what was read with it."""

    path: Path
    facts: FileFacts
    read: Columns
    begin: int
    end: int

    @property
    def columns(self) -> Columns:
        return self.read.take(slice(self.begin, self.end))


def load_files(
    list_paths: Callable[[], Iterable[Path]], floats: Floats, skipping: Skipping
) -> list[Loaded]:
    """Read what `list_paths` names, again when a compaction took a file away meanwhile."""
    for _ in range(_ATTEMPTS):
        paths = list(list_paths())
        try:
            outcomes = _read_all(paths, floats)
        except FileNotFoundError:
            continue
        for outcome in outcomes:
            if isinstance(outcome, DamagedFile):
                skipping.handle(outcome)
        return [outcome for outcome in outcomes if isinstance(outcome, Loaded)]
    raise Conflict(
        "The files were replaced faster than they could be read.", remedy="Read them again."
    )


def merged(key: SeriesKey, files: Sequence[Loaded]) -> CandleSeries:
    """The candles of all files; of equal timestamps that of the file written last counts."""
    columns = _joined(files)
    # Files of different days usually follow each other, and need no sort.
    if not ascends(columns.timestamp):
        by_time = sorted(files, key=lambda file: file.facts.age)
        columns = in_order(_joined(by_time))[0]
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


def _read_all(paths: list[Path], floats: Floats) -> list[Loaded | DamagedFile]:
    if len(paths) > _FEW and (found := scan(paths)) is not None:
        begins = [0, *found.ends]
        return [
            Loaded(path, facts, found.columns, begin, end)
            for path, facts, begin, end in zip(paths, found.facts, begins, found.ends, strict=False)
        ]
    return [_read(path, floats) for path in paths]


def _read(path: Path, floats: Floats) -> Loaded | DamagedFile:
    try:
        columns, facts = read_columns(path, floats)
    except DamagedFile as exc:
        return exc
    return Loaded(path, facts, columns, 0, columns.rows)


def _joined(files: Sequence[Loaded]) -> Columns:
    """Return the rows of all files, one after the other; no copy if they were read as one."""
    if not files:
        return empty()
    first, last = files[0], files[-1]
    neighbours = pairwise(files)
    if all(one.read is next.read and one.end == next.begin for one, next in neighbours):
        return first.read.take(slice(first.begin, last.end))
    return concatenate([file.columns for file in files])
