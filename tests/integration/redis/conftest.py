"""A Redis of this process's tests, empty for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from jts_storage.local_servers.redis import LocalRedis
from jts_storage.testing.fault_proxy import FaultProxy


@pytest.fixture(scope="session")
def redis_server(engine_used: Callable[[str], None]) -> Iterator[LocalRedis]:
    server = LocalRedis.start()
    with redis.Redis.from_url(server.url) as client:
        engine_used(f"Redis {client.info('server')['redis_version']}")
    yield server
    server.stop()


@pytest.fixture
def redis_client(redis_server: LocalRedis) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url) as client:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.flushall()
        yield client


@pytest.fixture
def redis_url(redis_server: LocalRedis, redis_client: redis.Redis) -> str:
    return redis_server.url


@pytest.fixture
def redis_proxy(redis_server: LocalRedis, redis_client: redis.Redis) -> Iterator[FaultProxy]:
    with FaultProxy(redis_server.host, redis_server.port) as proxy:
        yield proxy
