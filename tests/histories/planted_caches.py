"""Faults to be put into the cache of a worker by name; found only where there is a Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jts_storage.cache.writers import Writers
from tests.histories.planted import replaced


def _does_nothing(real: Any) -> Any:
    async def nothing(*given: Any, **named: Any) -> None:
        return None

    return nothing


def writers_that_tell_the_cache_nothing() -> None:
    """What was kept stays until it is `max_stale` old."""
    for name in ("_begin", "_renew", "_end"):
        replaced(Writers, name, _does_nothing)


PLANTED_CACHES: dict[str, Callable[[], None]] = {
    plant.__name__: plant for plant in (writers_that_tell_the_cache_nothing,)
}
