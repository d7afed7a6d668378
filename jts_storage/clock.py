"""The commit clock: versions that grow with the order of commits, whatever the hosts' clocks say.

It is one document in MongoDB. A commit takes its version there once it holds every lock it needs,
so of two commits that change the same thing the later one has the higher version in every store.
The document also lists the commits under way: a deletion waits for the writes that came before it,
and an event for the events that did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Any

from bson import Int64, ObjectId
from pymongo import ReturnDocument

from jts_storage.errors import StorageError
from jts_storage.leases import from_now
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as Documents
from jts_storage.processes import may_be_alive, this_process

CLOCK = "uow_clock"
LEASE = timedelta(seconds=60)
"""A commit under way is waited for so long after it took its version; a dead one shorter."""

LANDING = timedelta(seconds=2)
"""Within it, what a writer sent arrives at ClickHouse, or never does, though its end is unknown."""

_ID = "commits"
_VERSIONS = 2
"""Versions a commit takes: one for what it deletes, and a later one for what it writes."""

_MOST_KEYS = 100
_NANOSECONDS = 1_000_000
_POLL_SECONDS = 0.005
_LONGEST_POLL_SECONDS = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A commit that has taken its version and is neither done nor given up.

    :param event_keys: the keys of its events; None if there are too many to list.
    """

    id: ObjectId
    version: int
    owner: str
    event_keys: frozenset[str] | None

    @property
    def may_be_alive(self) -> bool:
        return may_be_alive(self.owner)

    def may_have_events_of(self, key: str) -> bool:
        return self.event_keys is None or key in self.event_keys


@dataclass(slots=True)
class Place:
    """The place of a commit in the order of all.

    :param was_kept: once it is left: whether it was listed until then. A commit that was paused
        for longer than its lease is not, and others did not wait for it.
    """

    id: ObjectId
    version: int
    was_kept: bool = True
    taken_at: float = field(default_factory=monotonic)

    @property
    def is_overdue(self) -> bool:
        return monotonic() - self.taken_at > LEASE.total_seconds()


class CommitClock:
    """The clock of one database.

    :param stored: the highest version that any store holds, asked when the clock is made.
    """

    def __init__(self, manager: MongoDBManager, stored: Callable[[], Awaitable[int]]) -> None:
        self._manager = manager
        self._stored = stored
        self._owner = this_process()

    async def start(self) -> None:
        """Make the clock if there is none yet, ahead of every version that is stored."""
        if await self._find({"_id": 1}) is None:
            await self.catch_up()

    async def catch_up(self) -> None:
        """Set the clock ahead of every version that is stored, whoever wrote it.

        Earlier releases took versions from their hosts' clocks.
        """
        stored = await self._stored()
        value = {"$max": [Int64(stored + 1), "$value", _now()]}
        change = [{"$set": {"value": value, "running": {"$ifNull": ["$running", []]}}}]
        await self._manager.retries.repeat(
            "setting the commit clock",
            lambda: self._clock.update_one({"_id": _ID}, change, upsert=True),
        )

    @asynccontextmanager
    async def place(
        self,
        *,
        above: int = 0,
        versions: int = _VERSIONS,
        event_keys: Collection[str] = (),
        identity: ObjectId | None = None,
    ) -> AsyncIterator[Place]:
        """Take the next place in the order of commits and be listed until the block ends.

        :param above: a version that the new one must be higher than.
        :param versions: how many the place has, from its `version` on.
        """
        place = await self._enter(identity or ObjectId(), above, versions, event_keys)
        try:
            yield place
        except BaseException:
            # What was sent last may still arrive although its answer does not.
            await self._leave_later(place)
            raise
        place.was_kept = await self._leave(place)

    async def under_way(self) -> list[UnderWay]:
        """The commits under way, the oldest version first."""
        found = await self._find({"running": _NOT_EXPIRED}) or {}
        return [_under_way(one) for one in found.get("running", ())]

    async def wait_for_earlier(self, version: int) -> None:
        """Wait until no commit under way has a version below this one.

        Each of them ends, dies or loses its lease, so this does, too.
        """
        pause = _POLL_SECONDS
        while earlier := [one for one in await self.under_way() if one.version < version]:
            if any(one.may_be_alive for one in earlier):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_POLL_SECONDS)
            else:
                await self.purge()

    async def forget(self, commits: Collection[ObjectId]) -> None:
        """List these commits no more: others have finished them, or nobody ever will."""
        gone = {"$pull": {"running": {"id": {"$in": list(commits)}}}}
        await self._manager.retries.repeat(
            "ending commits of others", lambda: self._clock.update_one({"_id": _ID}, gone)
        )

    async def purge(self) -> None:
        """Forget the commits of processes that are known to be dead."""
        dead = [one.id for one in await self.under_way() if not one.may_be_alive]
        if dead:
            await asyncio.sleep(LANDING.total_seconds())
            await self.forget(dead)

    async def _enter(
        self, identity: ObjectId, above: int, versions: int, event_keys: Collection[str]
    ) -> Place:
        keys = sorted(set(event_keys)) if len(event_keys) <= _MOST_KEYS else None
        change = _next_place(identity, above, versions, self._owner, keys)
        found = await self._tick(change)
        if found is None:
            await self.catch_up()
            found = await self._tick(change)
        if found is None:
            raise StorageError(
                f"The commit clock in {CLOCK} was removed while it was in use.", remedy="Repeat."
            )
        return Place(identity, int(found["value"]) - versions + 1)

    async def _tick(self, change: Sequence[Bson]) -> Bson | None:
        # Not repeated: a place that was taken without our knowledge would hold others up.
        found: Bson | None = await self._manager.retries.once(
            "asking the commit clock",
            lambda: self._clock.find_one_and_update(
                {"_id": _ID},
                change,
                projection={"value": 1},
                return_document=ReturnDocument.AFTER,
            ),
        )
        return found

    async def _leave(self, place: Place) -> bool:
        gone = {"$pull": {"running": {"id": place.id}}}
        try:
            result = await self._manager.retries.once(
                "ending a commit", lambda: self._clock.update_one({"_id": _ID}, gone)
            )
        except StorageError:
            # What was committed stands; it only is listed until its lease ends.
            log.info("A commit is listed until its lease ends.", exc_info=True)
            return not place.is_overdue
        return bool(result.modified_count)

    async def _leave_later(self, place: Place) -> None:
        until = from_now(LANDING)
        mine = {"$eq": ["$$this.id", place.id]}
        shortened = {"$cond": [mine, {"$mergeObjects": ["$$this", {"until": until}]}, "$$this"]}
        change = [{"$set": {"running": {"$map": {"input": "$running", "in": shortened}}}}]
        try:
            await self._manager.retries.once(
                "ending a commit", lambda: self._clock.update_one({"_id": _ID}, change)
            )
        except StorageError:
            log.info("A commit that failed is listed until its lease ends.", exc_info=True)

    async def _find(self, projection: Bson) -> Bson | None:
        found: Bson | None = await self._manager.retries.repeat(
            "reading the commit clock", lambda: self._clock.find_one({"_id": _ID}, projection)
        )
        return found

    @property
    def _clock(self) -> Documents:
        return self._manager.get_collection(CLOCK)


_NOT_EXPIRED: Bson = {"$filter": {"input": "$running", "cond": {"$gt": ["$$this.until", "$$NOW"]}}}


def _now() -> Bson:
    """The server's time in nanoseconds, to which versions written by earlier releases compare."""
    return {"$multiply": [{"$toLong": "$$NOW"}, Int64(_NANOSECONDS)]}


def _next_place(
    identity: ObjectId, above: int, versions: int, owner: str, event_keys: Sequence[str] | None
) -> list[Bson]:
    value = {"$max": [{"$add": ["$value", versions]}, Int64(above + versions), _now()]}
    place = {
        "id": identity,
        "version": {"$subtract": ["$value", versions - 1]},
        "owner": {"$literal": owner},
        "until": from_now(LEASE),
        "eventKeys": {"$literal": event_keys},
    }
    return [
        {"$set": {"value": value}},
        {"$set": {"running": {"$concatArrays": [_NOT_EXPIRED, [place]]}}},
    ]


def _under_way(found: dict[str, Any]) -> UnderWay:
    keys = found["eventKeys"]
    return UnderWay(
        found["id"], found["version"], found["owner"], None if keys is None else frozenset(keys)
    )
