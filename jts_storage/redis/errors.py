"""What Redis and its client report, as errors of the kit."""

from __future__ import annotations

from collections.abc import Sequence

from redis import exceptions

from jts_storage.errors import ConnectionFailed, StorageError

DRIVER_ERRORS = (exceptions.RedisError, OSError, TimeoutError)
"""What the client raises; `TimeoutError` is also what its bounds raise."""

_AWAY = (exceptions.ConnectionError, exceptions.TimeoutError, OSError, TimeoutError)
_BUSY = (exceptions.BusyLoadingError, exceptions.ReadOnlyError, exceptions.TryAgainError)
_NOT_NOW = ("NOREPLICAS", "MASTERDOWN", "READONLY")
"""What a server says that is, or was, on the wrong side of a failover."""


class RedisAway(ConnectionFailed):
    """Redis did not answer in time, or not at all."""

    repeatable = True


class RedisRefused(StorageError):
    """Redis answered that it will not do it."""


class RedisFull(RedisRefused):
    """Redis has no memory left and evicts nothing."""


def translate(exc: BaseException, *, doing: str, hosts: Sequence[str]) -> StorageError:
    """Return the kit's error for one of `DRIVER_ERRORS`; it never repeats a password."""
    where = ", ".join(hosts)
    if isinstance(exc, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return RedisRefused(
            f"Redis at {where} refused {doing}: its user or password is wrong, or may not do it.",
            remedy="Check JTS_REDIS_URL. Its user needs +@scripting +@read +@write +time +info on"
            " the keys of JTS_REDIS_NAMESPACE, for the scripts of the cache.",
        )
    if isinstance(exc, exceptions.OutOfMemoryError):
        return RedisFull(
            f"Redis at {where} is full ({doing}).",
            remedy="Give it more maxmemory, or a policy that evicts.",
        )
    if isinstance(exc, _AWAY + _BUSY) or str(exc).startswith(_NOT_NOW):
        why = str(exc) or "no answer in time"
        return RedisAway(
            f"Redis failed at {doing} (tried {where}): {why}",
            hosts=tuple(hosts),
            remedy="See whether Redis runs there; JTS_REDIS_URL or JTS_RATE_LIMITS_URL names it.",
        )
    return RedisRefused(f"Redis at {where} refused {doing}: {exc}")
