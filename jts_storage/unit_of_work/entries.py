"""Decided commits as the journal lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import pyarrow as pa
from bson import ObjectId

from jts_storage.domain.changes import SERIES
from jts_storage.errors import StorageError
from jts_storage.mongo.leases import has_run_out
from jts_storage.mongo.manager import Bson

ENTRIES = "uow_journal"
CHUNKS = "uow_journal_chunks"
EVERYTHING = "*"
"""What an entry touches that has more names than it lists."""

R = TypeVar("R")


class Damaged(StorageError):
    """A decided commit cannot be read in the journal, so that nobody can finish it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A decided commit: its id, its version, when it was decided and how long ago that is.

    :param chunks: how many it has.
    :param owner: the process that is to finish it, as long as its lease lasts.
    :param symbols_version: of its symbols; None where it has none, or an earlier release wrote it.
    :param models: the declared tables that it writes.
    :param touches: the names of what it changes.
    :param damage: what of it cannot be read, and stands for nothing here; nobody can finish it.
    """

    id: ObjectId
    version: int
    decided_at: datetime
    age: timedelta
    chunks: int
    owner: str
    lease_until: datetime
    has_run_out: bool
    symbols_version: int | None = None
    models: tuple[str, ...] = ()
    touches: tuple[str, ...] = ()
    damage: str | None = None

    @property
    def series(self) -> list[str] | None:
        """The names of the series of candles that it changes; None if they may be any."""
        if EVERYTHING in self.touches:
            return None
        return [name for name in self.touches if name.startswith(SERIES)]


_IS_TIME: Final = {"$eq": [{"$type": "$decidedAt"}, "date"]}
PENDING: Final[list[Bson]] = [
    {"$sort": {"version": 1}},
    {
        "$project": {
            "version": 1,
            "symbolsVersion": 1,
            "models": 1,
            "touches": 1,
            "decidedAt": 1,
            "chunks": 1,
            "owner": 1,
            "leaseUntil": 1,
            "age": {"$subtract": ["$$NOW", {"$cond": [_IS_TIME, "$decidedAt", "$$NOW"]}]},
            "hasRunOut": has_run_out("$leaseUntil"),
        }
    },
]
"""Lists all entries, the oldest version first, and looks at the clock of the server."""


_FIELDS: Final = {
    "version": (int, 0),
    "decidedAt": (datetime, datetime.fromtimestamp(0, UTC)),
    "chunks": (int, 0),
    "owner": (str, ""),
    "leaseUntil": (datetime, datetime.fromtimestamp(0, UTC)),
    "symbolsVersion": (int | None, None),
    "models": (list, []),
    "touches": (list, []),
}
"""What an entry holds: of which type, and what stands for it where it is damaged."""

# Entries of earlier releases have none.
_MAY_BE_MISSING: Final[dict[str, Any]] = {"symbolsVersion": None, "models": [], "touches": []}


def entry_of(one: dict[str, Any]) -> Entry:
    given = _MAY_BE_MISSING | one
    wrong = [name for name, (kind, _) in _FIELDS.items() if not isinstance(given.get(name), kind)]
    given |= {name: _FIELDS[name][1] for name in wrong}
    return Entry(
        id=given["_id"],
        version=given["version"],
        decided_at=given["decidedAt"],
        age=timedelta(milliseconds=given["age"]),
        chunks=given["chunks"],
        owner=given["owner"],
        lease_until=given["leaseUntil"],
        has_run_out=given["hasRunOut"],
        symbols_version=given["symbolsVersion"],
        models=tuple(map(str, given["models"])),
        touches=tuple(map(str, given["touches"])),
        damage=", ".join(wrong) or None,
    )


# What reading JSON, Arrow, and values out of them raises where they are not as they were written.
_DAMAGED: Final = (
    *(ArithmeticError, AttributeError, LookupError, OSError, StopIteration, TypeError, ValueError),
    pa.ArrowException,
)


def check(entry: Entry) -> None:
    """:raises Damaged: a field of the entry is missing, or of another type."""
    if entry.damage:
        raise Damaged(
            f"Commit {entry.id} cannot be read: {entry.damage} of its entry is missing, or is"
            " of another type.",
            remedy=f"Bring the entry back from a backup, or remove it from {ENTRIES}.",
        )


def readable(entry: Entry, what: str, decode: Callable[..., R], *stored: Any) -> R:
    """:raises Damaged: it is, or a release wrote it that writes it otherwise."""
    try:
        return decode(*stored)
    except _DAMAGED as exc:
        raise Damaged(
            f"Commit {entry.id} cannot be finished: {what} in {CHUNKS} cannot be read:"
            f" {type(exc).__name__}: {exc}",
            remedy=f"Bring its chunks back from a backup, or remove its entry from {ENTRIES}.",
        ) from exc
