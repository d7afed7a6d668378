"""Places that the commit clock still lists although this process is done with their commits."""

from __future__ import annotations

import logging
from math import inf
from time import monotonic
from typing import NamedTuple

from bson import Binary, ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.errors import StorageError
from jts_storage.mongo.ending import end_sessions
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.pymongo_internals import retire

log = logging.getLogger(__name__)


_AGAIN_SECONDS = 1.0
"""After which MongoDB is asked again to end sessions, where it could not."""


class _Doubtful(NamedTuple):
    """:ivar listed_until: when the clock lists it no longer, whoever asks."""

    session: Binary
    listed_until: float


class Leftovers:
    """Those of one process, which only it can tell from places of commits that still run."""

    def __init__(self, manager: MongoDBManager) -> None:
        self._manager = manager
        self.let_go_at = -inf
        """When one was last taken off the list: its commit may be decided and not finished."""
        self._abandoned: dict[ObjectId, float] = {}
        """Places that MongoDB could not be told of, and from when on nobody has to wait for them.
        """
        self._unknown: dict[ObjectId, _Doubtful] = {}
        """Places of commits that may still be decided."""
        self._asks_again_at = -inf

    def abandon(self, place: ObjectId, seconds: float = 0.0) -> None:
        """Nobody has to wait for it any more after so long."""
        self._abandoned[place] = monotonic() + seconds

    def doubt(self, place: ObjectId, session: AsyncClientSession, seconds: float) -> None:
        """Its commit may still be decided in this session, which is used for nothing else.

        :param seconds: for how long the clock lists it.
        """
        retire(session)
        self._unknown[place] = _Doubtful(session.session_id["id"], monotonic() + seconds)

    @property
    def due(self) -> list[ObjectId]:
        """The places that can be taken off the list."""
        return [each for each, end in self._abandoned.items() if end <= monotonic()]

    def are_gone(self, places: list[ObjectId]) -> None:
        """They were taken off the list."""
        for each in places:
            self._abandoned.pop(each, None)
            self.let_go_at = monotonic()

    async def settle(self) -> None:
        """Let commits of unknown outcome be decided by now, or never.

        Those that are decided have their entry in the journal, where recovery finds them.
        """
        begun = monotonic()
        # Kept until it is done: whoever is cancelled meanwhile leaves it to the next.
        asked = {place: each for place, each in self._unknown.items() if each.listed_until > begun}
        self._unknown = dict(asked)
        if not asked or begun < self._asks_again_at:
            return
        sessions = [each.session for each in asked.values()]
        try:
            await self._manager.retries.once(
                "ending the sessions of commits of unknown outcome",
                lambda: end_sessions(self._manager, sessions),
            )
        except StorageError:
            self._asks_again_at = monotonic() + _AGAIN_SECONDS
            log.info("A commit of unknown outcome is listed until MongoDB answers.", exc_info=True)
            return
        for place in asked:
            if self._unknown.pop(place, None) is not None:
                self.abandon(place)
