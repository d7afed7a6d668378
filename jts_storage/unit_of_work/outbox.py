"""Events of commits that are decided, stored until they are delivered.

An event is stored with the decision and removed when every handler has had it; `delivery` does
that. One that keeps failing is parked, so that it holds up the others of its key no longer.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage._runtime.steps import carried
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.subscriptions import HANDLERS, PlainEvent
from jts_storage.mongo.leases import from_now
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as MongoCollection
from jts_storage.unit_of_work.staged import class_name_of, event_data, event_of

EVENTS = "uow_events"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event that waits or is parked, as operators see it.

    :param subscription: for which; that of the handlers of all processes if nothing else is said.
    """

    id: str
    event_type: str
    key: str
    attempts: int
    is_parked: bool
    data: Bson
    subscription: str = HANDLERS


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """An event to be delivered.

    :param version: of the commit that stored it.
    :param event: None if its class has not been imported here, or refuses what is stored.
    :param is_refused: by its class, as a later release of it may.
    :param attempts: how often its delivery has failed.
    :param due_in: after which it may be delivered; not above zero if it may be now.
    :param trace: that its commit belonged to, if that was traced.
    """

    id: str
    version: int
    event: DomainEvent | PlainEvent | None
    is_refused: bool
    attempts: int
    due_in: timedelta
    trace: str | None = None


def as_known(document: Bson) -> DomainEvent | None:
    """An event of its class, for handlers of this process."""
    return event_of(document["class"], document["data"])


def as_stored(document: Bson) -> PlainEvent:
    """An event as it is, for handlers of another process, which may know its class."""
    return PlainEvent(
        document["_id"],
        document["type"],
        document["class"],
        document["key"],
        document["data"],
        document["version"],
    )


class Outbox:
    """The undelivered events of one database.

    :param read: how events are read that are to be delivered.
    """

    def __init__(
        self,
        manager: MongoDBManager,
        read: Callable[[Bson], DomainEvent | PlainEvent | None] = as_known,
    ) -> None:
        self._manager, self._read = manager, read

    def for_others(self) -> Outbox:
        """The same, for handlers that know other classes than this process."""
        return Outbox(self._manager, as_stored)

    async def add(
        self, events: Sequence[DomainEvent], version: int, session: AsyncClientSession
    ) -> None:
        """Store events in the transaction that decides about them."""
        documents = [_to_document(event, version, n) for n, event in enumerate(events)]
        if documents:
            # Once: a statement that fails has ended the transaction, and all of it is repeated.
            await self._manager.retries.once(
                "storing events", lambda: self._events.insert_many(documents, session=session)
            )

    async def types(self, key: str | None = None) -> list[str]:
        """The types of the events that wait, of one key or of all."""
        wanted: Bson = {"isParked": False} | ({} if key is None else {"key": key})
        found: list[str] = await self._manager.retries.repeat(
            "looking for events", lambda: self._events.distinct("type", wanted)
        )
        return found

    async def due_keys(self, types: Collection[str]) -> AsyncIterator[str]:
        """The keys of which an event of these types may be delivered by now, each once.

        They come in pages: a backlog may have more of them than one answer of the server holds.
        """
        due: Bson = {**_waiting(types), "$expr": {"$lte": ["$notBefore", "$$NOW"]}}
        last: Bson = {}
        while types:
            # By key rather than with a cursor, which would time out: deliveries come in between.
            page = await self._manager.retries.repeat(
                "looking for events",
                partial(self._first_keys, due | last),
            )
            for key in dict.fromkeys(page):
                yield key
            if len(page) < _KEYS_A_PAGE:
                return
            last = {"key": {"$gt": page[-1]}}

    async def _first_keys(self, due: Bson) -> list[str]:
        found = self._events.find(due, {"_id": 0, "key": 1}).sort("key", 1).limit(_KEYS_A_PAGE)
        return [event["key"] async for event in found]

    async def next_due(self, types: Collection[str]) -> timedelta | None:
        """Return how long until the first of the events that wait may be delivered."""
        found = await self._manager.retries.repeat(
            "looking for events",
            lambda: self._events.find_one(
                _waiting(types), {"dueIn": _DUE_IN}, sort=[("notBefore", 1)]
            ),
        )
        return None if found is None else timedelta(milliseconds=found["dueIn"])

    async def latest_version(self) -> int:
        """The highest version of a stored event; 0 if there is none."""
        found = await self._manager.retries.repeat(
            "looking for events",
            lambda: self._events.find_one({}, {"version": 1}, sort=[("version", -1)]),
        )
        return int(found["version"]) if found else 0

    async def waiting(self, key: str, types: Collection[str], *, limit: int) -> list[WaitingEvent]:
        """The first events of one key that are of these types, as committed."""
        described: list[Bson] = [
            {"$match": {"key": key, **_waiting(types)}},
            {"$sort": dict(_ORDER)},
            {"$limit": limit},
            {"$set": {"dueIn": _DUE_IN}},
        ]

        async def read() -> list[Bson]:
            return await (await self._events.aggregate(described)).to_list()

        found = await self._manager.retries.repeat("reading events", read)
        return [_waiting_event(document, self._read) for document in found]

    async def delivered(self, event_id: str) -> None:
        """Forget an event that every handler has had."""
        await self._manager.retries.repeat(
            "removing a delivered event", lambda: self._events.delete_one({"_id": event_id})
        )

    async def forget(self, event_ids: Sequence[str]) -> int:
        """Forget events that every handler of another process has had; how many they are."""
        found = await self._manager.retries.repeat(
            "removing delivered events",
            lambda: self._events.delete_many({"_id": {"$in": list(event_ids)}}),
        )
        return found.deleted_count

    async def failed(
        self, event_id: str, attempts: int, pause: timedelta, *, is_parked: bool
    ) -> None:
        """Note that so many attempts have failed, and after which pause the next may be made."""
        change = {"attempts": attempts, "isParked": is_parked, "notBefore": from_now(pause)}
        await self._manager.retries.repeat(
            "noting a failed delivery",
            lambda: self._events.update_one({"_id": event_id}, [{"$set": change}]),
        )

    async def list(self, *, limit: int = 1_000) -> Sequence[StoredEvent]:
        """Return what waits or is parked, oldest first."""
        found = await self._manager.retries.repeat(
            "listing events", lambda: self._events.find().sort(_ORDER).limit(limit).to_list()
        )
        return [
            StoredEvent(d["_id"], d["type"], d["key"], d["attempts"], d["isParked"], d["data"])
            for d in found
        ]

    async def counts(self) -> tuple[int, int]:
        """Return how many events wait, and how many are parked."""
        waiting, parked = [
            await self._manager.retries.once(
                "counting events", partial(self._events.count_documents, {"isParked": is_parked})
            )
            for is_parked in (False, True)
        ]
        return waiting, parked

    async def oldest(self) -> timedelta | None:
        """How long ago the first of the events that wait was committed; None if none waits."""
        found = await self._manager.retries.once(
            "looking for the oldest event",
            lambda: self._events.find_one(
                {"isParked": False}, {"age": _AGE_MS}, sort=[("version", 1)]
            ),
        )
        return None if found is None else timedelta(milliseconds=max(int(found["age"]), 0))

    async def retry(self, event_id: str | None = None) -> int:
        """Give one parked event, or all, another chance; how many."""
        where: Bson = {"isParked": True} | ({"_id": event_id} if event_id else {})
        fresh = {"$set": {"isParked": False, "attempts": 0, "notBefore": _AT_ONCE}}
        result = await self._manager.retries.repeat(
            "retrying events", lambda: self._events.update_many(where, fresh)
        )
        return result.modified_count

    @property
    def _events(self) -> MongoCollection:
        return self._manager.get_collection(EVENTS)


def _waiting(types: Iterable[str]) -> Bson:
    return {"isParked": False, "type": {"$in": [*types]}}


# By commit, then as the unit of work collected them.
_ORDER = [("version", 1), ("n", 1)]
_KEYS_A_PAGE = 1_000
_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
_DUE_IN: Bson = {"$subtract": ["$notBefore", "$$NOW"]}
_NANOSECONDS_A_MS = 1_000_000
# Versions are the nanoseconds of the server's time, or a little later.
_COMMITTED_MS: Bson = {"$divide": ["$version", _NANOSECONDS_A_MS]}
_AGE_MS: Bson = {"$subtract": [{"$toLong": "$$NOW"}, {"$toLong": _COMMITTED_MS}]}


def _to_document(event: DomainEvent, version: int, number: int) -> Bson:
    trace = carried.get()
    return {
        **({} if trace is None else {"trace": trace}),
        "_id": event.id,
        "type": event.event_type,
        "class": class_name_of(event),
        "key": event.key,
        "version": version,
        "n": number,
        "data": event_data(event),
        "attempts": 0,
        "isParked": False,
        "notBefore": _AT_ONCE,
    }


def _waiting_event(
    document: Bson, read: Callable[[Bson], DomainEvent | PlainEvent | None]
) -> WaitingEvent:
    event, is_refused = None, False
    try:
        event = read(document)
    except Exception:
        # The class is the service's own, and its next release may raise anything for old data.
        is_refused = True
        log.warning("A stored event is refused by its class.", exc_info=True)
    return WaitingEvent(
        document["_id"],
        document["version"],
        event,
        is_refused,
        document["attempts"],
        timedelta(milliseconds=document["dueIn"]),
        document.get("trace"),
    )
