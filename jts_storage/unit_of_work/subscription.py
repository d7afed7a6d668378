"""One consumer of a subscription: hands events out one by one, and acknowledges them in bulk."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final, Protocol, Self

from jts_storage._runtime.tasks import run_to_the_end, stopped
from jts_storage.domain import checks
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.subscriptions import Interest, PlainEvent
from jts_storage.errors import StorageError
from jts_storage.unit_of_work.staged.events import event_of

PAGE: Final = 1_000
"""So many events are read at once, so that a long backlog takes no more room than a short one."""

_STORE_AFTER: Final = 100
_STORE_AFTER_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Delivery:
    """An event for one subscription.

    :param place: by which it is acknowledged.
    """

    place: Hashable
    event: PlainEvent


class Source(Protocol):
    """What is stored for one subscription."""

    async def begin(self) -> None:
        """:raises InUse: somebody else consumes it."""
        ...

    async def end(self) -> None: ...

    async def read(self) -> Sequence[Delivery]:
        """The next events, at most `PAGE`; none if none can be told now.

        What it gave before is not given again unless it was retried.
        """
        ...

    async def wait(self) -> None:
        """Wait until there may be more to read."""
        ...

    async def acknowledge(self, places: Sequence[Any]) -> None:
        """Forget these; doing it twice is doing it once."""
        ...

    async def park(self, delivery: Delivery) -> None:
        """Put an event aside, which nobody is told before it is retried."""
        ...


class EventSubscription:
    """The `Subscription` of the ports, over whatever the events are stored in."""

    def __init__(self, interest: Interest, source: Source) -> None:
        self._interest = interest
        self._source = source
        self._page: deque[Delivery] = deque()
        self._had: list[Delivery] = []
        self._acknowledged: list[Hashable] = []
        self._stored_at = monotonic()
        self._storing = asyncio.Lock()
        self._filling: asyncio.Task[None] | None = None
        self._is_asked = False
        self._state = "has not been entered"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DomainEvent:
        with self._asking():
            while True:
                delivery = await self._first()
                event = _restored(delivery.event, self._interest.name)
                if event is not None:
                    self._had.append(self._page.popleft())
                    return event
                await self._source.park(delivery)
                self._page.popleft()

    async def batch(self, most: int) -> Sequence[PlainEvent]:
        checks.whole(most, "most", least=1)
        with self._asking():
            await self._first()
            while self._page and len(self._had) < most:
                self._had.append(self._page.popleft())
                self._leave_out()
            return [delivery.event for delivery in self._had]

    async def next(self, *, within: float) -> DomainEvent | None:
        try:
            async with asyncio.timeout(within):
                return await anext(self)
        except TimeoutError:
            return None

    def plain(self) -> AsyncIterator[PlainEvent]:
        return _Plain(self)

    async def acknowledge(self) -> None:
        with self._asking():
            self._acknowledge_last()
            await self._store()

    async def __aenter__(self) -> Self:
        if self._state != "has not been entered":
            raise StorageError(
                "A subscription can be entered only once.", remedy="Ask the storage for a new one."
            )
        self._state = "is being entered"
        await self._source.begin()
        self._state = ""
        return self

    async def __aexit__(self, *_: object) -> None:
        self._state = "is over"
        await run_to_the_end(self._leave())

    async def _leave(self) -> None:
        if self._filling is not None:
            await stopped(self._filling)
        try:
            await self._store()
        except StorageError:
            log.warning("Events of %r may come again.", self._interest.name, exc_info=True)
        try:
            await self._source.end()
        except StorageError:
            log.warning("%r is free when its lease runs out.", self._interest.name, exc_info=True)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """:raises StorageError: it is not entered, or another task asks already."""
        if self._state:
            raise StorageError(
                f"This subscription {self._state}.",
                remedy="Use it within `async with`, a blocking one within `with`.",
            )
        if self._is_asked:  # to ask acknowledges what the other one was given
            raise StorageError(
                "Two tasks read one subscription.", remedy="Give each a subscription of its own."
            )
        self._is_asked = True
        try:
            yield
        finally:
            self._is_asked = False

    async def _first(self) -> Delivery:
        """The first event that was not handed out; it stays on the page."""
        self._acknowledge_last()
        self._leave_out()
        is_time = monotonic() - self._stored_at > _STORE_AFTER_SECONDS
        if is_time or len(self._acknowledged) >= _STORE_AFTER or not self._page:
            # In a task of its own, which goes on when whoever asks gives up: one who waits for
            # less than a round trip each time would never get anything.
            self._filling = self._filling or asyncio.create_task(self._fill())
        if self._filling is not None:
            await asyncio.wait([self._filling])
            filled, self._filling = self._filling, None
            filled.result()
        return self._page[0]

    async def _fill(self) -> None:
        """Store what is acknowledged, and read until there is an event that is heard."""
        await self._store()
        while not self._page:
            self._page.extend(await self._source.read())
            self._leave_out()
            await self._store()
            if not self._page:
                await self._source.wait()

    def _leave_out(self) -> None:
        """Acknowledge the next events as far as they are of types that are not heard."""
        while self._page and not self._interest.hears(self._page[0].event.event_type):
            self._acknowledged.append(self._page.popleft().place)

    def _acknowledge_last(self) -> None:
        self._acknowledged += [delivery.place for delivery in self._had]
        self._had.clear()

    async def _store(self) -> None:
        """Store which events are acknowledged. If that fails, the next time tries it again."""
        async with self._storing:
            if number := len(self._acknowledged):
                await self._source.acknowledge(self._acknowledged[:number])
                del self._acknowledged[:number]
            self._stored_at = monotonic()


class _Plain:
    """Not a generator: one that is cancelled while it waits would be at its end."""

    def __init__(self, subscription: EventSubscription) -> None:
        self._subscription = subscription

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> PlainEvent:
        (event,) = await self._subscription.batch(1)
        return event


def _restored(plain: PlainEvent, name: str) -> DomainEvent | None:
    """The event; None if its class is not imported here, or refuses what is stored."""
    about = {"event_id": plain.id, "subscription": name}
    try:
        event = event_of(plain.class_name, plain.data)
    except Exception:
        # The class is the service's own, and its next release may raise anything for old data.
        log.warning("An event is parked: its class refuses it.", exc_info=True, extra=about)
        return None
    if event is None:
        log.warning("An event is parked: %s is not imported.", plain.class_name, extra=about)
    return event
