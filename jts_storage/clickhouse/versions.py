"""Numbers by which the later of two writes is known."""

from __future__ import annotations

import threading
import time

from jts_storage.clickhouse.forks import tell_children


class Versions:
    """Give versions that grow within this process, whatever the moments they are made of."""

    def __init__(self) -> None:
        self._latest = 0
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def next(self, least: int, count: int = 1) -> int:
        """Return the first of `count` versions, none below `least` and none given before."""
        with self._lock:
            first = max(least, self._latest + 1)
            self._latest = first + count - 1
            return first


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

    def see(self, version: int) -> None:
        with self._lock:
            self._latest = max(self._latest, version)


_clock = _Clock()


def next_version(count: int = 1) -> int:
    """The first of `count` versions that are later than any this process has given or seen.

    Versions are nanoseconds since 1970: of two processes that write the same at once, the one
    whose clock is later wins.
    """
    return _clock.next(count)


def see_version(version: int) -> None:
    """Have all versions from now on be later than one that is stored, though its writer's clock
    may be ahead of ours, or ours was set back.
    """
    _clock.see(version)
