"""The subscriptions there are, as the commit clock lists them.

A commit learns of them as it takes its place, in the same round trip: so one that takes its place
after a subscription was listed stores its events for it, whatever process commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from bson import ObjectId
from pymongo import ReturnDocument

from jts_storage.domain.subscriptions import MOST
from jts_storage.errors import StorageError
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as MongoCollection

CLOCK_NAME: Final = "uow_clock"
CLOCK_ID: Final = "commits"
"""The collection of the commit clock, and the id of its one document."""

LISTED: Final = "subscriptions"
"""The field of the clock's document."""

_MOST_CHARACTERS: Final = 1_000
"""Every commit rewrites the clock's document, so it must stay small: a subscription to more types
is listed as one to all, and its consumer leaves the others out."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One subscription.

    :param id: under which its events are stored. A name may be given again, an id is not: what a
        commit stores late for a subscription that was forgotten is nobody's.
    :param types: of the events that it hears; none of them means all.
    :param is_complete: whether it has the events from before that it was to begin with.
    """

    id: ObjectId
    name: str
    types: frozenset[str]
    is_durable: bool
    is_complete: bool = True

    @classmethod
    def of(cls, listed: Mapping[str, Any]) -> Self:
        return cls(
            listed["id"],
            listed["name"],
            frozenset(listed["types"]),
            listed["isDurable"],
            listed["isComplete"],
        )

    def hears(self, event_type: str) -> bool:
        return not self.types or event_type in self.types

    def document(self) -> Bson:
        return {
            "id": self.id,
            "name": self.name,
            "types": _few(self.types),
            "isDurable": self.is_durable,
            "isComplete": self.is_complete,
        }


class ListedSubscriptions:
    """The list of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self._mine: Bson = {"_id": CLOCK_ID}

    async def all(self) -> list[Listed]:
        found = await self._manager.retries.repeat(
            "listing subscriptions", lambda: self._clock.find_one(self._mine, {LISTED: 1})
        )
        return [Listed.of(each) for each in (found or {}).get(LISTED, ())]

    async def add(self, listed: Listed) -> bool:
        """List a subscription; False if there is no clock yet.

        :raises StorageError: there are too many already.
        """
        is_new = {f"{LISTED}.id": {"$ne": listed.id}, f"{LISTED}.{MOST - 1}": {"$exists": False}}
        found = await self._manager.retries.repeat(
            "subscribing",
            lambda: self._clock.find_one_and_update(
                self._mine | is_new,
                {"$push": {LISTED: listed.document()}},
                projection={"_id": 1},
                return_document=ReturnDocument.AFTER,
            ),
        )
        if found is not None:
            return True
        there = await self.all()
        if any(each.id == listed.id for each in there):
            return True  # a repetition of what was stored
        if len(there) >= MOST:
            raise StorageError(
                f"There are {MOST} subscriptions already.",
                remedy="Forget one that nobody needs, with `unsubscribe`.",
            )
        return False

    async def change(self, identity: ObjectId, **fields: object) -> None:
        """Set fields of one that is listed, by the names they have in its document."""
        change = {f"{LISTED}.$.{field}": value for field, value in fields.items()}
        await self._manager.retries.repeat(
            "changing a subscription",
            lambda: self._clock.update_one(
                self._mine | {f"{LISTED}.id": identity}, {"$set": change}
            ),
        )

    async def retype(self, identity: ObjectId, types: frozenset[str]) -> None:
        await self.change(identity, types=_few(types))

    async def remove(self, identities: Sequence[ObjectId]) -> None:
        gone: Bson = {"$pull": {LISTED: {"id": {"$in": list(identities)}}}}
        await self._manager.retries.repeat(
            "forgetting subscriptions", lambda: self._clock.update_one(self._mine, gone)
        )

    @property
    def _clock(self) -> MongoCollection:
        return self._manager.get_collection(CLOCK_NAME)


def _few(types: frozenset[str]) -> list[str]:
    return sorted(types) if sum(map(len, types)) <= _MOST_CHARACTERS else []
