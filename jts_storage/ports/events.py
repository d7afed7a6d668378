"""The contract of publishing domain events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Protocol

from jts_storage.domain.events import DomainEvent

EventHandler = Callable[[Any], None] | Callable[[Any], Awaitable[None]]
"""A function or coroutine function of one event."""

ALL_EVENTS = "*"
"""The event type under which a handler is registered for every event."""


class EventPublisher(Protocol):
    """Hands events to the handlers registered for them."""

    def register_handler(self, event_type: str | type[DomainEvent], handler: EventHandler) -> None:
        """Call `handler` with every later event of that type; `ALL_EVENTS` stands for every type.

        Handlers of one event are called in the order of their registration, those of the type
        before those of every type.
        """
        ...

    def unregister_handler(
        self, event_type: str | type[DomainEvent], handler: EventHandler
    ) -> bool:
        """Stop calling `handler`; return whether it was registered."""
        ...

    def hears(self, event_type: str) -> bool:
        """Return whether a handler would get an event of that type now.

        A stored event that a dead process left waits until a publisher hears its type. One that
        hands events to a broker hears every type.
        """
        ...

    async def publish(self, event: DomainEvent) -> int:
        """Call every handler of the event and wait for it; how many of them failed.

        A handler that raises is logged with its traceback and counted, and keeps no other handler
        from being called.
        """
        ...

    async def publish_many(self, events: Iterable[DomainEvent]) -> int:
        """`publish` one after the other, in their order; how many handler calls failed."""
        ...


class EventCollector(Protocol):
    """Where a unit of work takes events."""

    def add(self, event: DomainEvent) -> None:
        """Publish `event` once the unit of work has committed, and only then.

        Adding the same event again changes nothing.

        :raises InvalidData: it cannot be stored, or has the id of another event that was added.
        """
        ...
