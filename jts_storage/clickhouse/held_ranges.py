"""Ranges that were read, in memory, found by key and time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from dataclasses import dataclass
from operator import attrgetter

from jts_storage.clickhouse.change_log import Spans
from jts_storage.clickhouse.memory import bytes_in_use
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import owner_of
from jts_storage.domain.series import CandleSeries

OVERHEAD = 2_048
"""Bytes of the objects that a held range is made of, beside its columns."""

_ROW_BYTES = 6 * 8

_first, _last = attrgetter("first"), attrgetter("last")


@dataclass(slots=True, eq=False)
class HeldRange:
    """What a series holds in a range of milliseconds, both ends included.

    :param size: bytes of the memory that `series` lies in, of which it may be a part.
    """

    key: SeriesKey
    first: int
    last: int
    series: CandleSeries
    size: int

    @property
    def length(self) -> int:
        return self.last - self.first


class HeldRanges:
    """Ranges that do not overlap, up to a number of bytes. The caller locks."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self.clear()

    def clear(self) -> None:
        self._of_key: dict[SeriesKey, list[HeldRange]] = {}
        self._by_use: OrderedDict[HeldRange, None] = OrderedDict()
        self.size = 0

    def __len__(self) -> int:
        return len(self._by_use)

    def look_up(self, key: SeriesKey, first: int, last: int) -> CandleSeries | None:
        """Return the candles of a range if all of it is held."""
        ranges = self._of_key.get(key)
        if ranges is None:
            return None
        at = bisect_right(ranges, first, key=_first) - 1
        if at < 0 or ranges[at].last < last:
            return None
        held = ranges[at]
        self._by_use.move_to_end(held)
        return _cut(held.series, first, last)

    def make_room(self, key: SeriesKey, first: int, last: int) -> bool:
        """Forget what would be held twice with a range that is going to be read.

        Return False, and forget nothing, if what is held is the longer of the two.
        """
        overlapping = self._overlapping(key, first, last)
        if sum(held.length for held in overlapping) > last - first:
            return False
        for held in overlapping:
            self._forget(held)
        return True

    def hold(self, key: SeriesKey, first: int, last: int, series: CandleSeries) -> None:
        size = size_of(series)
        if size > self._capacity or not self.make_room(key, first, last):
            return
        held = HeldRange(key, first, last, series, size)
        ranges = self._of_key.setdefault(key, [])
        ranges.insert(bisect_right(ranges, first, key=_first), held)
        self._by_use[held] = None
        self.size += size
        while self.size > self._capacity:
            self._forget(next(iter(self._by_use)))

    def drop(self, spans: Spans) -> None:
        """Forget what has changed, and keep the longer side of what lies around it."""
        for key in spans.keys() & self._of_key.keys():
            first, last = spans[key]
            for held in self._overlapping(key, first, last):
                self._forget(held)
                left = _remains(held, held.first, first - 1)
                right = _remains(held, last + 1, held.last)
                kept = left if len(left.series) >= len(right.series) else right
                # What is left must not keep many times its own memory.
                if 2 * _ROW_BYTES * len(kept.series) > held.size - OVERHEAD:
                    self.hold(key, kept.first, kept.last, kept.series)

    def _overlapping(self, key: SeriesKey, first: int, last: int) -> list[HeldRange]:
        ranges = self._of_key.get(key, [])
        begin, end = bisect_left(ranges, first, key=_last), bisect_right(ranges, last, key=_first)
        return ranges[begin:end]

    def _forget(self, held: HeldRange) -> None:
        del self._by_use[held]
        self.size -= held.size
        ranges = self._of_key[held.key]
        ranges.remove(held)
        if not ranges:
            del self._of_key[held.key]


def _remains(held: HeldRange, first: int, last: int) -> HeldRange:
    return HeldRange(held.key, first, last, _cut(held.series, first, last), held.size)


def _cut(series: CandleSeries, first: int, last: int) -> CandleSeries:
    """The part in a range, on the same memory."""
    stamps = series.columns.timestamp
    start, stop = stamps.searchsorted((first, last + 1)).tolist()
    return series if stop - start == len(series) else series[start:stop]


def size_of(series: CandleSeries) -> int:
    """Return the bytes of the memory that a series lies in, of which it may be a part."""
    owners = {id(owner): bytes_in_use(owner) for owner in map(owner_of, series.columns)}
    return sum(owners.values()) + OVERHEAD
