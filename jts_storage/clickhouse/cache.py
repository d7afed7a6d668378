"""Ranges that were read before, given again as long as the table is provably the same.

A part of a MergeTree is never changed: every insert, merge and mutation makes new parts and
retires old ones. The names and content hashes of the active parts, asked before and after a read,
are therefore a proof that what was read is what the table gives now. On a cluster, where the
answer is another replica's each time, there is no such proof and no cache.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from jts_storage.clickhouse import statements
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.series import CandleSeries

_Place = tuple[SeriesKey, int, int]
_State = tuple[str, int]

_BYTES_A_ROW = 48
_WORTH_ASKING = 20_000
"""Below so many rows, reading costs no more than asking whether anything changed."""


class RangeCache:
    """The ranges last read, up to a number of bytes. Safe to share among threads."""

    def __init__(self, manager: ClickHouseManager, capacity: int) -> None:
        self._manager = manager
        self._capacity = capacity if manager.config.cluster is None else 0
        self._held: OrderedDict[_Place, tuple[_State, CandleSeries]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(
        self, key: SeriesKey, first: int, last: int, read: Callable[[], CandleSeries]
    ) -> CandleSeries:
        """What `read` gives, or gave when the table was as it is now."""
        place = (key, first, last)
        with self._lock:
            held = self._held.get(place)
        before = self._state() if held or self._capacity else None
        if held is not None and held[0] == before:
            with self._lock:
                if place in self._held:
                    self._held.move_to_end(place)
            return held[1]
        series = read()
        if before is not None and len(series) >= _WORTH_ASKING and self._state() == before:
            self._hold(place, before, series)
        return series

    def _state(self) -> _State:
        digest, parts = self._manager.execute(statements.SELECT_STATE)[0]
        return digest, parts

    def _hold(self, place: _Place, state: _State, series: CandleSeries) -> None:
        with self._lock:
            self._forget(place)
            self._held[place] = (state, series)
            self._size += len(series) * _BYTES_A_ROW
            while self._size > self._capacity and self._held:
                self._forget(next(iter(self._held)))

    def _forget(self, place: _Place) -> None:
        held = self._held.pop(place, None)
        if held is not None:
            self._size -= len(held[1]) * _BYTES_A_ROW
