"""Held ranges: candles that were read before, given again while the table is provably unchanged.

A part of a MergeTree is never changed: every insert, merge and mutation makes new parts and
retires old ones. The table's identity with the names and content hashes of its active parts, asked
before and after a read, are therefore a proof that what was read is what the table gives now.

There is no such proof, and nothing is held, where answers may come from several servers, where
`candles` is not a MergeTree of this server (a view, a Distributed or Replicated table), and where
the user may not see `system.parts`. Row policies made in between are not noticed.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sqlalchemy import Table

from jts_storage._runtime.forks import tell_children
from jts_storage.clickhouse import statements
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import AnyArray
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError

DEFAULT_BYTES = 128 << 20

_State = tuple[str, str, int]

# Their parts are all on this server; behind a replica, a view or a Distributed table lie others.
_PROVABLE = ("MergeTree", "ReplacingMergeTree")
_WORTH_ASKING = 20_000
"""Below so many rows, reading costs no more than asking whether anything changed."""


class _Range(NamedTuple):
    """A range of a series, in milliseconds, both ends included."""

    key: SeriesKey
    first: int
    last: int

    @property
    def may_be_large(self) -> bool:
        step = self.key.timeframe.step_ms
        return step is not None and (self.last - self.first) // step >= _WORTH_ASKING

    def covers(self, other: _Range) -> bool:
        return self.key == other.key and self.first <= other.first and other.last <= self.last

    def overlaps(self, other: _Range) -> bool:
        return self.key == other.key and self.first <= other.last and other.first <= self.last


class RangeCache:
    """The ranges last read, up to a number of bytes. Safe to share among threads."""

    def __init__(self, manager: ClickHouseManager, candles: Table, capacity: int) -> None:
        self._manager = manager
        self._select_state = statements.select_parts_state(candles)
        is_one_server = manager.config.cluster is None and len(manager.config.hosts) < 2
        self._capacity = capacity if is_one_server else 0
        self._held: OrderedDict[_Range, CandleSeries] = OrderedDict()
        self._held_of: _State | None = None
        self._size = 0
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def get(
        self, key: SeriesKey, first: int, last: int, read: Callable[[], CandleSeries]
    ) -> CandleSeries:
        """Return a held range if the table is unchanged since then, else what `read` gives."""
        wanted = _Range(key, first, last)
        if not self._capacity or not (wanted.may_be_large or self._has(wanted)):
            return read()
        now = self._state()
        held = self._look_up(wanted, now)
        if held is not None:
            return held
        series = read()
        # Asked again: what came in during the read may or may not be in it.
        if now is not None and len(series) >= _WORTH_ASKING and self._state() == now:
            self._hold(wanted, now, series)
        return series

    def _look_up(self, wanted: _Range, now: _State | None) -> CandleSeries | None:
        with self._lock:
            if now != self._held_of:
                self._held.clear()
                self._held_of, self._size = now, 0
            found = self._covering(wanted)
            if found is not None:
                self._held.move_to_end(found)
                return _cut(self._held[found], wanted)
            # What overlaps would be held twice; gone now, its memory serves the read.
            for held in [held for held in self._held if held.overlaps(wanted)]:
                self._forget(held)
            return None

    def _has(self, wanted: _Range) -> bool:
        with self._lock:
            return self._covering(wanted) is not None

    def _covering(self, wanted: _Range) -> _Range | None:
        return next((held for held in self._held if held.covers(wanted)), None)

    def _state(self) -> _State | None:
        """The same as long as the table is unchanged; None where that cannot be known."""
        try:
            engine, table, digest, parts = self._manager.execute(self._select_state)[0]
        except StorageError:
            return None
        return (table, digest, parts) if engine in _PROVABLE and table else None

    def _hold(self, wanted: _Range, state: _State, series: CandleSeries) -> None:
        with self._lock:
            if state != self._held_of or _size(series) > self._capacity:
                return
            self._forget(wanted)
            self._held[wanted] = series
            self._size += _size(series)
            while self._size > self._capacity and self._held:
                self._forget(next(iter(self._held)))

    def _forget(self, held: _Range) -> None:
        series = self._held.pop(held, None)
        if series is not None:
            self._size -= _size(series)


def _cut(series: CandleSeries, wanted: _Range) -> CandleSeries:
    stamps = series.columns.timestamp
    start = int(np.searchsorted(stamps, wanted.first))
    stop = int(np.searchsorted(stamps, wanted.last, side="right"))
    if stop - start == len(series):
        return series
    part = series[start:stop]
    # A small part must not keep all of the range in memory when the range itself is forgotten.
    return part if 2 * len(part) > len(series) else _copied(part)


def _copied(series: CandleSeries) -> CandleSeries:
    return CandleSeries.trusted(series.key, series.columns.each(np.copy))


def _size(series: CandleSeries) -> int:
    """The bytes of the memory that a series lies in, of which it may be a part."""
    owners = {id(owner): owner.nbytes for owner in map(_owner, series.columns)}
    return sum(owners.values())


def _owner(array: AnyArray) -> AnyArray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
