"""A Redis that answers, and refuses what the cache needs."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
import redis

from jts_storage.cache import values
from jts_storage.cache.backend import Cache
from jts_storage.cache.sharing import RedisSharing
from tests.integration.redis.cached import cache_on


async def read(cache: Cache) -> int:
    async def ask() -> int:
        return 7

    return await cache.answers.get(("many series",), "n", ask, values.COUNT)


@pytest.fixture
def without_scripts(redis_url: str, redis_client: redis.Redis) -> Any:
    """The URL of a user who may do all but run scripts."""
    client: Any = redis_client
    client.execute_command(
        *("ACL", "SETUSER", "u", "on", ">secret", "~*", "+@all", "-eval", "-evalsha")
    )
    yield redis_url.replace("redis://", "redis://u:secret@")
    client.execute_command("ACL", "DELUSER", "u")


async def test_a_user_without_scripts_is_told_once_and_why(
    without_scripts: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jts_storage.cache")
    cache = cache_on(without_scripts)
    sharing = cache._sharing
    assert isinstance(sharing, RedisSharing)
    for _ in range(5):
        assert await read(cache) == 7
    assert cache.statistics().state == "away"
    # Its pause ends, and it is asked again.
    for _ in range(2):
        sharing._breaker._until = sharing._next_try = 0.0
        assert await read(cache) == 7
        assert sharing._waking is not None
        await asyncio.wait([sharing._waking])
        assert cache.statistics().state == "away"
    await cache.close()
    (record,) = caplog.records
    assert "may not do it" in record.getMessage() and "scripts" in record.getMessage()
    assert "secret" not in record.getMessage()


async def test_a_wrong_password_is_told_as_such(
    redis_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "jts_storage.cache")
    cache = cache_on(redis_url.replace("redis://", "redis://:wrong@"))
    for _ in range(5):
        assert await read(cache) == 7
    await cache.close()
    (record,) = caplog.records
    assert "password is wrong" in record.getMessage()
    assert "does not answer" not in record.getMessage()


async def test_a_user_who_may_not_ask_for_info_has_a_cache(
    redis_url: str, redis_client: redis.Redis
) -> None:
    client: Any = redis_client
    client.execute_command("ACL", "SETUSER", "i", "on", ">secret", "~*", "+@all", "-info")
    try:
        cache = cache_on(redis_url.replace("redis://", "redis://i:secret@"))
        for _ in range(2):
            assert await read(cache) == 7
        await cache.answers.settle(5)
        cache.answers.held.clear()
        assert await read(cache) == 7
        told = cache.statistics()
        assert (told.hits, told.shared_hits, told.errors) == (1, 1, 0)
        await cache.close()
    finally:
        client.execute_command("ACL", "DELUSER", "i")
