"""Every contract of reading holds behind a cache, whatever becomes of its Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import redis

from jts_storage.cache.backend import Cache
from jts_storage.local_servers.redis import LocalRedis
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.testing.contracts import CandleRepositoryContract, SymbolRepositoryContract
from jts_storage.testing.fault_proxy import FaultProxy
from tests.contract.twin import symbols_at_once
from tests.integration.redis.cached import Twice, cache_on

Between = Callable[[], Awaitable[object]]

BY_DAY = ("warm",)
BY_NIGHT = ("local", "shared", "away", "hung", "full", "garbage", "evicting")
MODES = [*BY_DAY, *(pytest.param(mode, marks=pytest.mark.slow) for mode in BY_NIGHT)]


@pytest.fixture(params=MODES)
async def cached(
    request: pytest.FixtureRequest, redis_server: LocalRedis, redis_client: redis.Redis
) -> AsyncIterator[tuple[Cache, Between]]:
    """A cache, and what happens between two readings of the same."""
    mode: str = request.param
    proxy = FaultProxy(redis_server.host, redis_server.port)
    url: str | None = redis_server.url
    fields: dict[str, Any] = {}
    if mode == "local":
        url = None
    if mode == "away":
        url = "redis://127.0.0.1:1"
    if mode == "hung":
        proxy.start()
        url, fields = f"redis://127.0.0.1:{proxy.port}", {"timeout": 0.02}
    if mode == "full":
        redis_client.config_set("maxmemory-policy", "noeviction")
        redis_client.config_set("maxmemory", "3mb")
    cache = cache_on(url, **fields)

    async def between() -> None:
        await cache.answers.settle(5)
        if mode == "hung":
            proxy.faults.hang()
        if mode == "shared":
            cache.answers.held.clear()
        if mode == "garbage":
            cache.answers.held.clear()
            for key in redis_client.keys("*:v:*"):
                value = redis_client.get(key)
                assert isinstance(value, bytes)
                redis_client.set(key, value[:-9] + b"?" + value[-8:])
        if mode == "evicting":
            for key in redis_client.keys("*"):
                redis_client.delete(key)

    yield cache, between
    counted = cache.statistics()
    assert mode != "warm" or counted.bypassed == 0
    await cache.close()
    proxy.stop()


class TestCandles(CandleRepositoryContract):
    @pytest.fixture
    def candle_repository(self, cached: tuple[Cache, Between]) -> Any:
        return Twice(InMemoryBackend().candles, *cached)


class TestSymbols(SymbolRepositoryContract):
    @pytest.fixture
    def symbol_repository(self, cached: tuple[Cache, Between]) -> Any:
        return Twice(symbols_at_once(), *cached)
