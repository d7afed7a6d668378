"""When answers are kept again after a write, and what becomes of marks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis

from jts_storage.cache import values
from jts_storage.cache.backend import Cache
from jts_storage.cache.writers import LANDING_SECONDS
from jts_storage.errors import ConnectionFailed, StorageError
from tests.integration.redis.cached import cache_on

SERIES = "candles AAPL/1m"


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Cache]:
    made = cache_on(redis_url)
    yield made
    await made.close()


async def kept(cache: Cache) -> bool:
    """Whether the second of two reads asks nobody."""
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        return 7

    scopes = (SERIES, "many series")
    for _ in range(2):
        assert await cache.answers.get(scopes, "n", ask, values.COUNT) == 7
    return asked < 2


async def test_answers_are_kept_again_as_soon_as_a_write_has_ended(
    cache: Cache, redis_client: redis.Redis
) -> None:
    assert await kept(cache)
    async with cache.writing([SERIES], symbols=True):
        assert not await kept(cache)
        assert len(list(redis_client.scan_iter("*:w:*"))) == 3, "the series, candles, symbols"
    assert await kept(cache)
    assert list(redis_client.scan_iter("*:w:*")) == []


async def test_of_two_writers_each_has_its_mark(cache: Cache) -> None:
    async with cache.writing([SERIES], symbols=False):
        async with cache.writing([SERIES], symbols=False):
            pass
        assert not await kept(cache), "the first one writes still"
    assert await kept(cache)


async def test_a_write_of_many_series_is_one_of_each(cache: Cache) -> None:
    assert await kept(cache)
    async with cache.writing(None, symbols=False):
        assert not await kept(cache)
    async with cache.writing(["candles MSFT/1m"], symbols=True):
        assert await kept(cache), "another series is written"
    async with cache.writing([], symbols=False):
        assert await kept(cache), "nothing is written"


async def test_what_a_failed_writer_sent_has_time_to_land(
    cache: Cache, redis_client: redis.Redis
) -> None:
    with pytest.raises(StorageError, match="half"):
        async with cache.writing([SERIES], symbols=False):
            raise StorageError("half")
    assert not await kept(cache)
    (mark,) = redis_client.scan_iter(f"*:w:{SERIES}")
    moment: Any = redis_client.time()
    seconds, microseconds = moment
    marks: Any = redis_client.zrange(mark, 0, -1, withscores=True)
    ((_, until),) = marks
    left = until / 1000 - (seconds + microseconds / 1_000_000)
    assert LANDING_SECONDS - 4 < left <= LANDING_SECONDS


async def test_a_mark_ends_with_its_lease(redis_url: str, redis_client: redis.Redis) -> None:
    cache = cache_on(redis_url)
    block = cache.writing([SERIES], symbols=False)
    await block.__aenter__()
    assert not await kept(cache)
    (mark,) = redis_client.scan_iter(f"*:w:{SERIES}")
    marks: Any = redis_client.zrange(mark, 0, -1, withscores=True)
    ((writer, _),) = marks
    redis_client.zadd(mark, {writer: 1.0})  # long ago
    assert await kept(cache)
    await block.__aexit__(None, None, None)
    await cache.close()


async def test_the_mark_of_a_writer_that_died_does_not_stay_for_ever(
    redis_url: str, redis_client: redis.Redis
) -> None:
    """Also one of a series that nobody reads, whose leases nobody ends."""
    cache = cache_on(redis_url, lease=7.0)
    async with cache.writing([SERIES], symbols=True):
        lasts = [int(str(redis_client.pttl(key))) for key in redis_client.scan_iter("*:w:*")]
    assert len(lasts) == 3
    assert all(0 < each <= 7_000 for each in lasts)
    await cache.close()


async def test_an_end_that_redis_did_not_hear_is_counted(
    cache: Cache, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark may be gone by then, so that readers kept what was there before."""
    assert await kept(cache)
    sharing = cache._sharing
    assert sharing is not None

    async def lost(*_: object) -> None:
        raise ConnectionFailed("lost", hosts=())

    async with cache.writing([SERIES], symbols=False):
        redis_client.flushall()
        assert await kept(cache)
        monkeypatch.setattr(sharing._coherence, "end", lost)
    told = cache.statistics()
    assert told.unannounced_writes == 1 and told.untold


async def test_a_write_that_takes_long_renews_its_mark(
    redis_url: str, redis_client: redis.Redis
) -> None:
    cache = cache_on(redis_url, lease=1.0)
    async with cache.writing([SERIES], symbols=False):
        (mark,) = redis_client.scan_iter(f"*:w:{SERIES}")
        redis_client.delete(mark)
        async with asyncio.timeout(30):
            while not redis_client.exists(mark):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    assert not redis_client.exists(mark)
    assert await kept(cache)
    await cache.close()


async def test_a_thousand_readers_are_one_read(cache: Cache) -> None:
    asked = 0

    async def ask() -> int:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        return 7

    scopes = (SERIES, "many series")
    readers = (cache.answers.get(scopes, "n", ask, values.COUNT) for _ in range(1_000))
    assert await asyncio.gather(*readers) == [7] * 1_000
    assert asked == 1
