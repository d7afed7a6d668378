"""Ranges that were read before, given again as long as the table is provably the same.

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

from jts_storage.clickhouse import statements
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError

DEFAULT_BYTES = 128 << 20

_Place = tuple[SeriesKey, int, int]
_State = tuple[str, str, int]

_BYTES_A_ROW = 48
_WORTH_ASKING = 20_000
"""Below so many rows, reading costs no more than asking whether anything changed."""


class RangeCache:
    """The ranges last read, up to a number of bytes. Safe to share among threads."""

    def __init__(self, manager: ClickHouseManager, capacity: int) -> None:
        self._manager = manager
        is_one_server = manager.config.cluster is None and len(manager.config.hosts) < 2
        self._capacity = capacity if is_one_server else 0
        self._held: OrderedDict[_Place, tuple[_State, CandleSeries]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(
        self, key: SeriesKey, first: int, last: int, read: Callable[[], CandleSeries]
    ) -> CandleSeries:
        """What `read` gives, or gave when the table was as it is now."""
        if not self._capacity or not _may_be_large(key, first, last):
            return read()
        place = (key, first, last)
        now = self._state()
        held = self._look_up(place, now)
        if held is not None:
            return held
        series = read()
        if now is not None and len(series) >= _WORTH_ASKING and self._state() == now:
            self._hold(place, now, series)
        return series

    def _look_up(self, place: _Place, now: _State | None) -> CandleSeries | None:
        with self._lock:
            state, series = self._held.get(place, (None, None))
            if state is None or state != now:
                self._forget(place)
                return None
            self._held.move_to_end(place)
            return series

    def _state(self) -> _State | None:
        """What is as long as the table is the same; None where that cannot be known."""
        try:
            table, digest, parts = self._manager.execute(statements.SELECT_STATE)[0]
        except StorageError:
            return None
        return (table, digest, parts) if table is not None and parts else None

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


def _may_be_large(key: SeriesKey, first: int, last: int) -> bool:
    step = key.timeframe.step_ms
    return step is not None and (last - first) // step >= _WORTH_ASKING
