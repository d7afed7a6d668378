"""One runner at a time on a MongoDB database: a document with a lease, renewed while it is held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from pymongo.errors import DuplicateKeyError, PyMongoError

from jts_storage._runtime.tasks import stopped
from jts_storage.errors import Conflict
from jts_storage.migrate.owners import Owner
from jts_storage.mongo.manager import Collection

LOCK_COLLECTION: Final = "jts_schema_lock"
LEASE_SECONDS: Final = 60.0
_PAUSE: Final = 0.05
_ID: Final = "migrations"


@asynccontextmanager
async def held(collection: Collection, patience: float) -> AsyncIterator[Callable[[], None]]:
    """Hold the lock, and get what raises once it was lost.

    :raises Conflict: another runner kept it for all of `patience` seconds.
    """
    with Owner.here() as owner:
        await _take(collection, owner, patience)
        keeper = asyncio.create_task(_keep(collection, owner))
        try:
            yield lambda: _check(keeper)
        finally:
            await stopped(keeper)
            with suppress(asyncio.CancelledError, Conflict, PyMongoError):
                keeper.result()
            await collection.delete_one({"_id": _ID, "owner": str(owner)})


async def _take(collection: Collection, owner: Owner, patience: float) -> None:
    give_up = time.monotonic() + patience
    while not await _try(collection, owner):
        holder = await collection.find_one({"_id": _ID}) or {}
        who = str(holder.get("owner", ""))
        if who and Owner.parse(who).is_gone:
            await collection.delete_one({"_id": _ID, "owner": who})
        elif time.monotonic() > give_up:
            raise Conflict(
                f"Another runner migrates this MongoDB database: {who}.",
                remedy="Wait until it has ended; if it died, its lock ends"
                f" {LEASE_SECONDS:g} s after its last sign of life.",
            )
        else:
            await asyncio.sleep(_PAUSE)


async def _try(collection: Collection, owner: Owner) -> bool:
    """Take the lock if it is free, by the server's clock."""
    over = {"_id": _ID, "$expr": {"$lt": ["$until", "$$NOW"]}}
    if (await collection.update_one(over, _lease(owner))).matched_count:
        return True
    try:
        await collection.update_one(
            {"_id": _ID, "owner": {"$exists": False}}, _lease(owner), upsert=True
        )
    except DuplicateKeyError:
        return False
    return True


async def _keep(collection: Collection, owner: Owner) -> None:
    until = time.monotonic() + LEASE_SECONDS
    while True:
        await asyncio.sleep(LEASE_SECONDS / 6)
        begun = time.monotonic()
        try:
            renewed = await collection.update_one({"_id": _ID, "owner": str(owner)}, _lease(owner))
        except PyMongoError:
            if time.monotonic() > until:
                raise
            continue  # the lease still holds
        until = begun + LEASE_SECONDS
        if not renewed.matched_count:
            raise Conflict(
                "Another runner took over this MongoDB database, since this one was silent.",
                remedy="Let it finish; then see `jts-storage migrate status`.",
            )


def _lease(owner: Owner) -> list[dict[str, Any]]:
    until = {"$add": ["$$NOW", int(LEASE_SECONDS * 1_000)]}
    return [{"$set": {"owner": str(owner), "until": until}}]


def _check(keeper: asyncio.Task[None]) -> None:
    if keeper.done():
        keeper.result()
