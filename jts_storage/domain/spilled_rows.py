"""Rows that a unit of work has staged and has no room for: they wait in a temporary file."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Sequence
from typing import Final

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
        number = self._numbers.get(key)
        if number is None:
            return None
        begin, end = int(self._offsets[number]), int(self._offsets[number + 1])
        return self._read(begin, end) if end > begin else None

    def loaded(self) -> SeriesRows:
        """All rows, in memory."""
        return SeriesRows(self.keys, self._offsets, self._read(0, self.rows))

    def _read(self, begin: int, end: int) -> Columns:
        def column(place: int, name: str) -> AnyArray:
            found: AnyArray = np.empty(end - begin, np.uint64 if name == "volume" else np.int64)
            into = found.data.cast("B")
            at = (place * self.rows + begin) * _WIDTH
            while into:
                count = os.preadv(self._file.fileno(), [into], at)
                if not count:
                    raise OSError("a file of staged rows was cut short")
                into, at = into[count:], at + count
            return found

        return Columns(*(column(place, name) for place, name in enumerate(Columns._fields)))

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) or 0 :]
