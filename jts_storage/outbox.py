"""Events of commits that are decided, stored until they are delivered.

An event is stored with the decision and removed when every handler has had it; `delivery` does
that. One that keeps failing is parked, so that it holds up the others of its key no longer.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import ValidationError
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.domain import checks
from jts_storage.domain.events import DomainEvent
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as Documents
from jts_storage.staging import adapter, event_data

EVENTS = "uow_events"

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


@dataclass(frozen=True, slots=True)
class Waiting:
    """An event to be delivered.

    :param version: of the commit that stored it.
    :param event: None if its class has not been imported here, or refuses what is stored.
    :param is_refused: by its class, as a later release of it may.
    :param attempts: how often its delivery has failed.
    """

    id: str
    version: int
    event: DomainEvent | None
    is_refused: bool
    attempts: int
    not_before: datetime


class Outbox:
    """The undelivered events of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager

    async def add(
        self, events: Sequence[DomainEvent], version: int, session: AsyncClientSession
    ) -> None:
        """Store events in the transaction that decides about them."""
        documents = [_to_document(event, version, n) for n, event in enumerate(events)]
        if documents:
            await self._manager.retries.once(
                "storing events", lambda: self._events.insert_many(documents, session=session)
            )

    async def types(self) -> list[str]:
        """The types of the events that wait."""
        found: list[str] = await self._manager.retries.repeat(
            "looking for events", lambda: self._events.distinct("type", {"isParked": False})
        )
        return found

    async def due_keys(self, types: Collection[str]) -> list[str]:
        """The keys of which an event of these types may be delivered by now."""
        due = {**_waiting(types), "notBefore": {"$lte": checks.now()}}
        found: list[str] = await self._manager.retries.repeat(
            "looking for events", lambda: self._events.distinct("key", due)
        )
        return found

    async def next_due(self, types: Collection[str]) -> datetime | None:
        """When the first of the events that wait may be delivered."""
        found = await self._manager.retries.repeat(
            "looking for events",
            lambda: self._events.find_one(_waiting(types), sort=[("notBefore", 1)]),
        )
        return None if found is None else found["notBefore"]

    async def waiting(self, key: str, types: Collection[str], *, limit: int) -> list[Waiting]:
        """The first events of one key that are of these types, as committed."""
        wanted = {"key": key, **_waiting(types)}
        found = await self._manager.retries.repeat(
            "reading events",
            lambda: self._events.find(wanted).sort(_ORDER).limit(limit).to_list(),
        )
        return [_waiting_event(document) for document in found]

    async def delivered(self, event_id: str) -> None:
        """Forget an event that every handler has had."""
        await self._manager.retries.repeat(
            "removing a delivered event", lambda: self._events.delete_one({"_id": event_id})
        )

    async def failed(
        self, event_id: str, attempts: int, not_before: datetime, *, is_parked: bool
    ) -> None:
        """Note that so many attempts have failed, and when the next may be made."""
        change = {"attempts": attempts, "isParked": is_parked, "notBefore": not_before}
        await self._manager.retries.repeat(
            "noting a failed delivery",
            lambda: self._events.update_one({"_id": event_id}, {"$set": change}),
        )

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

    @property
    def _events(self) -> Documents:
        return self._manager.get_collection(EVENTS)


def _waiting(types: Iterable[str]) -> Bson:
    return {"isParked": False, "type": {"$in": [*types]}}


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
        "data": event_data(event),
        "attempts": 0,
        "isParked": False,
        "notBefore": checks.now(),
    }


def _waiting_event(document: Bson) -> Waiting:
    event, is_refused = None, False
    try:
        event = _from_document(document)
    except ValidationError:
        is_refused = True
        log.warning("A stored event is refused by its class.", exc_info=True)
    return Waiting(
        document["_id"],
        document["version"],
        event,
        is_refused,
        document["attempts"],
        document["notBefore"],
    )


def _from_document(document: Bson) -> DomainEvent | None:
    """The event, if its class has been imported; a name in a database imports nothing."""
    for kind in _kinds(DomainEvent):
        if f"{kind.__module__}.{kind.__qualname__}" == document["class"]:
            event: Any = adapter(kind).validate_python(document["data"])
            return event if isinstance(event, DomainEvent) else None
    return None


def _kinds(base: type[DomainEvent]) -> Iterator[type[DomainEvent]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _kinds(kind)
