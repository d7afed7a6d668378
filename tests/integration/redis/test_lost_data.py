"""A Redis that is not as it was: begun anew with what it had, written to by others, not told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import redis

from jts_storage.cache import values
from jts_storage.cache.backend import Cache
from jts_storage.errors import ConnectionFailed
from jts_storage.testing.fault_proxy import FaultProxy
from tests.integration.redis.cached import FixedNotes, cache_on
from tests.redis_servers import RestartedRedis

SERIES = "candles AAPL/1m"
SCOPES = (SERIES, "many series")


class Number:
    """A database of one number."""

    def __init__(self) -> None:
        self.stored = self.asked = 0

    async def ask(self) -> int:
        self.asked += 1
        return self.stored

    async def read(self, cache: Cache) -> int:
        found = await cache.answers.get(SCOPES, "number", self.ask, values.COUNT)
        await cache.answers.settle(5)
        return found


@pytest.fixture
def number() -> Number:
    return Number()


async def test_a_redis_that_begins_anew_with_what_it_had_gives_nothing_of_before(
    number: Number, tmp_path: Path
) -> None:
    """Its file may lack the last second, and with it that somebody wrote."""
    server = RestartedRedis(tmp_path, keeps=True, options={"--appendfsync": "always"})
    server.start()
    cache = cache_on(server.url)
    try:
        assert [await number.read(cache) for _ in range(2)] == [0, 0]
        assert number.asked == 1
        server.kill()
        number.stored = 1
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert len(list(client.scan_iter("*:g:*"))) == 2, "the generations are there"
            assert client.exists(*client.keys("*:v:*number")), "and so is the value"
        async with asyncio.timeout(30):
            while cache.statistics().state != "ready" or cache.statistics().misses < 2:
                assert await number.read(cache) == 1
                await asyncio.sleep(0.01)
    finally:
        await cache.close()
        server.kill()


@pytest.mark.parametrize("scope", ["v", "g", "w"])
async def test_what_another_program_left_at_a_key_is_nothing(
    redis_url: str, redis_client: redis.Redis, number: Number, scope: str
) -> None:
    cache = cache_on(redis_url)
    await number.read(cache)
    (prefix,) = {key.split(b":g:")[0] for key in redis_client.scan_iter("*:g:*")}
    key = prefix + f":{scope}:{SERIES}{':number' if scope == 'v' else ''}".encode()
    for _ in range(4):
        redis_client.delete(key)
        redis_client.rpush(key, "of", "another")
        cache.answers.held.clear()
        assert await number.read(cache) == number.stored
        redis_client.delete(key)
        redis_client.rpush(key, "of", "another")
        async with cache.writing([SERIES], symbols=False):
            number.stored += 1
        assert [await number.read(cache) for _ in range(2)] == [number.stored] * 2
    told = cache.statistics()
    assert (told.state, told.errors, told.unannounced_writes) == ("ready", 0, 0)
    assert told.hits >= 4
    await cache.close()


async def test_a_value_that_never_ends_is_given_for_no_longer_than_it_may_be_stale(
    redis_url: str, redis_client: redis.Redis, number: Number
) -> None:
    """As after PERSIST, and where another process allows more, or its clock was set back."""
    cache, short = cache_on(redis_url, max_stale=3_600), cache_on(redis_url, max_stale=5)
    assert await number.read(cache) == 0
    (key,) = redis_client.scan_iter("*:v:*number")
    kept: Any = redis_client.get(key)
    token = kept[1 : -len(values.packed(b"", 0, b"0")) + 1]
    (_, at) = values.unpacked(token, kept, values.COUNT)
    redis_client.set(key, values.packed(token, at - 5_000, b"0"))
    number.stored = 1
    another = cache_on(redis_url, max_stale=3_600)
    assert await number.read(another) == 0
    assert await number.read(short) == 1
    assert (short.statistics().unusable, another.statistics().unusable) == (1, 0)
    for each in (cache, short, another):
        await each.close()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jts_storage.cache.sharing._PAUSE", 0.02)


async def test_a_process_that_only_writes_tells_what_redis_has_missed(
    redis_url: str,
    redis_client: redis.Redis,
    redis_proxy: FaultProxy,
    number: Number,
    soon: None,
) -> None:
    """It has no reads by which it would see that Redis is there again."""
    reader = cache_on(redis_url, max_stale=3_600)
    writer = cache_on(f"redis://127.0.0.1:{redis_proxy.port}", max_stale=3_600)
    assert await number.read(reader) == 0
    redis_proxy.faults.refuse()
    async with writer.writing([SERIES], symbols=False):
        number.stored = 1
    assert writer.statistics().untold == 2
    assert await number.read(reader) == 0, "the window that was counted"
    redis_proxy.faults.clear()
    async with asyncio.timeout(30):
        while await number.read(reader) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while writer.statistics().untold:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await reader.close()
    await writer.close()


async def test_closing_does_not_wait_for_a_redis_that_was_not_told(
    redis_client: redis.Redis, redis_proxy: FaultProxy
) -> None:
    writer = cache_on(f"redis://127.0.0.1:{redis_proxy.port}")
    redis_proxy.faults.refuse()
    before = asyncio.all_tasks()
    async with writer.writing([SERIES], symbols=False):
        pass
    await writer.close()
    assert asyncio.all_tasks() == before


class FailingNotes(FixedNotes):
    """Of a MongoDB that is away."""

    async def add(self, names: Any, everything: Any) -> None:
        raise ConnectionFailed("away", hosts=())


async def test_what_cannot_be_noted_is_told_by_the_process_that_knows_it(
    redis_url: str,
    redis_client: redis.Redis,
    redis_proxy: FaultProxy,
    number: Number,
    soon: None,
) -> None:
    reader = cache_on(redis_url, max_stale=3_600)
    writer = cache_on(f"redis://127.0.0.1:{redis_proxy.port}", max_stale=3_600)
    writer.belongs_to(FailingNotes())
    await number.read(writer)
    assert await number.read(reader) == 0
    redis_proxy.faults.refuse()
    async with writer.writing([SERIES], symbols=False):
        number.stored = 1
    redis_proxy.faults.clear()
    assert await number.read(writer) == 1, "Redis answers again, and is not told yet"
    async with asyncio.timeout(30):
        while await number.read(reader) == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await reader.close()
    await writer.close()
