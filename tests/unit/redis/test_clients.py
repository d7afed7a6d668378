"""A client of each kind can be made, with bounds and without a connection."""

from __future__ import annotations

import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool

from jts_storage.redis.clients import bounded_elsewhere, connected
from jts_storage.redis.health import report_of
from jts_storage.settings import RedisConfig


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://:pw@h/2", BlockingConnectionPool),
        ("rediss://h", BlockingConnectionPool),
        ("redis+sentinel://:pw@a,b/main/2?sentinel_password=s", SentinelConnectionPool),
        ("rediss+sentinel://a/main", SentinelConnectionPool),
    ],
)
async def test_a_client_is_bounded_and_repeats_nothing(url: str, kind: type) -> None:
    config = RedisConfig(url, timeout=0.3)
    client, *more = connected(config)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, kind)
    given = pool.connection_kwargs
    assert (given["socket_timeout"], given["socket_connect_timeout"]) == (0.3, 0.3)
    assert given["retry"]._retries == 0
    assert (given["db"], given["password"]) == (config.db, config.secret)
    for each in (client, *more):
        await each.aclose()


async def test_a_client_of_a_cluster_is_made() -> None:
    config = RedisConfig("rediss+cluster://:pw@a:1,b:2", timeout=0.3)
    (client,) = connected(config)
    assert isinstance(client, RedisCluster)
    assert bounded_elsewhere(config) is None
    await client.aclose()


async def test_a_client_whose_calls_are_bounded_elsewhere_repeats_nothing_either() -> None:
    config = RedisConfig("rediss://me:pw@h/2", timeout=0.3, pool_size=3)
    client = bounded_elsewhere(config)
    pool = client.connection_pool
    assert type(pool) is ConnectionPool and pool.max_connections == 3
    given = pool.connection_kwargs
    assert (given["socket_timeout"], given["socket_connect_timeout"]) == (None, 1.0)
    assert given["retry"]._retries == 0
    assert (given["db"], given["username"], given["password"]) == (2, "me", "pw")
    assert given["ssl_cert_reqs"] == "required"
    await client.aclose()
    assert bounded_elsewhere(RedisConfig("redis+sentinel://a/main")) is None


def test_the_memory_of_nodes_is_added() -> None:
    node = {
        "used_memory": 10,
        "maxmemory": 40,
        "mem_fragmentation_ratio": 1.5,
        "evicted_keys": 3,
        "keyspace_hits": 6,
        "keyspace_misses": 2,
        "maxmemory_policy": "allkeys-lru",
    }
    one, two = report_of(node), report_of({"a:1": node, "b:2": node})
    assert (one.used, one.share, one.hit_rate, one.is_nearly_full) == (10, 0.25, 0.75, False)
    assert (two.used, two.most, two.evicted, two.policy) == (20, 80, 6, "allkeys-lru")
    assert report_of(node | {"used_memory": 34}).is_nearly_full
