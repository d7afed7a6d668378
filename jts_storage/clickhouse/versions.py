"""Numbers by which the later of two writes is known."""

from __future__ import annotations

import threading
import time

from jts_storage.clickhouse.forks import tell_children


class _Clock:
    def __init__(self) -> None:
        self._latest = 0
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def next(self, count: int) -> int:
        with self._lock:
            first = max(time.time_ns(), self._latest + 1)
            self._latest = first + count - 1
            return first


_clock = _Clock()


def next_version(count: int = 1) -> int:
    """The first of `count` versions that are later than any this process has given before.

    Versions are nanoseconds since 1970: between processes, the later clock wins.
    """
    return _clock.next(count)
