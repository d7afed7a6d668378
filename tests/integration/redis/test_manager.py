"""The door to Redis: lazy, bounded, one client an event loop."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
import redis
from redis.asyncio import BlockingConnectionPool

from jts_storage.cache import RedisConfig, RedisManager
from jts_storage.redis.breaker import Breaker
from jts_storage.redis.errors import RedisAway, RedisFull, RedisRefused
from jts_storage.redis.scripts import Script
from jts_storage.testing.fault_proxy import FaultProxy

NOWHERE = "redis://127.0.0.1:1/0"


async def test_ut_infra_03_1_the_client_is_made_with_proper_settings(redis_url: str) -> None:
    """UT-INFRA-03.1: a connection with the settings of the configuration, when it is needed."""
    async with RedisManager(redis_url, timeout=0.5, pool_size=7) as manager:
        client = manager.get_cache_client()
        pool = client.connection_pool
        assert isinstance(pool, BlockingConnectionPool)
        assert pool.max_connections == 7
        assert pool.connection_kwargs["socket_timeout"] == 0.5
        assert pool.connection_kwargs["socket_connect_timeout"] == 0.5
        assert pool.connection_kwargs["retry"]._retries == 0
        assert await client.set("a", b"1")
        assert await client.get("a") == b"1"
        assert manager.get_cache_client() is client
        assert await manager.health_check()


async def test_nothing_is_opened_before_it_is_used() -> None:
    async with RedisManager(NOWHERE) as manager:
        manager.get_cache_client()  # connects when it is first used
        assert not await manager.health_check()


async def test_more_callers_than_connections_wait(redis_url: str) -> None:
    async with RedisManager(redis_url, pool_size=2, timeout=5.0) as manager:
        answers = await asyncio.gather(
            *(manager.run("INCR", lambda client: client.incr("n")) for _ in range(300))
        )
    assert sorted(answers) == list(range(1, 301))


async def test_a_child_process_opens_its_own(redis_url: str) -> None:
    manager = RedisManager(redis_url, timeout=5.0)
    parents = manager.get_cache_client()
    assert await parents.set("a", b"1")
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, b"own" if not manager._opened else b"shared")
        os._exit(0)
    os.waitpid(child, 0)  # noqa: ASYNC222
    assert os.read(read, 10) == b"own"
    assert await parents.get("a") == b"1"
    await manager.close()


def test_each_event_loop_has_its_client(redis_url: str) -> None:
    manager = RedisManager(redis_url, timeout=5.0)

    async def use() -> object:
        client = manager.get_cache_client()
        await client.ping()
        await manager.close()
        return client

    assert asyncio.run(use()) is not asyncio.run(use())


async def test_a_hung_redis_is_given_up_in_time(redis_proxy: FaultProxy) -> None:
    url = f"redis://127.0.0.1:{redis_proxy.port}/0"
    async with RedisManager(url) as manager:
        await manager.run("PING", lambda client: client.ping(), timeout=5)
        redis_proxy.faults.hang()
        breaker, asked = Breaker(), 0

        async def ask(client: redis.asyncio.Redis) -> object:
            nonlocal asked
            asked += 1
            return await client.ping()

        begun = time.monotonic()
        for _ in range(10):
            with pytest.raises(RedisAway):
                await manager.run("PING", ask, breaker=breaker)
        assert asked == 3, "once it is open, nobody asks"
        assert time.monotonic() - begun < 30
        assert not await manager.health_check()


async def test_errors_are_the_kits(redis_url: str, redis_client: redis.Redis) -> None:
    redis_client.set("text", "x")
    async with RedisManager(redis_url, timeout=5.0) as manager:
        with pytest.raises(RedisRefused, match="INCR"):
            await manager.run("INCR", lambda client: client.incr("text"))
        redis_client.config_set("maxmemory-policy", "noeviction")
        redis_client.config_set("maxmemory", 1)
        with pytest.raises(RedisFull):
            await manager.run("SET", lambda client: client.set("a", b"1"))
    async with RedisManager("redis://me:s3cret@127.0.0.1:1") as away:
        with pytest.raises(RedisAway) as caught:
            await away.run("PING", lambda client: client.ping())
        assert "s3cret" not in f"{caught.value} {away!r}"


async def test_memory_and_eviction(redis_url: str, redis_client: redis.Redis) -> None:
    config = RedisConfig(redis_url, max_memory="64mb", eviction="allkeys-lfu", timeout=5.0)
    async with RedisManager(config) as manager:
        before = await manager.memory()
        assert (before.most, before.share, before.is_nearly_full) == (0, None, False)
        after = await manager.configure_eviction()
        assert (after.most, after.policy, after.evicts) == (64 * 2**20, "allkeys-lfu", True)
        assert 0 < after.used < after.most
        assert redis_client.config_get("maxmemory")["maxmemory"] == str(64 * 2**20)


async def test_a_script_that_redis_has_forgotten_is_sent_again(
    redis_url: str, redis_client: redis.Redis
) -> None:
    script = Script("return {KEYS[1], ARGV[1]}")
    async with RedisManager(redis_url, timeout=5.0) as manager:
        for _ in range(2):
            redis_client.script_flush()
            for _ in range(2):
                found = await manager.run("a script", lambda client: script(client, ["k"], 7))
                assert found == [b"k", b"7"]
