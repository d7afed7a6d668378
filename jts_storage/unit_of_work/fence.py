"""A fence in the commit clock: while it is up no commit begins, so that all stores can be pinned.

Whoever raises it waits until each commit that has its place is decided, or is over. What is decided
has its entry in the journal, or is in every store already; what is not decided cannot begin. So a
view of MongoDB that is taken now, and views of the other stores taken after it, before the fence
falls, hold the same commits: those up to the highest version that the clock has given. A decided
commit may be missing in ClickHouse or SQL; then its entry is in the view of MongoDB, and recovery
finishes it there. Nobody waits for the rows that such a commit still writes.

The fence is a field of the clock's document, which every commit asks anyway, and falls by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.errors import Conflict, StorageError
from jts_storage.mongo.leases import from_now, has_run_out
from jts_storage.mongo.manager import Bson, Collection
from jts_storage.unit_of_work.clock import CLOCK, LEASE
from jts_storage.unit_of_work.listed import CLOCK_ID
from jts_storage.unit_of_work.participants import Stores

FALLS_AFTER = timedelta(seconds=2)
"""When a fence falls by itself, by the server's clock: as long writers wait if a backup dies."""

DRAINS_WITHIN = 0.025
"""Seconds of a pause in which the commits that have begun have to be decided."""

PATIENCE = LEASE.total_seconds() + 30
"""Seconds after which it is given up: a commit whose outcome is unknown is listed for a while."""

_POLL_SECONDS = 0.001
_AGAIN_SECONDS = 0.05
_LONGEST_AGAIN_SECONDS = 2.0


class Broken(Conflict):
    """A fence fell before everything was pinned, or somebody did not respect it."""


class _NotDrained(Exception):
    """A commit that has begun takes too long to be waited for with the fence up."""


@dataclass(slots=True)
class Cut:
    """Where all commits are divided: those up to a version, and those after it.

    :param moment: of the server, when the fence was raised.
    :param fence: which one it was.
    :param waited_seconds: how long new commits have waited.
    :param attempts: how often the fence was raised.
    """

    version: int
    moment: datetime
    fence: ObjectId
    waited_seconds: float = 0.0
    attempts: int = 1


class Fence:
    """The fence of one set of stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    @asynccontextmanager
    async def up(self) -> AsyncIterator[Cut]:
        """Run the block while no commit begins and none that has begun is undecided.

        :raises Broken: at the end of the block, which then has to be repeated: the fence did not
            last, or a version was given all the same.
        :raises Conflict: a commit of unknown outcome stays undecided for too long.
        """
        identity, begun = ObjectId(), monotonic()
        cut, raised = await self._drained(identity, begun)
        try:
            yield cut
        except BaseException:
            await self._lower(identity)
            raise
        value = await self._lower(identity)
        cut.waited_seconds = monotonic() - raised
        if value is None:
            raise Broken(
                f"The stores were not pinned within {FALLS_AFTER.total_seconds():g} s.",
                remedy="Repeat it, when the servers answer quicker.",
            )
        if value != cut.version:
            raise Broken(
                "A commit has begun although a backup had asked all to wait.",
                remedy="An older release of jts_storage writes to these stores: update it.",
            )

    async def pin(self, session: AsyncClientSession, cut: Cut) -> None:
        """Begin the view of MongoDB that a snapshot session gives, and see that it is of `cut`.

        :raises Broken: it is of another moment.
        """
        found = await self._stores.mongo.retries.once(
            "pinning MongoDB", lambda: self._clock.find_one({"_id": CLOCK_ID}, session=session)
        )
        if found is None or found.get("fence", {}).get("by") != cut.fence:
            raise Broken("MongoDB showed another moment than was asked for.", remedy="Repeat it.")

    async def _drained(self, identity: ObjectId, begun: float) -> tuple[Cut, float]:
        """Raise the fence; lower it again, and wait, for commits that take long to be decided."""
        await self._stores.clock.start()
        pause = _AGAIN_SECONDS
        attempts = 0
        while True:
            attempts += 1
            raised = monotonic()
            cut = await self._raised(identity)
            cut.attempts = attempts
            try:
                await self._wait_until_decided(raised)
            except BaseException as exc:
                await self._lower(identity)
                if not isinstance(exc, _NotDrained):
                    raise
            else:
                return cut, raised
            if monotonic() - begun > PATIENCE:
                raise Conflict(
                    "Commits that have begun are not decided, so that no moment is between them.",
                    remedy="Repeat it once MongoDB answers everybody.",
                )
            await self._stores.clock.purge()  # the places of processes that are dead
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_AGAIN_SECONDS)

    async def _wait_until_decided(self, raised: float) -> None:
        """:raises _NotDrained: it takes too long."""
        while await self._undecided():
            if monotonic() - raised > DRAINS_WITHIN:
                raise _NotDrained
            await asyncio.sleep(_POLL_SECONDS)

    async def _undecided(self) -> bool:
        """Return whether a commit has its place and is neither decided nor over."""
        # In this order: one that is decided in between leaves its entry, or is off the list.
        under_way = {one.id for one in await self._stores.clock.under_way()}
        if not under_way:
            return False
        return not under_way <= await self._stores.journal.decided(under_way)

    async def _raised(self, identity: ObjectId) -> Cut:
        """:raises Conflict: somebody else's fence is up."""
        fence: Bson = {"until": from_now(FALLS_AFTER), "by": identity}
        found = await self._change(
            "raising the fence",
            {"$expr": has_run_out("$fence.until")},
            [{"$set": {"fence": fence, "fencedAt": "$$NOW"}}],
        )
        if found is None:
            raise Conflict("Another backup is being made.", remedy="Wait until it is done.")
        return Cut(int(found["value"]), found["fencedAt"], identity)

    async def _lower(self, identity: ObjectId) -> int | None:
        """Let commits begin; the highest version given, or None if the fence was down already."""
        try:
            found = await self._change(
                "lowering the fence",
                {"fence.by": identity, "$expr": {"$not": [has_run_out("$fence.until")]}},
                [{"$unset": ["fence", "fencedAt"]}],
            )
        except StorageError:
            return None  # it falls by itself
        return None if found is None else int(found["value"])

    async def _change(self, doing: str, which: Bson, change: list[Any]) -> Bson | None:
        found: Bson | None = await self._stores.mongo.retries.once(
            doing,
            lambda: self._clock.find_one_and_update(
                {"_id": CLOCK_ID} | which,
                change,
                projection={"value": 1, "fencedAt": 1},
                return_document=ReturnDocument.AFTER,
            ),
        )
        return found

    @property
    def _clock(self) -> Collection:
        return self._stores.mongo.get_collection(CLOCK)
