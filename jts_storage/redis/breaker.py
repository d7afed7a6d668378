"""Leaves a server alone that has failed several times, so that it costs nobody any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["closed", "open", "probing"]

FAILURES: Final = 3
WITHIN_SECONDS: Final = 5.0
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0


class Breaker:
    """Closed while the server answers. After three failures within five seconds it opens: nobody
    asks for a second, which doubles up to half a minute; then one caller does, as a probe.

    It belongs to one event loop, or to callers that hold a lock of their own.

    :param told: is called with each new state.
    :param clock: seconds that never go back.
    """

    def __init__(
        self,
        told: Callable[[State], None] | None = None,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._told = told or _nobody
        self._clock = clock
        self._failures: deque[float] = deque(maxlen=FAILURES)
        self._pause = FIRST_PAUSE
        self._until = 0.0
        self._opened_at: float | None = None
        self._open_seconds = 0.0
        self._state: State = "closed"
        self.reason: Exception | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def open_seconds(self) -> float:
        """How long nobody could ask the server, in all."""
        since = 0.0 if self._opened_at is None else self._clock() - self._opened_at
        return self._open_seconds + since

    @property
    def is_due(self) -> bool:
        """Whether `allows` would let a caller through."""
        return self._state == "closed" or self._clock() >= self._until

    def allows(self) -> bool:
        """Whether to ask the server; whoever is told so says afterwards how it went.

        Only one is let through while it is open: a probe, once the pause is over.
        """
        if self._state == "closed":
            return True
        if not self.is_due:
            return False
        # A probe that never says how it went, since it was cancelled, is followed by another one.
        self._until = self._clock() + self._pause
        self._turn("probing")
        return True

    def succeeded(self) -> None:
        if self._state == "closed":
            return
        if self._opened_at is not None:
            self._open_seconds += self._clock() - self._opened_at
        self._opened_at = None
        self._failures.clear()
        self._pause = FIRST_PAUSE
        self._turn("closed")

    def failed(self, reason: Exception | None = None) -> None:
        """
        :param reason: is kept as the last one.
        """
        self.reason = reason
        now = self._clock()
        if self._state == "probing":
            self._pause = min(self._pause * 2, LONGEST_PAUSE)
            self._open(now)
            return
        if self._state == "open":  # a call that had begun before
            return
        self._failures.append(now)
        if len(self._failures) == FAILURES and now - self._failures[0] <= WITHIN_SECONDS:
            self._open(now)

    def _open(self, now: float) -> None:
        self._until = now + self._pause
        if self._opened_at is None:
            self._opened_at = now
        self._turn("open")

    def _turn(self, state: State) -> None:
        if state != self._state:
            self._state = state
            self._told(state)


def _nobody(_: State) -> None:
    return None
