"""Delivery of stored events: at least once, and for one key in the order of the commits.

A commit delivers its own events. What a dead process left is delivered by any process that has
handlers for it. What fails is tried again in the background, until it is parked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from math import inf
from typing import Any, Protocol

from jts_storage._runtime.steps import carried
from jts_storage._runtime.tasks import stopped
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.subscriptions import PlainEvent
from jts_storage.errors import StorageError
from jts_storage.mongo.leases import Leases
from jts_storage.unit_of_work.clock import CommitClock
from jts_storage.unit_of_work.journal import Journal
from jts_storage.unit_of_work.outbox import Outbox, WaitingEvent

ATTEMPTS = 5
PATIENCE = timedelta(seconds=30)
"""How long the handlers of one event may take together; it counts as a failure then."""

_EVENTS_AT_ONCE = 100
_NO_TIME = timedelta()
_FIRST_PAUSE = timedelta(seconds=0.2)
_SHORTEST_PAUSE = timedelta(seconds=0.5)
_PAUSE_BETWEEN_LOOKS = timedelta(seconds=5)

log = logging.getLogger(__name__)


class Listener(Protocol):
    """Who has handlers: the publisher of this process, or a client of it."""

    def hears(self, event_type: str, /) -> bool: ...

    async def publish(self, event: Any, /) -> int:
        """Have an event handled, as the outbox reads it; how many handlers failed.

        :raises UnknownClass: who hears its type lacks its class.
        """
        ...


class UnknownClass(Exception):
    """Of an event, which waits for who has the class."""


class Delivery:
    """Hands the events of an outbox to a listener. It belongs to one event loop."""

    def __init__(
        self,
        outbox: Outbox,
        journal: Journal,
        clock: CommitClock,
        leases: Leases,
        publisher: Listener,
    ) -> None:
        self._outbox = outbox
        self._journal = journal
        self._clock = clock
        self._leases = leases
        self._publisher = publisher
        self._timer: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    def to(self, listener: Listener) -> Delivery:
        """The same for handlers of another process, which gets the events as they are stored."""
        outbox = self._outbox.for_others()
        return Delivery(outbox, self._journal, self._clock, self._leases, listener)

    async def deliver_own(self, events: Sequence[DomainEvent]) -> int:
        """Deliver the events of a commit that this process has handlers for, and those before them.

        Returns how many events were delivered.
        """
        heard = [event for event in events if self._publisher.hears(event.event_type)]
        own = {event.id for event in heard}
        return await self.deliver_keys((event.key for event in heard), own)

    async def deliver_keys(self, keys: Iterable[str], own: Collection[str] = frozenset()) -> int:
        """Deliver the first events of these keys; how many were delivered.

        :param own: events of a commit that is known to be in every store.
        """
        delivered = 0
        for key in dict.fromkeys(keys):
            delivered += await self._deliver_key(key, own)
        return delivered

    async def deliver(self) -> int:
        """Deliver all waiting events that this process has handlers for; return how many."""
        heard = self._heard(await self._outbox.types())
        delivered = 0
        async for key in self._outbox.due_keys(heard):
            done = _EVENTS_AT_ONCE
            while done == _EVENTS_AT_ONCE:
                done = await self._deliver_key(key)
                delivered += done
        await self._plan(heard)
        return delivered

    async def purge(self) -> None:
        """Forget the leases of those who never returned them."""
        await self._leases.purge()

    def deliver_soon(self) -> None:
        """Deliver in the background."""
        self._look_again(_SHORTEST_PAUSE)

    def deliver_now(self) -> None:
        """Deliver in the background, beginning as soon as the caller waits for something."""
        asyncio.get_running_loop().call_soon(self._look)

    async def close(self) -> None:
        """Deliver no more in the background; what waits is stored."""
        self._is_closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._looking is not None:
            await stopped(self._looking)
        self._timer = self._looking = None

    def _heard(self, types: Iterable[str]) -> list[str]:
        return [event_type for event_type in types if self._publisher.hears(event_type)]

    async def _deliver_key(self, key: str, own: Collection[str] = frozenset()) -> int:
        """Deliver the first events of a key; if there are more, the rest in the background."""
        delivered = 0
        async with self._leases.taken(key) as lease:
            if lease is None:
                self._look_again(_SHORTEST_PAUSE)  # its holder may have looked before ours came
                return 0
            # Before the events are read: a commit decided in between would be seen in neither.
            held_up = await self._first_under_way(key)
            # And the types only after it: such a commit may bring one that nothing had so far.
            types = self._heard(await self._outbox.types(key))
            found = await self._outbox.waiting(key, types, limit=_EVENTS_AT_ONCE)
            if len(found) == _EVENTS_AT_ONCE:
                self._look_again(_SHORTEST_PAUSE)
            unfinished = await self._unfinished(found, own)
            for waiting in found:
                if (
                    waiting.due_in > _NO_TIME
                    or waiting.version in unfinished
                    or waiting.version > held_up
                ):
                    self._look_again(waiting.due_in)
                    break
                # Handlers may take half a minute an event, so the lease is looked at before each.
                if not await lease.renewed():
                    break  # another process delivers this key now
                is_handled = await self._is_handled(waiting)
                if is_handled is None:
                    log.warning("No class is known for a stored event.", extra={"key": key})
                elif is_handled:
                    await self._outbox.delivered(waiting.id)
                    delivered += 1
                elif not await self._is_parked(waiting):
                    break
        return delivered

    async def _first_under_way(self, key: str) -> float:
        """The lowest version of a commit under way that may have events of a key."""
        await self._clock.purge_own()
        versions = [
            commit.version
            for commit in await self._clock.under_way()
            if commit.may_have_events_of(key) and commit.may_be_alive
        ]
        return min(versions, default=inf)

    async def _unfinished(self, found: Iterable[WaitingEvent], own: Collection[str]) -> set[int]:
        """The commits that not every store has yet: their events wait, and those behind them."""
        if all(waiting.id in own for waiting in found):
            return set()
        return await self._journal.unfinished_versions()

    async def _is_handled(self, waiting: WaitingEvent) -> bool | None:
        """Whether handlers have had it; None if its class is not known where they are."""
        if waiting.event is None:
            return False if waiting.is_refused else None
        token = carried.set(waiting.trace)
        try:
            return await published(self._publisher, waiting.event)
        except UnknownClass:
            return None
        finally:
            carried.reset(token)

    async def _is_parked(self, waiting: WaitingEvent) -> bool:
        """Note that it failed; whether that was once too often."""
        attempts = waiting.attempts + 1
        is_parked = attempts >= ATTEMPTS
        pause = _FIRST_PAUSE * 2**attempts
        await self._outbox.failed(waiting.id, attempts, pause, is_parked=is_parked)
        if not is_parked:
            self._look_again(pause)
        return is_parked

    async def _plan(self, heard: Collection[str]) -> None:
        """Set the timer for the next look, also where nothing is due: handlers may come later."""
        due = await self._outbox.next_due(heard) if heard else None
        if due is not None:
            self._look_again(due)
        else:
            self._look_again(_PAUSE_BETWEEN_LOOKS)  # for what other processes commit

    def _look_again(self, pause: timedelta) -> None:
        """Deliver after `pause`, or earlier if that is planned already."""
        if self._is_closed:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + max(pause, _SHORTEST_PAUSE).total_seconds()
        if self._timer is not None and not self._timer.cancelled():
            if loop.time() < self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._look)

    def _look(self) -> None:
        if self._is_closed:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._deliver_later())
        else:
            self._look_again(_SHORTEST_PAUSE)

    async def _deliver_later(self) -> None:
        try:
            await self.deliver()
        except StorageError:
            log.warning("Events cannot be delivered now.", exc_info=True)
            self._look_again(_PAUSE_BETWEEN_LOOKS)


async def published(listener: Listener, event: DomainEvent | PlainEvent) -> bool:
    """Have an event handled; whether every handler had it in time.

    :raises UnknownClass: who hears its type lacks its class.
    """
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return not await listener.publish(event)
    except UnknownClass:
        raise
    except TimeoutError:
        log.warning("The handlers of an event took too long.", extra={"event_id": event.id})
    except Exception:
        # A publisher is the service's own code: whatever it raises, the event is tried again.
        log.exception("An event was not published.", extra={"event_id": event.id})
    return False
