"""Many files of ours in one parallel scan.

Arrow decodes files ahead in its own threads, while each is copied behind the previous one, still
in the processor's cache. Anything unusual is left to the reader of single files, which explains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from jts_storage.domain.columns import AnyArray, Columns
from jts_storage.errors import InvalidData
from jts_storage.lake.files import SCHEMA, FileFacts, facts_of

_READAHEAD = 16
_SPARE = 1.25  # days differ in length, and to grow costs a copy of all
_DTYPES = (np.int64,) * 5 + (np.uint64,)


class Scan(NamedTuple):
    """The rows of all files in one array, where those of each file end, and its metadata."""

    columns: Columns
    ends: list[int]
    facts: list[FileFacts]


def scan(paths: Sequence[Path]) -> Scan | None:
    """The files in order; None if one is damaged, gone, empty or not ours."""
    options = ds.ParquetFragmentScanOptions(pre_buffer=False, page_checksum_verification=True)
    reader = ds.ParquetFileFormat(default_fragment_scan_options=options)
    try:
        found = ds.dataset([str(path) for path in paths], schema=SCHEMA, format=reader)
        return _laid_out(found.scanner(fragment_readahead=_READAHEAD), paths, found.files)
    except (OSError, pa.ArrowException, InvalidData, UnicodeError):
        return None


def _laid_out(scanner: Any, paths: Sequence[Path], names: Sequence[str]) -> Scan | None:
    strip: _Strip | None = None
    facts: list[FileFacts] = []
    ends: list[int] = []
    for batch, fragment in scanner.scan_batches():
        strip = strip or _Strip(int(batch.num_rows * len(paths) * _SPARE))
        if not facts or fragment.path != names[len(facts) - 1]:
            if len(facts) == len(paths) or fragment.path != names[len(facts)]:
                return None
            facts.append(facts_of(fragment.metadata, paths[len(facts)]))
            ends.append(strip.rows)
            if facts[-1].fingerprint is None or not fragment.physical_schema.equals(SCHEMA):
                return None
        if not strip.append(batch):
            return None
        ends[-1] = strip.rows
    held = [end - begin for begin, end in pairwise([0, *ends])]
    if strip is None or len(facts) < len(paths) or held != [file.rows for file in facts]:
        return None
    return Scan(strip.columns, ends, facts)


class _Strip:
    """Columns that grow, in memory of Arrow's pool: fresh pages cost more than the copy."""

    def __init__(self, room: int) -> None:
        self.rows = 0
        self._room = room
        self._arrays = [_array(dtype, room) for dtype in _DTYPES]

    @property
    def columns(self) -> Columns:
        return Columns(*self._arrays).take(slice(self.rows))

    def append(self, batch: Any) -> bool:
        """Copy a batch unchecked, since its candles were checked when they were written.

        Returns False if the batch is not as the kit writes them.
        """
        chunks = batch.columns
        if any(chunk.null_count or chunk.offset for chunk in chunks):
            return False
        begin, end = self.rows, self.rows + batch.num_rows
        if end > self._room:
            self._grow(2 * end)
        for array, chunk in zip(self._arrays, chunks, strict=True):
            words = np.frombuffer(chunk.buffers()[1], array.dtype)
            # Of the two words of a decimal128 the low one holds all of 18 digits.
            stride = 2 if pa.types.is_decimal(chunk.type) else 1
            array[begin:end] = words[: stride * (end - begin) : stride]
        self.rows = end
        return True

    def _grow(self, room: int) -> None:
        for n, array in enumerate(self._arrays):
            self._arrays[n] = _array(array.dtype, room)
            self._arrays[n][: self.rows] = array[: self.rows]
        self._room = room


def _array(dtype: Any, rows: int) -> AnyArray:
    return np.frombuffer(pa.allocate_buffer(rows * np.dtype(dtype).itemsize), dtype)
