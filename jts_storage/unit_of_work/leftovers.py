"""Places that the commit clock still lists although this process is done with their commits."""

from __future__ import annotations

import logging
from time import monotonic

from bson import Binary, ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.errors import StorageError
from jts_storage.mongo.ending import end_sessions
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.pymongo_internals import retire

log = logging.getLogger(__name__)


class Leftovers:
    """Those of one process, which only it can tell from places of commits that still run."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self._abandoned: dict[ObjectId, float] = {}
        """Places that MongoDB could not be told of, and from when on nobody has to wait for them.
        """
        self._unknown: dict[ObjectId, Binary] = {}
        """Places of commits that may still be decided, and in which session."""

    def abandon(self, place: ObjectId, seconds: float = 0.0) -> None:
        """Nobody has to wait for it any more after so long."""
        self._abandoned[place] = monotonic() + seconds

    def doubt(self, place: ObjectId, session: AsyncClientSession) -> None:
        """Its commit may still be decided in this session, which is used for nothing else."""
        retire(session)
        self._unknown[place] = session.session_id["id"]

    @property
    def due(self) -> list[ObjectId]:
        """The places that can be taken off the list."""
        return [each for each, end in self._abandoned.items() if end <= monotonic()]

    def are_gone(self, places: list[ObjectId]) -> None:
        """They were taken off the list."""
        for each in places:
            self._abandoned.pop(each, None)

    async def settle(self) -> None:
        """Let commits of unknown outcome be decided by now, or never.

        Those that are decided have their entry in the journal, where recovery finds them.
        """
        unknown, self._unknown = self._unknown, {}
        if not unknown:
            return
        try:
            await self._manager.retries.once(
                "ending the sessions of commits of unknown outcome",
                lambda: end_sessions(self._manager, list(unknown.values())),
            )
        except StorageError:
            self._unknown |= unknown
            log.info("A commit of unknown outcome is listed until MongoDB answers.", exc_info=True)
        else:
            for each in unknown:
                self.abandon(each)
