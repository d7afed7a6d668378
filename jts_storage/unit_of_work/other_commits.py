"""A commit that others may have to wait for."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from bson import Binary, ObjectId

from jts_storage._runtime.processes import may_be_alive
from jts_storage._runtime.steps import RECOVERY, Ended, listener, tell
from jts_storage.errors import StorageError
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.unit_of_work.entries import ENTRIES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UnderWay:
    """A commit that has taken its version and is neither done nor given up.

    :param event_keys: the keys of its events; None if there are too many to list.
    :param series: the names of the series of candles that it writes, likewise.
    :param session: whose transaction decides about it; None if it has no id that clients know.
    """

    id: ObjectId
    version: int
    owner: str
    event_keys: frozenset[str] | None
    series: frozenset[str] | None
    session: Binary | None = None

    @classmethod
    def of(cls, listed: Mapping[str, Any]) -> UnderWay:
        """:param listed: what the clock's document says of it."""
        given = listed["eventKeys"], listed.get("series")
        event_keys, series = (None if each is None else frozenset(each) for each in given)
        session = listed.get("unit", {}).get("session")
        return cls(listed["id"], listed["version"], listed["owner"], event_keys, series, session)

    @property
    def may_be_alive(self) -> bool:
        return may_be_alive(self.owner)

    @property
    def may_have_events(self) -> bool:
        return self.event_keys is None or bool(self.event_keys)

    def may_have_events_of(self, key: str) -> bool:
        return self.event_keys is None or key in self.event_keys

    def may_write(self, series: Collection[str] | None) -> bool:
        """:param series: any of these; None stands for all, and for all documents."""
        return self.series is None or series is None or not self.series.isdisjoint(series)


async def tell_abandoned(manager: MongoDBManager, gone: Collection[ObjectId]) -> None:
    """Tell of the commits of dead processes that are not in the journal.

    Those that are in it are told of once they are finished.
    """
    if listener.get() is None:
        return
    try:
        decided = await manager.retries.once(
            "looking for decided commits",
            lambda: manager.get_collection(ENTRIES).distinct("_id", {"_id": {"$in": [*gone]}}),
        )
    except StorageError as exc:  # what was to be done is done
        log.debug("Abandoned commits are not counted: %s", exc)
        return
    for _ in set(gone).difference(decided):
        tell(Ended(RECOVERY, "abandoned"))
