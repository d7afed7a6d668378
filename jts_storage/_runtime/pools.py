"""What a pool of connections says of itself, whichever store it belongs to."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The pool at one moment.

    :param capacity: connections that may be open at once.
    :param open: connections that are.
    :param in_use: those among them that somebody holds.
    :param waiting: callers that have none yet.
    :param timeouts: callers that were refused since none was free in time, so far.
    """

    capacity: float
    open: int
    in_use: int
    waiting: int = 0
    timeouts: int = 0


class PoolWaits:
    """Counts those who wait within its block, and those whom it is left with a timeout by.

    :param timeout: the error of the pool that says so.
    """

    def __init__(self, timeout: type[Exception]) -> None:
        self.waiting = self.timeouts = 0
        self._timeout = timeout
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self.waiting += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._lock:
            self.waiting -= 1
            self.timeouts += isinstance(error, self._timeout)
