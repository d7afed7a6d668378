"""What happens within a call: the steps of a commit, repetitions, waits for a connection.

Whoever observes a call listens while it runs. Contexts carry the listener into tasks and threads,
so nothing in between has to pass it on. Nobody listens by default, and telling nobody costs a
tenth of a microsecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol


class Listener(Protocol):
    def reached(self, step: str) -> None: ...


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


def tell(step: str) -> None:
    """Tell whoever observes the call that a step of it is reached."""
    told = listener.get()
    if told is not None:
        told.reached(step)


@contextmanager
def of_commit(identity: object) -> Iterator[None]:
    """Within the block, lines of the log belong to a commit."""
    token = committing.set(str(identity))
    try:
        yield
    finally:
        committing.reset(token)
