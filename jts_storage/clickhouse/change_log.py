"""Log what statements of this process may have changed, so that the cache knows what is valid.

The embedded store belongs to one process: a lock on its files keeps every other one out. All
statements of this process go through `embedded.session`, which tells the log of each that may do
more than read, before it begins and after it has ended, failed ones too. What was read while none
was under way is therefore what the engine would give, until the next one is told of. Merges go on
in the background and change no answer; `statement_changes` finds out what else may act without a
statement.

A write that says which candles it touches leaves all others as they were. Whatever is not known to
touch less may have touched everything.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from jts_storage.domain.candle import SeriesKey

Spans = Mapping[SeriesKey, tuple[int, int]]
"""First and last millisecond of each series."""

_REMEMBERED = 64
"""Changes; whoever has missed more takes it that everything has changed."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a statement may have changed.

    :param table: the only table whose rows it may change; None if it may do anything.
    :param spans: the only candles that it may change; None if they may be any.
    :param deletes: whether there may be fewer of them afterwards.
    """

    table: str | None = None
    spans: Spans | None = None
    deletes: bool = False

    def touches(self, table: str) -> bool:
        return self.table is None or self.table == table


ANYTHING = Change()


class ChangeLog:
    """The changes of one store. Safe to share among threads.

    :ivar number: raised before and after each change.
    :ivar unknown: the number of the last change that may have done anything.
    :ivar is_open: whether the store is open, so that nobody else can change it.
    """

    def __init__(self) -> None:
        self.number = self.unknown = 0
        self.is_open = False
        self._lock = threading.Lock()
        self._noted: deque[tuple[int, Change]] = deque(maxlen=_REMEMBERED)
        self._under_way: dict[int, Change] = {}

    def begin_in_child(self) -> None:
        """The store stays with the parent, whose changes are not seen here."""
        self._lock = threading.Lock()
        self.closed()

    def opened(self) -> None:
        """Others may have changed it while it was closed."""
        with self._lock:
            self._note(ANYTHING)
            self.is_open = True

    def closed(self) -> None:
        self.is_open = False

    @contextmanager
    def change(self, change: Change) -> Iterator[None]:
        """Make a change, or try to."""
        with self._lock:
            begun = self._note(change)
            self._under_way[begun] = change
        try:
            yield
        finally:
            with self._lock:
                del self._under_way[begun]
                self._note(change)

    def since(self, number: int, *, under_way: bool = False) -> tuple[int, list[Change]]:
        """Return the present number, and what has changed since an earlier one.

        :param under_way: name what has not ended yet, too.
        """
        with self._lock:
            newest_first = reversed(self._noted)
            missed = [each for _, each in takewhile(lambda noted: noted[0] > number, newest_first)]
            if self.number - number > len(missed):
                missed = [ANYTHING]
            if under_way:
                missed.extend(self._under_way.values())
            return self.number, missed

    def _note(self, change: Change) -> int:
        self._noted.append((self.number + 1, change))
        if change.table is None:
            self.unknown = self.number + 1
        self.number += 1  # last: whoever sees it may ask what it was
        return self.number


_of_thread = threading.local()


@contextmanager
def touching(change: Change) -> Iterator[None]:
    """Say what the statements of this thread touch; what was said farther out counts."""
    before = known()
    _of_thread.change = before if before is not ANYTHING else change
    try:
        yield
    finally:
        _of_thread.change = before


def known() -> Change:
    """Return what the statements of this thread touch."""
    change: Change = getattr(_of_thread, "change", ANYTHING)
    return change
