"""Write versions: of two rows of one key the one with the higher version counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

from jts_storage.clickhouse.forks import tell_children


class Versions:
    """Give versions that grow strictly within this process, for each of what is written.

    They are made of the time of a server, which two writes at once may share.
    """

    def __init__(self) -> None:
        self._latest: dict[Hashable, int] = {}
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()

    def next(self, least: int, *, of: Hashable = None, count: int = 1) -> int:
        """Return the first of `count` versions, from `least` on and above all given before.

        :param of: what is written under it. What is ahead in one series must not take others along.
        """
        with self._lock:
            first = max(least, self._latest.get(of, 0) + 1)
            self._latest[of] = first + count - 1
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
