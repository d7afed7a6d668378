"""Named subscriptions in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Any, Final, NoReturn

from jts_storage._runtime.waking import Waiter, Waiters
from jts_storage.domain import checks
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.moments import Commit
from jts_storage.domain.subscriptions import (
    MOST,
    From,
    Interest,
    PlainEvent,
    SubscriptionState,
    subscription_name,
)
from jts_storage.errors import InUse, StorageError
from jts_storage.unit_of_work.staged import plain_event
from jts_storage.unit_of_work.subscription import PAGE, Delivery, EventSubscription

_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(eq=False)
class Queue:
    """The events of one subscription, by their places, in the order of the commits.

    :ivar types: of the events that it hears; none of them means all.
    """

    name: str
    types: frozenset[str]
    is_durable: bool
    waiting: dict[int, PlainEvent] = field(default_factory=dict)
    parked: dict[int, PlainEvent] = field(default_factory=dict)
    has_consumer: bool = False

    def hears(self, event_type: str) -> bool:
        return not self.types or event_type in self.types

    def state(self) -> SubscriptionState:
        age = None
        if self.waiting:
            first = next(iter(self.waiting.values()))
            age = max(_MILLISECOND * 0, checks.now() - Commit(first.version).moment)
        return SubscriptionState(
            self.name,
            tuple(sorted(self.types)),
            self.is_durable,
            len(self.waiting),
            len(self.parked),
            age,
        )


class Queues:
    """The subscriptions of one in-memory database, and what handlers have not heard."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.consumers = Waiters()
        self._queues: list[Queue] = []
        self._unheard: list[PlainEvent] = []
        self._numbers = 0

    def add(
        self, events: Iterable[DomainEvent], version: int, is_heard: Callable[[str], bool]
    ) -> None:
        """Store events for those that hear them.

        :param is_heard: whether handlers hear a type; what they do not is stored for later ones.
        """
        plain = [plain_event(event, version) for event in events]
        with self.lock:
            for event in plain:
                self._numbers += 1
                for queue in self._queues:
                    if queue.hears(event.event_type):
                        queue.waiting[self._numbers] = event
                if not is_heard(event.event_type):
                    self._unheard.append(event)
        if plain:
            self.consumers.wake()

    def entered(self, interest: Interest) -> Queue:
        """:raises InUse: it has a consumer."""
        with self.lock:
            queue = self._durable(interest.name) if interest.is_durable else None
            if queue is None:
                queue = self._made(interest)
            elif queue.has_consumer:
                raise _in_use(interest.name)
            queue.types = interest.types
            queue.has_consumer = True
            return queue

    def left(self, queue: Queue) -> None:
        with self.lock:
            queue.has_consumer = False
            if not queue.is_durable:
                self._queues.remove(queue)

    def forget(self, name: str) -> bool:
        with self.lock:
            queue = self._durable(name)
            if queue is None:
                return False
            if queue.has_consumer:
                raise _in_use(name)
            self._queues.remove(queue)
            return True

    def handled(self, events: Sequence[str]) -> int:
        with self.lock:
            before = len(self._unheard)
            self._unheard = [each for each in self._unheard if each.id not in events]
            return before - len(self._unheard)

    def states(self) -> Sequence[SubscriptionState]:
        with self.lock:
            return [queue.state() for queue in sorted(self._queues, key=lambda each: each.name)]

    def totals(self) -> tuple[int, int]:
        """How many events wait for all together, and how many are parked."""
        with self.lock:
            waiting = sum(len(queue.waiting) for queue in self._queues)
            return waiting, sum(len(queue.parked) for queue in self._queues)

    def _durable(self, name: str) -> Queue | None:
        return next((each for each in self._queues if each.is_durable and each.name == name), None)

    def _made(self, interest: Interest) -> Queue:
        if len(self._queues) >= MOST:
            raise StorageError(
                f"There are {MOST} subscriptions already.",
                remedy="Forget one that nobody needs, with `unsubscribe`.",
            )
        queue = Queue(interest.name, interest.types, interest.is_durable)
        if interest.from_stored:
            # Before all numbers that commits will give.
            found = [each for each in self._unheard if queue.hears(each.event_type)]
            queue.waiting.update(enumerate(found, start=-len(found)))
        self._queues.append(queue)
        return queue


class InMemorySubscriptions:
    """The `Subscriptions` of one in-memory database."""

    keeps_events = False

    def __init__(self, queues: Queues) -> None:
        self._queues = queues

    def subscribe(
        self, name: str, *types: str | type[DomainEvent], from_: From, durable: bool
    ) -> EventSubscription:
        interest = Interest.checked(name, types, from_, durable=durable)
        return EventSubscription(interest, self.source(interest))

    def source(self, interest: Interest) -> InMemorySource:
        """What a consumer reads, here or behind a gateway."""
        return InMemorySource(self._queues, interest)

    async def unsubscribe(self, name: str) -> bool:
        return self._queues.forget(subscription_name(name))

    async def handled(self, events: Sequence[str]) -> int:
        """Forget events that handlers of another process have had; how many they are."""
        return self._queues.handled(events)

    def delivery_to(self, listener: object) -> NoReturn:
        """:raises StorageError: whoever commits delivers, and nothing waits for handlers."""
        raise StorageError("Stores in memory keep no events for handlers elsewhere.")

    async def list(self) -> Sequence[SubscriptionState]:
        return self._queues.states()


class InMemorySource:
    """The queue of one subscription, read by one consumer."""

    _queue: Queue
    _waiter: Waiter

    def __init__(self, queues: Queues, interest: Interest) -> None:
        self._queues, self._interest = queues, interest

    async def begin(self) -> None:
        self._queue = self._queues.entered(self._interest)
        self._waiting = self._queues.consumers.one()
        self._waiter = self._waiting.__enter__()

    async def end(self) -> None:
        self._waiting.__exit__(None, None, None)
        self._queues.left(self._queue)

    async def read(self) -> Sequence[Delivery]:
        # What was told is acknowledged by now, and gone.
        with self._queues.lock:
            first = islice(self._queue.waiting.items(), PAGE)
            return [Delivery(place, event) for place, event in first]

    async def wait(self) -> None:
        await self._waiter.wait()

    async def acknowledge(self, places: Sequence[Any]) -> None:
        with self._queues.lock:
            for place in places:
                self._queue.waiting.pop(place, None)

    async def park(self, delivery: Delivery) -> None:
        place: Any = delivery.place
        with self._queues.lock:
            self._queue.parked[place] = delivery.event
            self._queue.waiting.pop(place, None)


def _in_use(name: str) -> InUse:
    return InUse(
        f"Subscription {name!r} is read in this process.",
        remedy="Choose another name, or end that consumer.",
    )
