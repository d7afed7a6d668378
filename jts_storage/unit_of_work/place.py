"""The place of one commit in the order of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.errors import Conflict
from jts_storage.mongo.manager import Bson
from jts_storage.unit_of_work.listed import Listed
from jts_storage.unit_of_work.other_commits import UnderWay

DECIDES_WITHIN = timedelta(seconds=60)
"""A commit that takes longer gives up: its place might expire before MongoDB has decided it."""


@dataclass(slots=True)
class Place:
    """The place of a commit in the order of all.

    :param was_kept: False if its lease ended before the commit did, as when the process was
        paused: then others have not waited for it.
    :param decided_in: the session in which the commit may still be decided if it fails now; None
        before it is asked to decide, and once it has said what became of it.
    :param symbols_version: that of the symbols it writes; None if it writes none.
    :param unit: the id that its client gave it, and the session of its transaction.
    :param lands: whether what it has sent may still arrive when it fails.
    :param earlier: the commits that were under way when it was taken.
    :param subscriptions: those that its events are stored for; none if it has no events.
    """

    id: ObjectId
    version: int
    symbols_version: int | None = None
    lands: bool = True
    earlier: Sequence[UnderWay] = ()
    subscriptions: Sequence[Listed] = ()
    was_kept: bool = True
    decided_in: AsyncClientSession | None = None
    unit: Bson | None = None
    taken_at: float = field(default_factory=monotonic)
    renewed_at: float = field(default_factory=monotonic)

    def check(self) -> None:
        """:raises Conflict: it is too late to decide under this version."""
        if monotonic() - self.taken_at > DECIDES_WITHIN.total_seconds():
            raise Conflict(
                f"Commit {self.id} was paused for too long before it was decided; nothing of it is "
                "stored.",
                remedy="Repeat it.",
            )


def written_under(place: Place) -> int:
    """The version of what a commit writes; what it deletes has the one before."""
    return place.version + 1
