"""One runner at a time on a MongoDB database: a lease on a name, renewed while it is held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from jts_storage.migrate.waiting import Waiting, taken_over
from jts_storage.mongo import leases
from jts_storage.mongo.manager import MongoDBManager

_COLLECTION: Final = "jts_schema_lock"
_NAME: Final = "migrations"
_WHERE: Final = "this MongoDB database"


@asynccontextmanager
async def held(
    manager: MongoDBManager, patience: float
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Hold the lock, and get what raises once it was lost.

    :raises Conflict: another runner kept it for all of `patience` seconds.
    """
    locks = leases.Leases(manager, _COLLECTION)
    waiting = Waiting(_WHERE, patience)
    while True:
        async with locks.taken(_NAME) as lease:
            if lease is not None:
                async with leases.renewing(leases.DURATION, lease.renewed):
                    yield lambda: _check(lease)
                return
        holder = await locks.holder(_NAME)
        await asyncio.sleep(waiting.pause(holder, leases.DURATION.total_seconds()))


async def _check(lease: leases.Lease) -> None:
    if not await lease.renewed():
        raise taken_over(_WHERE)
