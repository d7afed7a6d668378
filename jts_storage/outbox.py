"""Events of commits that are decided, until every handler has had them.

An event is stored with the decision and removed when it was delivered: at least once, and for one
key in the order of the commits. One that keeps failing is parked after some attempts, so that it
holds up the others of its key no longer; `retry` gives it another chance.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pydantic import TypeAdapter
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from jts_storage.domain import checks
from jts_storage.domain.events import DomainEvent
from jts_storage.journal import is_alive, owner_of_this_process
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager
from jts_storage.ports.events import EventPublisher

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

EVENTS = "uow_events"
LEASES = "uow_leases"

ATTEMPTS = 5
LEASE = timedelta(seconds=60)
_FIRST_PAUSE = timedelta(seconds=0.2)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event that waits or is parked, as operators see it."""

    id: str
    event_type: str
    key: str
    attempts: int
    is_parked: bool
    data: Bson


class Outbox:
    """The undelivered events of one database."""

    def __init__(self, manager: MongoDBManager, publisher: EventPublisher) -> None:
        self._manager = manager
        self._publisher = publisher

    async def add(
        self, events: Sequence[DomainEvent], version: int, session: AsyncClientSession
    ) -> None:
        """Store events in the transaction that decides about them."""
        documents = [_to_document(event, version, n) for n, event in enumerate(events)]
        if documents:
            await self._manager.retries.once(
                "storing events", lambda: self._events.insert_many(documents, session=session)
            )

    async def deliver(self, keys: Iterable[str] | None = None) -> int:
        """Deliver what waits, of some keys or of all; how many events were delivered."""
        if keys is None:
            waiting = {"isParked": False}
            keys = await self._manager.retries.repeat(
                "looking for events", lambda: self._events.distinct("key", waiting)
            )
        delivered = 0
        for key in dict.fromkeys(keys or ()):
            delivered += await self._deliver_key(key)
        return delivered

    async def list(self, *, limit: int = 1_000) -> Sequence[StoredEvent]:
        """What waits or is parked, oldest first."""
        found = await self._manager.retries.repeat(
            "listing events", lambda: self._events.find().sort(_ORDER).limit(limit).to_list()
        )
        return [
            StoredEvent(d["_id"], d["type"], d["key"], d["attempts"], d["isParked"], d["data"])
            for d in found
        ]

    async def counts(self) -> tuple[int, int]:
        """How many events wait, and how many are parked."""
        waiting, parked = [
            await self._manager.retries.once(
                "counting events", partial(self._events.count_documents, {"isParked": is_parked})
            )
            for is_parked in (False, True)
        ]
        return waiting, parked

    async def retry(self, event_id: str | None = None) -> int:
        """Give one parked event, or all, another chance; how many."""
        where: Bson = {"isParked": True} | ({"_id": event_id} if event_id else {})
        fresh = {"$set": {"isParked": False, "attempts": 0, "notBefore": checks.now()}}
        result = await self._manager.retries.repeat(
            "retrying events", lambda: self._events.update_many(where, fresh)
        )
        return result.modified_count

    async def _deliver_key(self, key: str) -> int:
        delivered = 0
        async with self._lease(key) as is_mine:
            if not is_mine:
                return 0  # whoever holds it delivers this one too, or the next who comes does
            waiting = await self._manager.retries.repeat(
                "reading events",
                lambda: self._events.find({"key": key, "isParked": False}).sort(_ORDER).to_list(),
            )
            for document in waiting:
                if document["notBefore"] > checks.now():
                    break
                if await self._deliver_one(document):
                    delivered += 1
                elif document["attempts"] + 1 < ATTEMPTS:
                    break
        return delivered

    async def _deliver_one(self, document: Bson) -> bool:
        event = _from_document(document)
        if event is None:
            log.warning("No class is known for a stored event.", extra={"type": document["type"]})
            return False
        if await self._publisher.publish(event):
            await self._failed(document)
            return False
        await self._manager.retries.repeat(
            "removing a delivered event", lambda: self._events.delete_one({"_id": event.id})
        )
        return True

    async def _failed(self, document: Bson) -> None:
        attempts = document["attempts"] + 1
        change = {
            "attempts": attempts,
            "isParked": attempts >= ATTEMPTS,
            "notBefore": checks.now() + _FIRST_PAUSE * 2**attempts,
        }
        await self._manager.retries.repeat(
            "noting a failed delivery",
            lambda: self._events.update_one({"_id": document["_id"]}, {"$set": change}),
        )

    @asynccontextmanager
    async def _lease(self, key: str) -> AsyncIterator[bool]:
        """Whether this is the one that delivers events of the key now."""
        owner = f"{uuid4().hex}@{owner_of_this_process()}"
        is_mine = await self._acquire(key, owner)
        try:
            yield is_mine
        finally:
            if is_mine:
                await self._manager.retries.repeat(
                    "returning a lease",
                    lambda: self._leases.delete_one({"_id": key, "owner": owner}),
                )

    async def _acquire(self, key: str, owner: str) -> bool:
        lease: Bson = {"_id": key, "owner": owner, "until": checks.now() + LEASE}
        try:
            await self._leases.insert_one(lease)
        except DuplicateKeyError:
            held = await self._leases.find_one({"_id": key})
            if held is None:
                return await self._acquire(key, owner)
            if held["until"] > checks.now() and is_alive(held["owner"].partition("@")[2]):
                return False
            taken = await self._leases.find_one_and_replace(
                {"_id": key, "owner": held["owner"]}, lease
            )
            return taken is not None
        return True

    @property
    def _events(self) -> Collection:
        return self._manager.get_collection(EVENTS)

    @property
    def _leases(self) -> Collection:
        return self._manager.get_collection(LEASES)


_ORDER = [("version", 1), ("n", 1)]


def _to_document(event: DomainEvent, version: int, number: int) -> Bson:
    kind = type(event)
    return {
        "_id": event.id,
        "type": event.event_type,
        "class": f"{kind.__module__}.{kind.__qualname__}",
        "key": event.key,
        "version": version,
        "n": number,
        "data": TypeAdapter(kind).dump_python(event, mode="json"),
        "attempts": 0,
        "isParked": False,
        "notBefore": checks.now(),
    }


def _from_document(document: Bson) -> DomainEvent | None:
    """The event, if its class has been imported; a name in a database imports nothing."""
    for kind in _kinds(DomainEvent):
        if f"{kind.__module__}.{kind.__qualname__}" == document["class"]:
            event: Any = TypeAdapter(kind).validate_python(document["data"])
            return event if isinstance(event, DomainEvent) else None
    return None


def _kinds(base: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)
