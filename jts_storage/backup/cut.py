"""All stores at one moment: the fence up, MongoDB pinned, then the others, and the fence down.

MongoDB comes first. While the fence is up nothing is decided, so a commit that the other stores
show is in this view of MongoDB, too; one that they do not show yet has its entry in its journal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from jts_storage.backup.copying import StoreBackup
from jts_storage.backup.stores.mongo import MongoBackup
from jts_storage.unit_of_work.fence import Broken, Cut, Fence
from jts_storage.unit_of_work.participants import Stores

_ATTEMPTS = 5

log = logging.getLogger(__name__)

Made = tuple[MongoBackup, Sequence[StoreBackup]]


async def pinned(stores: Stores, make: Callable[[], Made]) -> tuple[Cut, list[StoreBackup]]:
    """Pin all stores at one cut.

    :param make: MongoDB and the other stores, not pinned yet; asked again for each attempt.
    :raises Conflict: another backup is being made, or commits stay undecided.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        mongo, others = make()
        every: list[StoreBackup] = [mongo, *others]
        try:
            return await _pinned_once(stores, mongo, others), every
        except Broken:
            await released(every)
            if attempt == _ATTEMPTS:
                raise
            log.info("The stores were not pinned at one moment; once more.", exc_info=True)
        except BaseException:
            await released(every)
            raise
    raise AssertionError("unreachable")


async def _pinned_once(stores: Stores, mongo: MongoBackup, others: Sequence[StoreBackup]) -> Cut:
    await asyncio.gather(*(each.prepare() for each in (mongo, *others)))
    fence = Fence(stores)
    async with fence.up() as cut:
        await mongo.pin_at(fence, cut)
        await asyncio.gather(*(each.pin() for each in others))
    return cut


async def released(backups: Sequence[StoreBackup]) -> None:
    """Give all views up; what cannot be given up is told to the log."""
    for outcome in await asyncio.gather(
        *(each.release() for each in backups), return_exceptions=True
    ):
        if isinstance(outcome, Exception):
            log.warning("A view of a store was not given up: %s", outcome)
