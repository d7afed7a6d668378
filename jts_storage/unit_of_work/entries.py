"""Decided commits as the journal lists them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from bson import ObjectId

from jts_storage.mongo.leases import has_run_out
from jts_storage.mongo.manager import Bson


@dataclass(frozen=True, slots=True)
class Entry:
    """A decided commit: its id, its version, when it was decided and how long ago that is.

    :param chunks: how many it has.
    :param owner: the process that is to finish it, as long as its lease lasts.
    :param symbols_version: of its symbols; None where it has none, or an earlier release wrote it.
    :param models: the declared tables that it writes.
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


PENDING: Final[list[Bson]] = [
    {"$sort": {"version": 1}},
    {
        "$project": {
            "version": 1,
            "symbolsVersion": 1,
            "models": 1,
            "decidedAt": 1,
            "chunks": 1,
            "owner": 1,
            "leaseUntil": 1,
            "age": {"$subtract": ["$$NOW", "$decidedAt"]},
            "hasRunOut": has_run_out("$leaseUntil"),
        }
    },
]
"""Lists all entries, the oldest version first, and looks at the clock of the server."""


def entry_of(one: dict[str, Any]) -> Entry:
    return Entry(
        id=one["_id"],
        version=one["version"],
        decided_at=one["decidedAt"],
        age=timedelta(milliseconds=one["age"]),
        chunks=one["chunks"],
        owner=one["owner"],
        lease_until=one["leaseUntil"],
        has_run_out=one["hasRunOut"],
        symbols_version=one.get("symbolsVersion"),
        models=tuple(one.get("models", ())),
    )
