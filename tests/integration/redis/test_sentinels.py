"""A primary that dies, and a replica that takes its place: real servers, and a real sentinel."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
import redis

from jts_storage.cache import values
from jts_storage.cache.backend import Cache
from jts_storage.domain.rate_books import Granted, Refused, SlotRequest
from jts_storage.domain.rate_limits import SECOND, LimitKey, PerMinute, PerSecond
from jts_storage.errors import ConnectionFailed
from jts_storage.redis.rate_limits import RedisRateLimits, manager_for
from jts_storage.settings.redis import RedisConfig
from tests.integration.rate_limits.broker import Broker, worst_window
from tests.integration.redis.cached import cache_on
from tests.integration.redis.conftest import Sentinels

SERIES = "candles AAPL/1m"
SCOPES = (SERIES, "many series")


class Database:
    """A number; of its commits, the last that was acknowledged and announced to its end."""

    def __init__(self) -> None:
        self.stored = self.announced = 0

    async def ask(self) -> int:
        found = self.stored
        await asyncio.sleep(0.001)
        return found

    async def write(self, cache: Cache) -> None:
        untold = cache.counters.unannounced_writes
        async with cache.writing([SERIES], symbols=False):
            number = self.stored + 1
            await asyncio.sleep(0.001)
            self.stored = number
        if cache.counters.unannounced_writes == untold:
            self.announced = number

    async def read(self, cache: Cache) -> int:
        least = self.announced
        found = await cache.answers.get(SCOPES, "number", self.ask, values.COUNT)
        assert found >= least, f"{found} was read, and {least} was announced before"
        return found


@pytest.mark.slow
async def test_a_cache_goes_on_over_a_failover(sentinels: Sentinels) -> None:
    """IT-INFRA-03

    Reads never fail and are never stale but for what was counted, and it is used again.
    """
    reader, writer = (cache_on(sentinels.url, timeout=0.5) for _ in range(2))
    database, longest, goes_on = Database(), 0.0, True

    async def write() -> None:
        while goes_on:
            await database.write(writer)
            await asyncio.sleep(0.05)

    async def read() -> None:
        nonlocal longest
        while goes_on:
            begun = time.monotonic()
            await database.read(reader)
            longest = max(longest, time.monotonic() - begun)
            await asyncio.sleep(0.001)

    tasks = [asyncio.create_task(each()) for each in (write, read, read)]
    async with asyncio.timeout(60):
        while reader.statistics().hits < 50:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.to_thread(sentinels.fail_over)
        before = reader.statistics()
        while (told := reader.statistics()).hits < before.hits + 50 or told.state != "ready":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        while writer.statistics().untold:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    goes_on = False
    await asyncio.gather(*tasks)
    assert longest < 10, "a read waits for a bounded time"
    assert told.errors < 50, "Redis is left alone while it is away"
    for cache in (reader, writer):
        await cache.close()


async def test_a_replica_that_lacks_the_end_of_a_write_gives_nothing_old(
    sentinels: Sentinels,
) -> None:
    """It has the value and the generations of before the write; and so has the reader."""
    reader, other, writer = (cache_on(sentinels.url) for _ in range(3))
    database = Database()
    for cache in (reader, other):
        assert await database.read(cache) == 0
        await cache.answers.settle(5)
    with redis.Redis.from_url(sentinels.primary.url) as client:
        client.wait(1, 5_000)  # for the replica
    with redis.Redis.from_url(sentinels.replica.url) as client:
        client.replicaof("127.0.0.1", "1")  # which is nowhere: it hears of nothing any more
    await database.write(writer)
    assert database.announced == 1
    with redis.Redis.from_url(sentinels.replica.url) as client:
        assert len(list(client.scan_iter("*:g:*"))) == 2, "it knows the generations of before"
        assert len(list(client.scan_iter("*:v:*number"))) == 1
        client.replicaof("NO", "ONE")
    other.answers.held.clear()
    for cache in (reader, other):
        promoted = cache_on(sentinels.replica.url)
        promoted.answers.held = cache.answers.held
        assert await database.read(promoted) == 1
        await promoted.close()
    for cache in (reader, other, writer):
        await cache.close()


async def test_rate_limits_are_not_free_after_a_failover(sentinels: Sentinels) -> None:
    key, limits = LimitKey("kis"), (PerSecond(3), PerMinute(9))
    store = RedisRateLimits(manager_for(RedisConfig(sentinels.url, timeout=5)))
    await store.reset()
    for name in "abc":
        assert isinstance(await store.take(SlotRequest(key, limits, name, 1, 30)), Granted)
    await asyncio.to_thread(sentinels.fail_over)
    begun = time.monotonic()
    answer = None
    while not isinstance(answer, Refused):
        assert time.monotonic() - begun < 30
        try:
            answer = await store.take(SlotRequest(key, limits, "d", 1, 30))
        except ConnectionFailed:
            await asyncio.sleep(0.05)
    assert answer.wait > 55 * SECOND, "the minute that the new one does not know of has to pass"
    await store.close()


@pytest.mark.slow
def test_a_broker_sees_no_more_than_the_limit_over_a_failover(
    sentinels: Sentinels, tmp_path: Path
) -> None:
    broker = Broker(tmp_path / "arrivals", sentinels.url, delay=0.1, clients=8)
    try:
        broker.start(seconds=60, count=2)
        broker.wait_for(20)
        sentinels.fail_over()
        broker.wait_for(len(broker.times()) + 30)
    finally:
        broker.kill()
        for process in broker.processes:
            process.wait(10)
    assert worst_window(broker.times()) <= 15
