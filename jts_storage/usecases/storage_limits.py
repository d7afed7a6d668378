"""The rate limits of a storage, made when they are first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from jts_storage.ports.health import Health

if TYPE_CHECKING:
    from jts_storage.usecases.rate_limits import SharedRateLimiter


class StorageLimits:
    """:param make: makes them; nothing is opened by that."""

    def __init__(self, make: Callable[[], SharedRateLimiter]) -> None:
        self._make = make
        self._made: SharedRateLimiter | None = None

    def get(self) -> SharedRateLimiter:
        if self._made is None:
            self._made = self._make()
        return self._made

    async def with_health(self, stores: Awaitable[Health]) -> Health:
        """The health of the stores, and what counts of the limits that are used here."""
        if self._made is None:
            return await stores
        health, states = await asyncio.gather(stores, self._made.told())
        health["rate_limits"], health.rate_limits = states is not None, states or ()
        return health

    async def close(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await made.close()
