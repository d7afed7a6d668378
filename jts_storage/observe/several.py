"""Several observers as one, and calls that take long told in the log."""

from __future__ import annotations

import logging
from time import perf_counter
from typing import Any

from jts_storage._runtime.steps import committing
from jts_storage.ports.observation import IMPORTS, Call, Observer, Operation

log = logging.getLogger("jts_storage.slow")


class Observers:
    """Each hears of every call, in this order: ``Observers(Metrics(), Traces(), SlowCalls())``."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def begin(self, call: Call) -> _Together:
        return _Together([observer.begin(call) for observer in self.observers])


class _Together:
    __slots__ = ("_operations",)

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = operations

    def reached(self, step: str) -> None:
        for operation in self._operations:
            operation.reached(step)

    def given(self, part: Any) -> None:
        for operation in self._operations:
            operation.given(part)

    def done(self, result: Any) -> None:
        for operation in reversed(self._operations):
            operation.done(result)

    def failed(self, error: BaseException) -> None:
        for operation in reversed(self._operations):
            operation.failed(error)


class SlowCalls:
    """Tells in the log which calls take long, and where a commit spent its time.

    Of an import each of its calls counts, not all of it.

    :param threshold: in seconds.
    """

    def __init__(self, threshold: float = 1.0) -> None:
        self.threshold = threshold

    def begin(self, call: Call) -> _Timed:
        return _Timed(call, self.threshold)


class _Timed:
    __slots__ = ("_begun", "_call", "_commit", "_is_over", "_steps", "_threshold")

    def __init__(self, call: Call, threshold: float) -> None:
        self._call, self._threshold = call, threshold
        self._steps: list[tuple[str, float]] = []
        self._commit: str | None = None
        self._begun, self._is_over = perf_counter(), False

    def reached(self, step: str) -> None:
        if self._is_over:  # what the opening hears of later, for as long as the process lives
            return
        self._steps.append((step, perf_counter()))
        self._commit = committing.get() or self._commit

    def given(self, part: Any) -> None:
        """What is read meanwhile is not timed: its reader decides how long it takes."""

    def done(self, result: Any) -> None:
        self._tell("took")

    def failed(self, error: BaseException) -> None:
        self._tell(f"failed with {type(error).__name__} after")

    def _tell(self, what: str) -> None:
        seconds, self._is_over = perf_counter() - self._begun, True
        is_long = self._call[1:3] == IMPORTS
        if seconds < self._threshold or is_long or self._call.is_stream:
            return
        steps = {step: round(at - self._begun, 4) for step, at in self._steps}
        call = self._call
        log.warning(
            "%s.%s %s %.3f s.",
            call.repository,
            call.operation,
            what,
            seconds,
            extra={
                "store": call.store,
                "repository": call.repository,
                "operation": call.operation,
                "seconds": round(seconds, 4),
                "steps": steps,
            }
            | ({} if self._commit is None else {"commit_id": self._commit}),
        )
