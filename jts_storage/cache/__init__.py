"""A cache of what is small and asked for often, in Redis or in the process, which is never stale
after a commit; see docs/how-to/use-the-cache.md.

Importing this loads no driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jts_storage.domain.rate_limits import PerDay, PerMinute, PerSecond, RateLimits
    from jts_storage.redis.manager import RedisManager
    from jts_storage.settings.redis import RedisConfig

__all__ = ["PerDay", "PerMinute", "PerSecond", "RateLimits", "RedisConfig", "RedisManager"]


def __getattr__(name: str) -> object:
    # Each from where it stands, and only when it is asked for.
    if name == "RedisManager":
        from jts_storage.redis.manager import RedisManager

        return RedisManager
    if name == "RedisConfig":
        from jts_storage.settings.redis import RedisConfig

        return RedisConfig
    if name in ("PerDay", "PerMinute", "PerSecond", "RateLimits"):
        from jts_storage.domain import rate_limits

        return getattr(rate_limits, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
