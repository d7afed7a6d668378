"""Write versions: of two rows of one key the one with the higher version counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Protocol

from jts_storage._runtime.forks import tell_children
from jts_storage.errors import ConnectionFailed


class Versions:
    """Give each write of this process a version of its own.

    The server says which version a write must have at least: above what is stored, and not before
    the moment. Two writes at once may get the same answer, so those under way are counted here.
    """

    def __init__(self) -> None:
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._writers: Counter[Hashable] = Counter()
        self._latest: dict[Hashable, int] = {}

    @contextmanager
    def of(self, what: Hashable, least: Callable[[], int]) -> Iterator[Callable[[int], int]]:
        """Have a function, for the time of a write, that gives the first of so many versions.

        :param what: what is written; writes of other things are not looked at.
        :param least: asks the server.
        """
        with self._lock:
            self._writers[what] += 1
        try:
            yield lambda count: self._first(what, least(), count)
        finally:
            with self._lock:
                self._writers[what] -= 1
                if self._writers[what] <= 0:
                    # The server sees what was written, so that nothing needs to be remembered.
                    del self._writers[what]
                    self._latest.pop(what, None)

    def _first(self, what: Hashable, least: int, count: int) -> int:
        with self._lock:
            first = max(least, self._latest.get(what, 0) + 1)
            self._latest[what] = first + count - 1
            return first


class Turns:
    """Let the threads of this process write the same thing one after the other.

    What one replaces would be missed by the history, if it came between another's look and insert.
    """

    def __init__(self) -> None:
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._turns: dict[Hashable, tuple[threading.Lock, int]] = {}

    @contextmanager
    def of(self, what: Hashable) -> Iterator[None]:
        """Wait for whoever writes it, and have it for the time of a write."""
        with self._lock:
            turn, count = self._turns.get(what, (threading.Lock(), 0))
            self._turns[what] = turn, count + 1
        try:
            with turn:
                yield
        finally:
            self._give_back(what)

    def _give_back(self, what: Hashable) -> None:
        with self._lock:
            turn, count = self._turns.pop(what)
            if count > 1:
                self._turns[what] = turn, count - 1


class WritesUnderWay:
    """What the threads of this process are writing, those of cancelled commits among it."""

    def __init__(self) -> None:
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[object, Collection[Hashable]] = {}

    @contextmanager
    def of(self, what: Collection[Hashable]) -> Iterator[object]:
        """Say what is written for the time of a write; give what stands for it."""
        write = object()
        with self._lock:
            self._under_way[write] = what
        try:
            yield write
        finally:
            with self._lock:
                del self._under_way[write]

    def is_any_written(self, what: Collection[Hashable], *, besides: object) -> bool:
        with self._lock:
            others = [each for write, each in self._under_way.items() if write is not besides]
        wanted = set(what) if others else set()
        return any(not wanted.isdisjoint(each) for each in others)


class WritePlace(Protocol):
    """The place of one write in the order of commits; `was_kept` says whether others waited."""

    version: int
    was_kept: bool


class WriteClock(Protocol):
    """What gives a write its place in the order of all."""

    def place(
        self, *, versions: int, series: Collection[str]
    ) -> AbstractAsyncContextManager[WritePlace]: ...


def paused_for_too_long(what: str) -> ConnectionFailed:
    """The error for a write whose place was given up before it ended.

    Deletions that came later have not waited for it, so its rows may be there in spite of them; and
    others may have read and changed them, so it cannot be repeated as a later write.
    """
    return ConnectionFailed(
        f"{what} was paused for longer than others wait for it. Whether a later deletion of the"
        " same candles has seen it is unknown.",
        remedy="Read before you repeat it.",
    )


def counted_from(version: int) -> Callable[[int], int]:
    """A function that gives the first of so many versions, from this one on."""
    latest = version - 1

    def first(count: int) -> int:
        nonlocal latest
        given, latest = latest + 1, latest + count
        return given

    return first
