"""The base of all sources that are files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from jts_storage.domain import checks
from jts_storage.errors import InvalidData
from jts_storage.readers import headers, text_files
from jts_storage.readers.rows import RowLine

READ_BYTES = 2 << 20
MOST_SKIPPED = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the caller knows about a source, so that it need not be guessed.

    :param columns: headers by target, such as ``{"close": "Adj Close"}``.
    :param skip_lines: how many lines of a CSV file stand above its header, such as a title.
    :param needs_volume: whether a source without a column of volumes is refused.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    delimiter: str | None = None
    encoding: str | None = None
    header: bool = True
    skip_lines: int = 0
    needs_volume: bool = True

    def __post_init__(self) -> None:
        checks.whole(self.skip_lines, "skip_lines", least=0, below=MOST_SKIPPED + 1)


class FileSource:
    """A file, how far it was read, and where its rows stand.

    :param name: of what the file was made from, if it is there only for now.
    """

    commas_separate = True

    def __init__(self, path: Path, layout: Layout, name: str | None = None) -> None:
        self.path = path
        self.layout = layout
        self.name = name or text_files.shown(path)
        self._is_lasting = name is None
        self._read = 0
        # At least 1, since the progress is divided by it.
        self._size = max(path.stat().st_size, 1)

    @property
    def identity(self) -> Mapping[str, Any] | None:
        if not self._is_lasting:
            return None
        return text_files.identity(self.path)

    def progress(self) -> float | None:
        return min(self._read / self._size, 1.0)

    def _consumed(self, position: int, batch: Any) -> int:
        """Estimate where the rows of `batch` end: Arrow has read the file far beyond them."""
        if text_files.compression_of(self.path):
            return position
        return min(position, self._read + int(batch.nbytes))

    def _targets(self, names: list[str]) -> dict[str, str]:
        return headers.guess(
            names,
            self.layout.columns,
            where=self.name,
            needs_volume=self.layout.needs_volume,
            first_value=self._first_value(),
        )

    def _first_value(self) -> object:
        """Return the first value of the first column, where that may tell what it holds."""
        return None

    def location(self, row: int, target: str) -> str:
        return f"{self.name}, row {row + 1}, column {self._header(target)!r}"

    def lines_of(self, rows: Sequence[int]) -> list[RowLine]:
        return [RowLine(row + 1, place="row") for row in rows]

    def _header(self, target: str) -> str:
        found = self._targets(self._names())
        return found.get(target) or found.get("date") or target

    def _names(self) -> list[str]:
        raise NotImplementedError


class RowLines:
    """On which lines rows stand; they are asked for in their order, so a file is read once.

    :param read: gives the line of each row, from the first.
    """

    def __init__(self, read: Callable[[], Iterator[RowLine]]) -> None:
        self._begin = read
        self._lines = read()
        self._next = 0

    def of(self, rows: Sequence[int]) -> list[RowLine]:
        found = []
        for row in rows:
            if row < self._next:
                self._lines, self._next = self._begin(), 0
            line = next(islice(self._lines, row - self._next, None), RowLine(0))
            self._next = row + 1
            found.append(line)
        return found


def cut_off(name: str) -> InvalidData:
    return InvalidData(f"{name} ends in the middle of what is compressed.", remedy="Copy it again.")


@contextmanager
def readable(name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, OSError) as exc:
        raise InvalidData(f"{name} cannot be read: {exc}") from exc


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file: the raw stream, whose position shows the progress, and the decompressed one."""
    kind = text_files.compression_of(path)
    with pa.OSFile(os.fsencode(path)) as raw:
        if kind is None:
            yield raw, raw
        else:
            with pa.CompressedInputStream(raw, kind) as stream:
                yield raw, stream
