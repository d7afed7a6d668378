"""Rows of several series in the same columns, whatever their timeframes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import compress
from operator import attrgetter

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.arrays import from_candles
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.columns import (
    AnyArray,
    Columns,
    Int64Array,
    checked,
    concatenate,
    empty,
    grouped,
    ranked,
    series_of_rows,
)
from jts_storage.domain.series import CandleSeries

_ORDER = attrgetter("symbol", "exchange", "timeframe._value_")
"""As `SeriesKey.sort_key`, of thousands."""


@dataclass(frozen=True, eq=False)
class SeriesRows:
    """The rows of one series behind those of the other.

    Each series ascends by timestamp, each timestamp once.

    :param keys: in the order of their `sort_key`.
    :param offsets: where each series begins, and behind the last where it ends.
    """

    keys: Sequence[SeriesKey]
    offsets: Int64Array
    columns: Columns

    @classmethod
    def of(cls, series: CandleSeries) -> SeriesRows:
        return cls((series.key,), np.array([0, len(series)]), series.columns)

    @classmethod
    def grouped(cls, keys: Sequence[SeriesKey], number: Int64Array, columns: Columns) -> SeriesRows:
        """Rows in any order, `number` saying of each which key it has."""
        return cls(keys, *grouped(number, len(keys), columns))

    @classmethod
    def joined(cls, parts: Sequence[SeriesRows | LooseRows]) -> SeriesRows:
        """All in one; the last part that has a timestamp of a series counts."""
        if not parts:
            return cls((), np.zeros(1, np.int64), empty())
        if len(parts) == 1 and isinstance(parts[0], SeriesRows):
            return parts[0]
        # Numbered as they come, then by their order: a key is hashed once.
        came: dict[SeriesKey, int] = {}
        numbers = [_numbered(part.keys, came)[part.number] for part in parts]
        order, place = ranked(list(map(_ORDER, came)))
        keys = list(came)
        columns = concatenate([part.columns for part in parts])
        number = place[np.concatenate(numbers)]
        return cls.grouped([keys[at] for at in order], number, columns)

    @property
    def rows(self) -> int:
        return self.columns.rows

    @property
    def ends(self) -> tuple[datetime, datetime]:
        """The first and the last timestamp of all."""
        stamps = self.columns.timestamp
        return checks.from_ms(int(stamps.min())), checks.from_ms(int(stamps.max()))

    @cached_property
    def spans(self) -> Mapping[SeriesKey, tuple[int, int]]:
        """The first and the last millisecond of each series: of thousands, asked for once."""
        stamps, filled = self.columns.timestamp, np.diff(self.offsets) > 0
        firsts, lasts = stamps[self.offsets[:-1][filled]], stamps[self.offsets[1:][filled] - 1]
        keys = self.keys if filled.all() else compress(self.keys, filled.tolist())
        return dict(zip(keys, zip(firsts.tolist(), lasts.tolist(), strict=True), strict=True))

    @property
    def number(self) -> Int64Array:
        """Which key each row has."""
        return series_of_rows(self.offsets)

    def __iter__(self) -> Iterator[CandleSeries]:
        for key, begin, end in zip(self.keys, self.offsets, self.offsets[1:], strict=False):
            yield CandleSeries.trusted(key, self.columns.take(slice(begin, end)))

    def only(self, numbers: Sequence[int]) -> SeriesRows:
        """The rows of these of the series, ascending, without those that have none."""
        sizes = np.diff(self.offsets)
        wanted = np.zeros(len(self.keys), np.bool_)
        wanted[list(numbers)] = True
        wanted &= sizes > 0
        if wanted.all():
            return self
        keys = [key for key, is_wanted in zip(self.keys, wanted.tolist(), strict=True) if is_wanted]
        offsets = np.concatenate(([0], np.cumsum(sizes[wanted])))
        if offsets[-1] == self.rows:
            return SeriesRows(keys, offsets, self.columns)
        rows = np.flatnonzero(np.repeat(wanted, sizes))
        return SeriesRows(keys, offsets, self.columns.take(rows))

    def pieces(self, most: int) -> Iterator[SeriesRows]:
        """At most so many rows each: whole series together, or a part of a longer one alone."""
        first = 0
        while first < len(self.keys):
            begin = int(self.offsets[first])
            behind = int(np.searchsorted(self.offsets, begin + most, side="right")) - 1
            if behind == first:  # a longer one
                behind = first + 1
                for start in range(begin, int(self.offsets[behind]), most):
                    stop = min(start + most, int(self.offsets[behind]))
                    yield self._part(first, behind, start, stop)
            elif (first, behind) == (0, len(self.keys)):
                yield self
            else:
                yield self._part(first, behind, begin, int(self.offsets[behind]))
            first = behind

    def where(self, wanted: AnyArray) -> SeriesRows:
        """Those rows, with the keys that have any."""
        if wanted.all():
            return self.only(range(len(self.keys)))
        present, number = np.unique(self.number[wanted], return_inverse=True)
        offsets = np.searchsorted(number, np.arange(len(present) + 1))
        keys = [self.keys[each] for each in present.tolist()]
        return SeriesRows(keys, offsets, self.columns.take(np.flatnonzero(wanted)))

    def _part(self, first: int, behind: int, start: int, stop: int) -> SeriesRows:
        offsets = np.clip(self.offsets[first : behind + 1], start, stop) - start
        return SeriesRows(self.keys[first:behind], offsets, self.columns.take(slice(start, stop)))


def _numbered(keys: Sequence[SeriesKey], came: dict[SeriesKey, int]) -> Int64Array:
    """The number of each key, in `came`, which gets those that are new."""
    if not came:
        came.update(zip(keys, range(len(keys)), strict=True))
        if len(came) == len(keys):
            return np.arange(len(keys))
        came.clear()
    return np.array([came.setdefault(key, len(came)) for key in keys])


@dataclass(frozen=True, slots=True, eq=False)
class LooseRows:
    """Rows in any order, as they came; of equal timestamps of a series the last counts.

    :param keys: of each row.
    """

    keys: Sequence[SeriesKey]
    columns: Columns

    @classmethod
    def of(cls, keys: Sequence[SeriesKey], candles: Sequence[Candle]) -> LooseRows:
        return cls(keys, checked(from_candles(candles)))

    @property
    def number(self) -> slice:
        """Which key each row has."""
        return slice(None)
