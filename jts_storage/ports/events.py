"""The contract of publishing domain events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

from jts_storage.domain.events import DomainEvent
from jts_storage.domain.subscriptions import From, PlainEvent, SubscriptionState
from jts_storage.ports.entered import EnteredOnce

E_co = TypeVar("E_co", bound=DomainEvent, covariant=True)

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


class Subscription(EnteredOnce, Protocol[E_co]):
    """The events of one subscriber: at least once, in the order of their commits.

    Use it once, as an asynchronous context manager, and iterate within: that waits for events, and
    does not end by itself. An event counts as acknowledged when the next one is asked for, or by
    `acknowledge`; the one that was had last when the block is left does not. Asking stores what was
    acknowledged now and then: after a crash the last hundred events at most, or those of the last
    second, may come again. `acknowledge` stores it at once.

    An event comes once its commit is in every store. One whose class is not imported, or refuses
    what is stored, is parked: it is logged, and the next one comes.

    Entering raises `InUse` while another consumer has the durable subscription of this name.
    """

    def __aiter__(self) -> AsyncIterator[E_co]: ...

    async def __anext__(self) -> E_co: ...

    async def next(self, *, within: float) -> E_co | None:
        """The next event; None if there is none within so many seconds.

        It acknowledges the one before in either case.
        """
        ...

    def plain(self) -> AsyncIterator[PlainEvent]:
        """The same events as they are stored, for those who lack their classes: none is parked."""
        ...

    async def batch(self, most: int) -> Sequence[PlainEvent]:
        """The next events as they are stored: those there are, up to so many, and at least one.

        It acknowledges those had before. It is for whoever hands them on, or stores many at once.
        """
        ...

    async def acknowledge(self) -> None:
        """Store that all events had so far are dealt with, so that none of them comes again."""
        ...


class Subscriptions(Protocol):
    """The named subscriptions of one storage."""

    def subscribe(
        self, name: str, *types: str | type[DomainEvent], from_: From, durable: bool
    ) -> Subscription[Any]:
        """A consumer of a subscription, which is there once it is entered.

        A durable subscription keeps its events while nobody consumes it, and has one consumer at
        a time: after a crash, the next one when the lease of the former has run out. One that is
        not durable lives as long as the block; several may have one name.

        :param types: of the events that it hears; all if there are none, or `ALL_EVENTS`. Others
            than the last time are heard from now on.
        :param from_: where a new subscription begins: ``"now"``, with commits that begin once it is
            entered, or ``"stored"``, with the events before that still wait for handlers.
        :raises InvalidData: naming what is no name, type or beginning.
        """
        ...

    async def unsubscribe(self, name: str) -> bool:
        """Forget a durable subscription with its waiting events; False if there was none.

        :raises InUse: it has a consumer.
        """
        ...

    async def list(self) -> Sequence[SubscriptionState]:
        """Those there are, by name: durable ones, and others that have a consumer."""
        ...
