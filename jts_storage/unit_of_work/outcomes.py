"""What became of units of work that were given an id, noted in MongoDB.

A unit of work notes its id before it reads a document, with the session of its transaction, and
that it is committed in the transaction that decides. Whoever asks first notes that it was given up,
which the transaction then meets: one of the two notes is there, and for good.

One without documents has nothing locked until it decides. It notes only that it is committed; its
session is listed by the commit clock meanwhile, which it asks anyhow.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from bson import Int64
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError, ExecutionTimeout
from pymongo.read_concern import ReadConcern

from jts_storage._runtime.steps import RECOVERY, Ended, tell
from jts_storage.domain import checks
from jts_storage.domain.moments import Commit
from jts_storage.domain.outcomes import AHEAD, KEPT, Outcome, first_id_of
from jts_storage.errors import StorageError
from jts_storage.mongo.ending import end_sessions
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager
from jts_storage.unit_of_work.listed import CLOCK_ID, CLOCK_NAME

OUTCOMES: Final = "uow_outcomes"
_OPEN: Final[Bson] = {"isCommitted": {"$exists": False}}
_PATIENCE_MS: Final = 2_000
"""How long a commit under way is waited for, before its transaction is broken off."""

_INSERT_SECONDS: Final = 2.5
"""The same for a commit that noted nothing before. MongoDB lets what would insert the same id wait
for as long as a transaction lives, whatever time it is given. It may insert the note of giving up
once the session is ended, which is what is wanted.
"""

_ATTEMPTS: Final = 10
_PAUSE_SECONDS: Final = 0.1

log = logging.getLogger(__name__)


class StoredOutcomes:
    """The outcomes of one database."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager

    async def begin(self, identity: str, session: AsyncClientSession) -> Outcome | None:
        """Note that a unit of work begins; return its outcome if it has one already."""
        note = {"$set": {"session": session.session_id["id"]}}

        async def noted() -> Outcome | None:
            try:
                await self._notes.update_one({"_id": identity} | _OPEN, note, upsert=True)
            except DuplicateKeyError:
                return await self._final(identity)
            return None

        return await self._manager.retries.repeat("beginning a unit of work", noted)

    async def committed(self, identity: str, version: int, session: AsyncClientSession) -> None:
        """Note it in the transaction of the commit, which fails if it was given up meanwhile."""
        note: Bson = {"$set": {"isCommitted": True, "version": Int64(version)}}
        await self._manager.retries.once(
            "noting a commit",
            lambda: self._notes.update_one(
                {"_id": identity} | _OPEN, note, upsert=True, session=session
            ),
        )

    async def final(self, identity: str) -> Outcome | None:
        """The outcome, if it is certain already."""
        return await self._manager.retries.repeat(
            "asking for an outcome", lambda: self._final(identity)
        )

    async def settle(self, identity: str) -> Outcome:
        """The outcome, for good: what is not committed by now never will be.

        A commit under way is waited for, and broken off if that takes too long.
        """
        for _ in range(_ATTEMPTS):
            found = await self._manager.retries.repeat(
                "asking for an outcome", lambda: self._settled(identity)
            )
            if found is not None:
                if not found.is_committed:
                    await self._forget_place(identity)
                return found
            await asyncio.sleep(_PAUSE_SECONDS)
        raise StorageError(
            f"The outcome of unit of work {identity} is not known yet.", remedy="Ask again."
        )

    async def _settled(self, identity: str) -> Outcome | None:
        """None if that is not certain yet."""
        give_up: Bson = {"$set": {"isCommitted": False}}
        try:
            async with asyncio.timeout(_INSERT_SECONDS):
                before = await self._notes.find_one_and_update(
                    {"_id": identity} | _OPEN, give_up, upsert=True, maxTimeMS=_PATIENCE_MS
                )
        except DuplicateKeyError:
            return await self._final(identity)
        except (ExecutionTimeout, TimeoutError):
            note = await self._notes.find_one({"_id": identity})
            await self._break_off(note or await self._listed(identity))
            return None
        # Or what it has written would stay locked: where its process died, for a minute.
        await self._break_off(before)
        tell(Ended(RECOVERY, "rolled_back"))
        return Outcome(identity)

    async def _final(self, identity: str) -> Outcome | None:
        notes = self._notes.with_options(read_concern=ReadConcern("majority"))
        found = await notes.find_one({"_id": identity})
        if found is None or "isCommitted" not in found:
            return None
        return Outcome(identity, Commit(int(found["version"])) if found["isCommitted"] else None)

    async def _listed(self, identity: str) -> Bson | None:
        """What the commit clock says of a commit under way that noted nothing before."""
        clock = self._manager.get_collection(CLOCK_NAME)
        found = await clock.find_one(
            {"_id": CLOCK_ID, "running.unit._id": identity}, {"running.$": 1}
        )
        unit: Bson | None = found and found["running"][0]["unit"]
        return unit

    async def _forget_place(self, identity: str) -> None:
        """Take a commit that never will be off the list of those under way, which others wait for.

        Whatever transaction is to decide it writes to the note that says so, and so cannot commit
        any more, whoever runs it, and whenever. Nothing of it is outside of that transaction but
        chunks of the journal, which mean nothing without it.
        """
        clock = self._manager.get_collection(CLOCK_NAME)
        which = {"_id": CLOCK_ID, "running.unit._id": identity}
        gone = {"$pull": {"running": {"unit._id": identity}}}
        try:
            await self._manager.retries.repeat(
                "ending a commit that was given up", lambda: clock.update_one(which, gone)
            )
        except StorageError:
            log.info("A commit that was given up is listed until its lease ends.", exc_info=True)

    async def _break_off(self, note: Bson | None) -> None:
        """End the session of a process that is gone, or takes too long: its transaction with it."""
        if note is not None and (session := note.get("session")):
            log.warning("Breaking off the transaction of unit of work %s.", note["_id"])
            await end_sessions(self._manager, [session])

    async def purge(self) -> None:
        """Forget outcomes that nobody may ask for any more."""
        last: Any = {"$lt": first_id_of(checks.now() - KEPT - AHEAD)}
        await self._manager.retries.repeat(
            "forgetting outcomes", lambda: self._notes.delete_many({"_id": last})
        )

    @property
    def _notes(self) -> Collection:
        return self._manager.get_collection(OUTCOMES)


class NotedUnit:
    """One unit of work that was given an id."""

    def __init__(
        self, outcomes: StoredOutcomes, identity: str, session: AsyncClientSession
    ) -> None:
        self.id = identity
        self._outcomes, self._session = outcomes, session
        self.known: Outcome | None = None
        """What became of an earlier one with the same id."""

    @property
    def listed(self) -> Bson:
        """What the commit clock lists of it while it commits."""
        return {"_id": self.id, "session": self._session.session_id["id"]}

    async def begin(self) -> None:
        """Before its transaction reads anything: what it has read must not change."""
        self.known = await self._outcomes.begin(self.id, self._session)

    async def committed(self, version: int) -> None:
        await self._outcomes.committed(self.id, version, self._session)

    async def final(self) -> Outcome | None:
        return await self._outcomes.final(self.id)

    async def settle(self) -> Outcome:
        return await self._outcomes.settle(self.id)
