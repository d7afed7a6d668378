"""What the collections of the unit of work say of its health."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from jts_storage.errors import StorageError
from jts_storage.ports.health import Health
from jts_storage.unit_of_work.entries import Entry
from jts_storage.unit_of_work.participants import Stores


async def tell(stores: Stores, health: Health, *, within: float) -> bool:
    """Say what waits, is unfinished and damaged; return whether MongoDB answers, also for that.

    :param within: so many seconds. What takes longer is left out.
    """
    answers = False
    try:
        async with asyncio.timeout(within):
            if not await stores.mongo.health_check():
                return False
            pending = await _tell_of_waiting(stores, health)
            answers = True
            async for identity, damage in stores.inspection.damaged(pending):
                health.damaged_commits[str(identity)] = str(damage)
    except TimeoutError:
        pass
    except StorageError:
        return False
    return answers


async def _tell_of_waiting(stores: Stores, health: Health) -> Sequence[Entry]:
    """Say how many events wait and commits are unfinished; return the latter."""
    pending = await stores.journal.pending()
    health.waiting_events, health.parked_events = await stores.outbox.counts()
    if health.waiting_events:
        health.oldest_event = await stores.outbox.oldest()
    waiting, parked = await stores.deliveries.totals()
    health.waiting_for_subscriptions, health.parked_for_subscriptions = waiting, parked
    health.unfinished = len(pending)
    named = {name for entry in pending for name in entry.models}
    health.unknown_models = tuple(sorted(name for name in named if name not in stores.models))
    if pending:
        health.oldest = max(entry.age for entry in pending)
    return pending
