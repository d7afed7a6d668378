"""What the commit clock asks of MongoDB, in MongoDB's own expressions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from bson import Int64, ObjectId

from jts_storage.mongo.leases import has_run_out
from jts_storage.mongo.manager import Bson

_NANOSECONDS: Final = 1_000_000

# Every commit rewrites the clock's document, so it must stay small: a commit of more keys or series
# lists none, and others wait for it as if it had all.
MOST_NAMES: Final = 100
_MOST_CHARACTERS: Final = 10_000

NO_FENCE: Bson = has_run_out("$fence.until")
_HAS_NOT_RUN_OUT: Bson = {"$not": [has_run_out("$$this.until")]}
NOT_EXPIRED: Bson = {"$filter": {"input": "$running", "cond": _HAS_NOT_RUN_OUT}}


def without(gone: Sequence[ObjectId]) -> Bson:
    lasts = {"$and": [_HAS_NOT_RUN_OUT, {"$not": [{"$in": ["$$this.id", {"$literal": gone}]}]}]}
    return {"$filter": {"input": "$running", "cond": lasts}}


def is_place(identity: ObjectId) -> Bson:
    return {"$eq": ["$$this.id", identity]}


def lasts(identity: ObjectId) -> Bson:
    return {"$and": [is_place(identity), _HAS_NOT_RUN_OUT]}


def now() -> Bson:
    """The server's time in nanoseconds, to which versions written by earlier releases compare."""
    return {"$multiply": [{"$toLong": "$$NOW"}, Int64(_NANOSECONDS)]}


def listed(names: Collection[str] | None) -> list[str] | None:
    """The names, or None where there are too many, so that the clock stays small."""
    if names is None:
        return None
    each = sorted(set(names))
    few = len(each) <= MOST_NAMES and sum(map(len, each)) <= _MOST_CHARACTERS
    return each if few else None
