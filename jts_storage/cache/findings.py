"""What `jts-storage check` finds wrong with the Redis of a cache."""

from __future__ import annotations

from typing import Final

from jts_storage.errors import StorageError
from jts_storage.ports.schema import Difference
from jts_storage.redis.health import MemoryReport
from jts_storage.redis.manager import RedisManager
from jts_storage.settings import StorageSettings

_POLICY: Final = "maxmemory-policy"


async def differences(settings: StorageSettings) -> list[Difference]:
    """Nothing where no Redis is used as a cache; that it is away is no more than a note."""
    config = settings.redis()
    if config is None or settings.cache not in ("auto", "redis"):
        return []
    async with RedisManager(config) as manager:
        try:
            report = await manager.memory()
        except StorageError as exc:
            return [
                Difference(
                    *("redis", "memory", "state", "told", "not known"),
                    remedy="see that Redis answers, and that its user may ask INFO",
                    warning=f"{exc}",
                    is_note=True,
                )
            ]
    return found_in(report, config.eviction, config.max_memory)


def found_in(report: MemoryReport, eviction: str, max_memory: str | None) -> list[Difference]:
    """
    :param eviction: what the settings want.
    """
    size = max_memory or "512mb"
    if not report.evicts:
        return [
            Difference(
                *("redis", _POLICY, "policy", "one that evicts", report.policy),
                remedy=f"CONFIG SET {_POLICY} {eviction}; CONFIG SET maxmemory {size}",
                warning="a full Redis then keeps nothing new.",
            )
        ]
    if not report.most:
        return [
            Difference(
                *("redis", "maxmemory", "bound", "set", "not set"),
                remedy=f"CONFIG SET maxmemory {size}",
                is_note=True,
            )
        ]
    return []
