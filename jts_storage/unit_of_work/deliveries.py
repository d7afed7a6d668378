"""Events stored for subscriptions: one document for each event and subscription.

Its id has the subscription, the version of the commit and the number of the event in it, in this
order: so what a subscription has still to get is a range of ids in the order of the commits, and
needs no other index. What is parked lies in a range of its own, in nobody's way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from bson import Int64, MaxKey, ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import OperationFailure

from jts_storage.domain.events import DomainEvent
from jts_storage.domain.subscriptions import PlainEvent
from jts_storage.mongo.leases import Leases
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as MongoCollection
from jts_storage.unit_of_work.listed import Listed, ListedSubscriptions
from jts_storage.unit_of_work.outbox import EVENTS, StoredEvent
from jts_storage.unit_of_work.staged import plain_event
from jts_storage.unit_of_work.subscription import Delivery

DELIVERIES: Final = "uow_deliveries"
CONSUMERS: Final = "uow_consumers"
"""The leases of those who consume. Not among others: those are on the keys of events, any text."""

Place: TypeAlias = tuple[int, int]
"""The version of a commit, and the number of an event in it."""

_EXISTS: Final = 48
"""MongoDB's code for a collection that is there already."""

_WAITS: Final = "waits"
_PARKED: Final = "parked"
"""The name of an id's first part; ids with different ones never lie in one range."""


class Deliveries:
    """The events stored for the subscriptions of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self.consumers = Leases(manager, CONSUMERS)

    async def create(self) -> None:
        """Make the collection where it is not there: a transaction that has begun cannot."""

        async def made() -> None:
            try:
                await self._manager.db.create_collection(DELIVERIES, check_exists=False)
            except OperationFailure as exc:
                if exc.code != _EXISTS:
                    raise

        await self._repeat("subscribing", made)

    async def add(
        self,
        events: Sequence[DomainEvent],
        subscriptions: Iterable[Listed],
        version: int,
        session: AsyncClientSession,
    ) -> None:
        """Store events in the transaction that decides about them."""
        plain = [plain_event(event, version) for event in events] if subscriptions else []
        documents = [
            {"_id": _id(_WAITS, listed.id, (version, number)), **_stored(event)}
            for listed in subscriptions
            for number, event in enumerate(plain)
            if listed.hears(event.event_type)
        ]
        if documents:
            await self._manager.retries.once(
                "storing events for subscriptions",
                lambda: self._all.insert_many(documents, session=session),
            )

    async def copy(self, listed: Listed, before: int) -> None:
        """Store for a subscription what waits for handlers, of versions before this one."""
        wanted: Bson = {"isParked": False, "version": {"$lt": Int64(before)}}
        if listed.types:
            wanted["type"] = {"$in": sorted(listed.types)}
        place = {_WAITS: {"$literal": listed.id}, "v": "$version", "n": "$n"}
        kept = {name: f"${name}" for name in ("type", "class", "key", "data")}
        steps: list[Bson] = [
            {"$match": wanted},
            {"$replaceWith": {"_id": place, "event": "$_id", **kept}},
            {"$merge": {"into": DELIVERIES, "whenMatched": "keepExisting"}},
        ]

        async def copied() -> None:
            events = self._manager.get_collection(EVENTS)
            await (await events.aggregate(steps)).to_list()

        await self._repeat("copying events", copied)

    async def page(
        self, subscription: ObjectId, after: Place | None, before: int, limit: int
    ) -> list[tuple[Place, PlainEvent]]:
        """The first events after a place, of versions before this one, in their order."""
        where = _range(_WAITS, subscription, after, before)
        found = await self._repeat(
            "reading events", lambda: self._all.find(where).sort("_id", 1).limit(limit).to_list()
        )
        return [_delivery(document) for document in found]

    async def has_any(self, subscription: ObjectId, after: Place | None) -> bool:
        where = _range(_WAITS, subscription, after)
        found = await self._repeat(
            "looking for events", lambda: self._all.find_one(where, {"_id": 1})
        )
        return found is not None

    async def acknowledge(self, subscription: ObjectId, places: Sequence[Place]) -> None:
        """Forget these events, and no others: one that came late has not been told."""
        ids = [_id(_WAITS, subscription, place) for place in places]
        await self._repeat(
            "acknowledging events", lambda: self._all.delete_many({"_id": {"$in": ids}})
        )

    async def park(self, subscription: ObjectId, delivery: Delivery) -> None:
        place: Any = delivery.place
        parked = {"_id": _id(_PARKED, subscription, place), **_stored(delivery.event)}
        await self._move(parked, _id(_WAITS, subscription, place))

    async def park_all(self) -> None:
        """Put all that waits aside, of every subscription; a crash in between leaves both."""
        place = {_PARKED: f"$_id.{_WAITS}", "v": "$_id.v", "n": "$_id.n"}
        kept = {name: f"${name}" for name in ("event", "type", "class", "key", "data")}
        steps: list[Bson] = [
            {"$match": _ALL_WAITING},
            {"$replaceWith": {"_id": place, **kept}},
            {"$merge": {"into": DELIVERIES, "whenMatched": "keepExisting"}},
        ]

        async def parked() -> None:
            await (await self._all.aggregate(steps)).to_list()

        await self._repeat("parking events", parked)
        await self._repeat("parking events", lambda: self._all.delete_many(_ALL_WAITING))

    async def parked(self, subscriptions: ListedSubscriptions, *, limit: int) -> list[StoredEvent]:
        """The first of those that their classes refused."""
        names = {each.id: each.name for each in await subscriptions.all()}
        find = partial(self._all.find, _ALL_PARKED)
        found = await self._repeat(
            "listing events", lambda: find().sort("_id", 1).limit(limit).to_list()
        )
        return [_parked_event(document, names) for document in found]

    async def retry(self, event_id: str | None = None) -> int:
        """Let parked events be told again, those with this id or all; return how many."""
        where = _ALL_PARKED | ({"event": event_id} if event_id else {})
        retried = 0
        while found := await self._repeat("retrying events", partial(self._all.find_one, where)):
            subscription, *place = found["_id"].values()
            again = found | {"_id": _id(_WAITS, subscription, (place[0], place[1]))}
            await self._move(again, found["_id"])
            retried += 1
        return retried

    async def forget(self, subscription: ObjectId) -> None:
        """Forget all that is stored for a subscription."""
        where = {"$or": [_range(_WAITS, subscription), _range(_PARKED, subscription)]}
        await self._repeat("forgetting events", lambda: self._all.delete_many(where))

    async def purge(self, subscriptions: ListedSubscriptions) -> None:
        """Forget ephemeral subscriptions of dead processes, and what nobody is listed for."""
        # Before the list is read: who is listed has a lease already, and is stored for only then.
        stored_for = [*await self._stored_for(_WAITS), *await self._stored_for(_PARKED)]
        listed = await subscriptions.all()
        alive = await self.consumers.held()
        dead = [
            each.id for each in listed if not each.is_durable and ephemeral(each.id) not in alive
        ]
        if dead:
            await subscriptions.remove(dead)
        kept = {each.id for each in listed}.difference(dead)
        for identity in {*stored_for, *dead} - kept:
            await self.forget(identity)
        await self.consumers.purge()

    async def _stored_for(self, kind: str) -> list[ObjectId]:
        """The subscriptions that anything is stored for."""
        identities: list[ObjectId] = []
        # From one to the next by the index: `distinct` would read a whole backlog.
        after: Bson = {kind: _FIRST}
        end = {kind: _LAST, "v": MaxKey()}
        while True:
            where = {"_id": {"$gt": after, "$lt": end}}
            find = partial(self._all.find_one, where, {"_id": 1}, sort=[("_id", 1)])
            found = await self._repeat("looking for events", find)
            if found is None:
                return identities
            identities.append(found["_id"][kind])
            after = {kind: found["_id"][kind], "v": MaxKey()}

    async def counts(self, subscription: ObjectId) -> tuple[int, int]:
        """How many events wait for a subscription, and how many are parked."""
        waiting, parked = [
            await self._repeat(
                "counting events", partial(self._all.count_documents, _range(kind, subscription))
            )
            for kind in (_WAITS, _PARKED)
        ]
        return waiting, parked

    async def oldest(self, subscription: ObjectId) -> int | None:
        """The version of the first event that waits for a subscription."""
        find = partial(
            self._all.find_one, _range(_WAITS, subscription), {"_id": 1}, sort=[("_id", 1)]
        )
        found = await self._repeat("looking for events", find)
        return None if found is None else int(found["_id"]["v"])

    async def totals(self) -> tuple[int, int]:
        """How many wait for all subscriptions together, roughly, and how many are parked."""
        # Not counted: a million would take longer than `health` has.
        every = await self._manager.retries.once(
            "counting events", self._all.estimated_document_count
        )
        parked = await self._manager.retries.once(
            "counting events", lambda: self._all.count_documents(_ALL_PARKED)
        )
        return max(0, every - parked), parked

    async def _move(self, document: Bson, former: Bson) -> None:
        """Store a document in place of one with another id; a crash in between leaves both."""
        await self._repeat(
            "moving an event",
            lambda: self._all.replace_one({"_id": document["_id"]}, document, upsert=True),
        )
        await self._repeat("moving an event", lambda: self._all.delete_one({"_id": former}))

    async def _repeat(self, doing: str, operation: Any) -> Any:
        return await self._manager.retries.repeat(doing, operation)

    @property
    def _all(self) -> MongoCollection:
        return self._manager.get_collection(DELIVERIES)


# Of the type of all others, which is compared before the names.
_FIRST, _LAST = ObjectId(bytes(12)), ObjectId(b"\xff" * 12)
_ALL_WAITING, _ALL_PARKED = [
    {"_id": {"$gt": {kind: _FIRST}, "$lt": {kind: _LAST, "v": MaxKey()}}}
    for kind in (_WAITS, _PARKED)
]


def durable(name: str) -> str:
    """What the consumer of a durable subscription holds a lease on."""
    return f"durable {name}"


def ephemeral(identity: ObjectId) -> str:
    """What the consumer of another subscription holds a lease on, as long as it lives."""
    return f"ephemeral {identity}"


def _id(kind: str, subscription: ObjectId, place: Place) -> Bson:
    # In this order: ids are compared part by part.
    return {kind: subscription, "v": Int64(place[0]), "n": place[1]}


def _range(
    kind: str, subscription: ObjectId, after: Place | None = None, before: int | None = None
) -> Bson:
    """Those of one subscription that lie after a place, and are of versions before this one."""
    end = MaxKey() if before is None else Int64(before)
    begin = {kind: subscription} if after is None else _id(kind, subscription, after)
    return {"_id": {"$gt": begin, "$lt": {kind: subscription, "v": end}}}


def _stored(event: PlainEvent) -> Bson:
    return {
        "event": event.id,
        "type": event.event_type,
        "class": event.class_name,
        "key": event.key,
        "data": dict(event.data),
    }


def _delivery(document: Bson) -> tuple[Place, PlainEvent]:
    version, number = int(document["_id"]["v"]), int(document["_id"]["n"])
    event = PlainEvent(
        document["event"],
        document["type"],
        document["class"],
        document["key"],
        document["data"],
        version + 1,
    )
    return (version, number), event


def _parked_event(document: Bson, names: Mapping[ObjectId, str]) -> StoredEvent:
    return StoredEvent(
        document["event"],
        document["type"],
        document["key"],
        attempts=1,
        is_parked=True,
        data=document["data"],
        subscription=names.get(document["_id"][_PARKED], ""),
    )
