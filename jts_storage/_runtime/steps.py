"""What happens within a call: the steps of a commit, repetitions, waits for a connection.

Whoever observes a call listens while it runs. Contexts carry the listener into tasks and threads,
so nothing in between has to pass it on. Nobody listens by default, and telling nobody costs a
tenth of a microsecond.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar

T = TypeVar("T")


class Listener(Protocol):
    def reached(self, step: str) -> None: ...


class Watching(Listener, Protocol):
    """Who hears of a call from its beginning to its end."""

    def done(self, result: Any) -> None: ...
    def failed(self, error: BaseException) -> None: ...


listener: ContextVar[Listener | None] = ContextVar("jts_storage_listener", default=None)

carried: ContextVar[str | None] = ContextVar("jts_storage_trace", default=None)
"""The trace that a call belongs to, as it is stored with its events: a ``traceparent``."""

committing: ContextVar[str | None] = ContextVar("jts_storage_commit", default=None)
"""The commit that is being made or finished, as the journal and the log name it."""

RETRIED = "retried"
"""An attempt failed and is repeated."""

WAITED = "waited for a connection"
"""All connections were in use, and one had to be waited for."""

HELD = "answered from memory"
"""What was asked for was held, and no store was asked."""

NOT_HELD = "not held in memory"
"""What is asked for could have been held, and the store is asked."""

MOMENTS: Final = frozenset({RETRIED, WAITED, HELD, NOT_HELD})
"""What is a moment within a call, and not the end of a step of it; so is each `Ended`."""

RECOVERY: Final = "recovery"
"""Of one unit of work that somebody else has left: ``finished``, ``failed``, ``rolled_back``,
``abandoned``.
"""

MIGRATION: Final = "migration"
"""Of a store: ``applied``, ``taken_back``, ``failed``."""

IMPORT: Final = "import"
"""Of a ``file``, or of other ``data``: ``finished``, ``failed``."""

RESUMED: Final = "resumed import"
BLOCK: Final = "block of an import"


class Ended(str):
    """A moment with figures: something within a call has come to an end.

    Who knows nothing of it hears a moment of this name.

    :param kind: `RECOVERY`, `MIGRATION`, `IMPORT`, `RESUMED` or `BLOCK`.
    :param labels: what it was of and how it ended; each has few values, and no text of an error.
    :param seconds: how long it took, if that is known.
    :param counts: how many of what there were.
    """

    __slots__ = ("counts", "kind", "labels", "seconds")

    kind: str
    labels: tuple[str, ...]
    seconds: float | None
    counts: Mapping[str, int]

    def __new__(
        cls,
        kind: str,
        *labels: str,
        seconds: float | None = None,
        counts: Mapping[str, int] | None = None,
    ) -> Ended:
        self = super().__new__(cls, ": ".join((kind, " ".join(labels))) if labels else kind)
        self.kind, self.labels = kind, labels
        self.seconds, self.counts = seconds, counts or {}
        return self


def tell(step: str) -> None:
    """Tell whoever observes the call that a step of it is reached."""
    told = listener.get()
    if told is not None:
        told.reached(step)


async def watched(operation: Watching, work: Awaitable[T]) -> T:
    """Await the work of a call, and tell whoever observes it of its end."""
    token = listener.set(operation)
    try:
        result = await work
    except BaseException as error:
        operation.failed(error)
        raise
    finally:
        listener.reset(token)
    operation.done(result)
    return result


@contextmanager
def heard_by(who: Listener | None) -> Iterator[None]:
    """Within the block, `who` is told where no call is observed."""
    token = listener.set(listener.get() or who)
    try:
        yield
    finally:
        listener.reset(token)


@contextmanager
def of_commit(identity: object) -> Iterator[None]:
    """Within the block, lines of the log belong to a commit."""
    token = committing.set(str(identity))
    try:
        yield
    finally:
        committing.reset(token)
