"""Every store of rate limits keeps the contract, and so do limiters over them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from jts_storage import Storage, sync
from jts_storage.local_servers.redis import LocalRedis
from jts_storage.memory.rate_limits import InMemoryRateLimits
from jts_storage.ports.rate_limits import RateLimiter, RateLimitStore
from jts_storage.redis.rate_limits import RedisRateLimits, manager_for
from jts_storage.relational.rate_limits import SqliteRateLimits
from jts_storage.settings.redis import RedisConfig
from jts_storage.testing.contracts import RateLimiterContract, RateLimitStoreContract
from jts_storage.testing.contracts.rate_limiter import LIMITS
from jts_storage.testing.contracts.rate_limits import SetClock
from jts_storage.usecases.rate_limits import SharedRateLimiter
from tests.contract.blocking import AwaitableLimiter


@pytest.fixture(scope="module")
def redis_url(engine_used: Callable[[str], None]) -> Iterator[str]:
    server = LocalRedis.start()
    with redis.Redis.from_url(server.url) as client:
        engine_used(f"Redis {client.info('server')['redis_version']}")
    yield server.url
    server.stop()


class TestMemory(RateLimitStoreContract):
    @pytest.fixture
    def rate_limit_store(self, clock: SetClock) -> RateLimitStore:
        return InMemoryRateLimits(clock)


class TestSqlite(RateLimitStoreContract):
    @pytest.fixture
    async def rate_limit_store(
        self, clock: SetClock, tmp_path: Path
    ) -> AsyncIterator[RateLimitStore]:
        store = SqliteRateLimits(tmp_path / "new" / "limits.db", clock)
        yield store
        await store.close()


class TestRedis(RateLimitStoreContract):
    @pytest.fixture
    async def rate_limit_store(
        self, clock: SetClock, redis_url: str
    ) -> AsyncIterator[RateLimitStore]:
        store = RedisRateLimits(manager_for(RedisConfig(redis_url, timeout=10)), clock=clock.wall)
        await store.reset()
        yield store
        await store.close()


class TestLimiterInMemory(RateLimiterContract):
    @pytest.fixture
    def rate_limiter(self) -> SharedRateLimiter:
        return SharedRateLimiter(LIMITS, InMemoryRateLimits())


class TestLimiterOverSqlite(RateLimiterContract):
    @pytest.fixture
    async def rate_limiter(self, tmp_path: Path) -> AsyncIterator[SharedRateLimiter]:
        limiter = SharedRateLimiter(LIMITS, SqliteRateLimits(tmp_path / "limits.db"))
        yield limiter
        await limiter.close()


class TestLimiterOverRedis(RateLimiterContract):
    @pytest.fixture
    async def rate_limiter(self, redis_url: str) -> AsyncIterator[SharedRateLimiter]:
        limiter = SharedRateLimiter(
            LIMITS, RedisRateLimits(manager_for(RedisConfig(redis_url, timeout=10)))
        )
        await limiter.reset()
        yield limiter
        await limiter.close()


class TestBlockingTwin(RateLimiterContract):
    @pytest.fixture
    def rate_limiter(self) -> Iterator[Any]:
        with sync.Storage.in_memory(rate_limits=LIMITS) as storage:
            yield AwaitableLimiter(storage.rate_limits)


class TestStorageInMemory(RateLimiterContract):
    @pytest.fixture
    async def rate_limiter(self) -> AsyncIterator[RateLimiter]:
        async with Storage.in_memory(rate_limits=LIMITS) as storage:
            yield storage.rate_limits
