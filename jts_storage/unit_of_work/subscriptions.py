"""Named subscriptions in MongoDB.

`docs/decisions/0037-named-subscriptions.md` says why nothing is lost, and what keeps the order.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, timedelta
from itertools import takewhile
from time import monotonic
from typing import Any, Final

from bson import ObjectId

from jts_storage._runtime.processes import described
from jts_storage._runtime.steps import heard_by
from jts_storage._runtime.tasks import run_to_the_end
from jts_storage._runtime.waking import Waiter
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.subscriptions import (
    From,
    Interest,
    SubscriptionState,
    subscription_name,
)
from jts_storage.errors import InUse, StorageError
from jts_storage.mongo.leases import DURATION, Lease, renewing
from jts_storage.unit_of_work import delivery
from jts_storage.unit_of_work.deliveries import Place, durable, ephemeral
from jts_storage.unit_of_work.listed import Listed
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.recovery import Recovery
from jts_storage.unit_of_work.subscription import PAGE, Delivery, EventSubscription

_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5
_SECONDS_BETWEEN_RECOVERIES: Final = 5.0
_SECONDS_BETWEEN_BEGINNINGS: Final = 10.0
"""How often all that waits is read from its beginning on, where retried events may lie."""

log = logging.getLogger(__name__)


class StoredSubscriptions:
    """The `Subscriptions` of one set of stores."""

    keeps_events = True

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    def subscribe(
        self, name: str, *types: str | type[DomainEvent], from_: From, durable: bool
    ) -> EventSubscription:
        interest = Interest.checked(name, types, from_, durable=durable)
        return EventSubscription(interest, self.source(interest))

    def source(self, interest: Interest) -> StoredSource:
        """What a consumer reads, here or behind a gateway."""
        return StoredSource(self._stores, interest)

    async def unsubscribe(self, name: str) -> bool:
        subscription_name(name)
        deliveries, subscriptions = self._stores.deliveries, self._stores.clock.subscriptions
        async with deliveries.consumers.taken(durable(name)) as lease:
            if lease is None:
                raise await _in_use(self._stores, name)
            listed = await _durable(self._stores, name)
            if listed is None:
                return False
            # First, so that no commit stores more.
            await subscriptions.remove([listed.id])
            await deliveries.forget(listed.id)
        return True

    async def handled(self, events: Sequence[str]) -> int:
        """Forget events that handlers of another process have had; how many they are."""
        return await self._stores.outbox.forget(events)

    def delivery_to(self, listener: delivery.Listener) -> delivery.Delivery:
        """What delivers stored events to the handlers of another process."""
        return self._stores.delivery.to(listener)

    async def list(self) -> Sequence[SubscriptionState]:
        stores = self._stores
        await stores.deliveries.purge(stores.clock.subscriptions)
        listed = await stores.clock.subscriptions.all()
        return [await self._state(each) for each in sorted(listed, key=lambda each: each.name)]

    async def _state(self, listed: Listed) -> SubscriptionState:
        deliveries = self._stores.deliveries
        waiting, parked = await deliveries.counts(listed.id)
        first = await deliveries.oldest(listed.id)
        age = None
        if first is not None:
            nanoseconds = await self._stores.clock.present() - first
            age = timedelta(microseconds=max(0, nanoseconds) // 1_000)
        types = tuple(sorted(listed.types))
        return SubscriptionState(listed.name, types, listed.is_durable, waiting, parked, age)


class StoredSource:
    """What is stored for one subscription, read by one consumer."""

    _listed: Listed
    _waiter: Waiter

    def __init__(self, stores: Stores, interest: Interest) -> None:
        self._stores, self._interest = stores, interest
        self._held = AsyncExitStack()
        self._lease: Lease | None = None
        self._is_lost = False
        self._after: Place | None = None
        self._began_at = self._recovered_at = monotonic()
        self._pause = _FIRST_PAUSE
        self._is_polling = False
        self._is_held_up = False
        """By a commit that is not in every store, and may need somebody else to finish it."""

    async def begin(self) -> None:
        try:
            await self._begin()
        except BaseException:
            await run_to_the_end(self._held.aclose())
            raise

    async def _begin(self) -> None:
        stores, interest = self._stores, self._interest
        await stores.deliveries.create()
        await stores.deliveries.purge(stores.clock.subscriptions)
        identity = ObjectId()
        name = durable(interest.name) if interest.is_durable else ephemeral(identity)
        lease = await self._held.enter_async_context(stores.deliveries.consumers.taken(name))
        if lease is None:
            raise await _in_use(stores, interest.name)
        self._lease = lease
        await self._held.enter_async_context(renewing(DURATION, self._renew))
        self._waiter = self._held.enter_context(stores.subscribers.one())
        if not interest.is_durable:
            self._held.push_async_callback(self._forget, identity)
        self._listed = await self._registered(identity)
        if not self._listed.is_complete:
            await self._complete()

    async def end(self) -> None:
        await self._held.aclose()

    async def read(self) -> Sequence[Delivery]:
        self._check()
        deliveries, identity = self._stores.deliveries, self._listed.id
        if monotonic() - self._began_at > _SECONDS_BETWEEN_BEGINNINGS:
            self._after, self._began_at = None, monotonic()
        if self._is_polling and not await deliveries.has_any(identity, self._after):
            return ()
        # In this order: who is not under way by now has decided, or takes a later version. What it
        # has decided is stored for this subscription, and finished unless the journal has it.
        before = await self._decided_before()
        found, unfinished = await asyncio.gather(
            deliveries.page(identity, self._after, before, PAGE),
            self._stores.journal.unfinished_versions(),
        )
        ready = [*takewhile(lambda each: each[0][0] not in unfinished, found)]
        self._is_held_up |= len(ready) < len(found)
        if ready:
            self._after, self._pause = ready[-1][0], _FIRST_PAUSE
        return [Delivery(place, event) for place, event in ready]

    async def wait(self) -> None:
        woken = await self._waiter.wait(self._pause)
        self._is_polling = not woken
        self._pause = _FIRST_PAUSE if woken else min(2 * self._pause, _LONGEST_PAUSE)
        await self._recover_now_and_then()

    async def acknowledge(self, places: Sequence[Any]) -> None:
        await self._stores.deliveries.acknowledge(self._listed.id, places)

    async def park(self, delivery: Delivery) -> None:
        await self._stores.deliveries.park(self._listed.id, delivery)

    async def _decided_before(self) -> int:
        """A version below which no event is stored any more."""
        latest, under_way = await self._stores.clock.look()
        with_events = [one for one in under_way if one.may_have_events]
        self._is_held_up |= bool(with_events)
        return min([one.version for one in with_events] + [latest + 1])

    async def _recover_now_and_then(self) -> None:
        """Finish or give up what processes left that are dead, if anything is waited for."""
        is_time = monotonic() - self._recovered_at > _SECONDS_BETWEEN_RECOVERIES
        is_held_up, self._is_held_up = self._is_held_up, False
        if not (is_held_up and is_time):
            return
        self._recovered_at = monotonic()
        try:
            with heard_by(self._stores.observed_by):
                await Recovery(self._stores).recover()
                await self._stores.clock.purge()
        except StorageError:
            log.warning("Events wait for a commit that cannot be finished.", exc_info=True)

    async def _registered(self, identity: ObjectId) -> Listed:
        stores, interest = self._stores, self._interest
        subscriptions = stores.clock.subscriptions
        if interest.is_durable and (found := await _durable(stores, interest.name)):
            await subscriptions.retype(found.id, interest.types)
            return found
        listed = Listed(
            identity,
            interest.name,
            interest.types,
            interest.is_durable,
            is_complete=not interest.from_stored,
        )
        if not await subscriptions.add(listed):
            await stores.clock.catch_up()
            await subscriptions.add(listed)
        return listed

    async def _complete(self) -> None:
        """Take over what waits for handlers, of commits that could not know of the subscription.

        Nothing was read before, so doing it again after a crash does no harm.
        """
        latest = await self._stores.clock.latest()
        pause = _FIRST_PAUSE
        while await self._decided_before() <= latest:
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
            await self._recover_now_and_then()
        await self._stores.deliveries.copy(self._listed, latest + 1)
        await self._stores.clock.subscriptions.change(self._listed.id, isComplete=True)

    async def _forget(self, identity: ObjectId) -> None:
        await self._stores.clock.subscriptions.remove([identity])
        await self._stores.deliveries.forget(identity)

    async def _renew(self) -> None:
        if self._lease is not None and not await self._lease.renewed():
            self._is_lost = True

    def _check(self) -> None:
        """:raises InUse: another consumer may have it by now."""
        if self._is_lost:
            raise InUse(
                f"The lease on subscription {self._interest.name!r} ran out while this process was"
                " paused.",
                remedy="Subscribe again.",
            )


async def _durable(stores: Stores, name: str) -> Listed | None:
    listed = await stores.clock.subscriptions.all()
    return next((each for each in listed if each.is_durable and each.name == name), None)


async def _in_use(stores: Stores, name: str) -> InUse:
    consumers = stores.deliveries.consumers
    holder, end = await consumers.holder(durable(name)), await consumers.end(durable(name))
    if holder is None or end is None:
        return InUse(f"Subscription {name!r} has just been read.", remedy="Try again.")
    until = end.astimezone(UTC).isoformat(sep=" ", timespec="seconds")
    return InUse(
        f"Subscription {name!r} is read by {described(holder)}, whose lease lasts until {until}"
        " unless it is renewed.",
        remedy="Choose another name, or end that consumer.",
    )
