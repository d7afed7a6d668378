"""Rows that a unit of work has staged and has no room for: they wait in a temporary file."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import AnyArray, Columns
from jts_storage.domain.rows import SeriesRows

_WIDTH: Final = 8
"""Bytes of a value, in every column."""


class SpilledRows:
    """Rows of some series in a file without a name, which is gone with this object.

    :raises OSError: there is no room for it.
    """

    def __init__(self, rows: SeriesRows) -> None:
        self.keys: Sequence[SeriesKey] = rows.keys
        self._offsets = rows.offsets
        self._numbers = {key: number for number, key in enumerate(rows.keys)}
        self._file = tempfile.TemporaryFile(prefix="jts-staged-", buffering=0)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        try:
            for column in rows.columns:
                self._write(np.ascontiguousarray(column).data.cast("B"))
        except BaseException:
            self._file.close()
            raise

    @property
    def rows(self) -> int:
        return int(self._offsets[-1])

    def of(self, key: SeriesKey) -> Columns | None:
        """The rows of one series, read anew each time; None if it has none."""
        begin, end = self._place(key)
        return self._read(begin, end) if end > begin else None

    def ends(self, key: SeriesKey) -> tuple[int, int] | None:
        """The first and the last time of one series; None if it has no rows."""
        begin, end = self._place(key)
        if end == begin:
            return None
        first, last = (self._column(0, np.dtype(np.int64), at, at + 1) for at in (begin, end - 1))
        return int(first[0]), int(last[0])

    def pieces(self, key: SeriesKey, most: int) -> Iterator[Columns]:
        """The rows of one series, at most so many at once."""
        begin, end = self._place(key)
        for start in range(begin, end, most):
            yield self._read(start, min(start + most, end))

    def loaded(self) -> SeriesRows:
        """All rows, in memory."""
        return SeriesRows(self.keys, self._offsets, self._read(0, self.rows))

    def _place(self, key: SeriesKey) -> tuple[int, int]:
        """Where the rows of a series begin and end."""
        number = self._numbers.get(key)
        if number is None:
            return 0, 0
        return int(self._offsets[number]), int(self._offsets[number + 1])

    def _read(self, begin: int, end: int) -> Columns:
        types = (np.dtype("u8" if name == "volume" else "i8") for name in Columns._fields)
        return Columns(*(self._column(at, each, begin, end) for at, each in enumerate(types)))

    def _column(self, place: int, dtype: np.dtype[Any], begin: int, end: int) -> AnyArray:
        found: AnyArray = np.empty(end - begin, dtype)
        into = found.data.cast("B")
        at = (place * self.rows + begin) * _WIDTH
        while into:
            count = os.preadv(self._file.fileno(), [into], at)
            if not count:
                raise OSError("a file of staged rows was cut short")
            into, at = into[count:], at + count
        return found

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) or 0 :]
