"""Clients of redis-py with bounds: as it comes, one waits 5 s for a server that hangs, repeats by
itself, and refuses the 101st caller."""

from __future__ import annotations

from typing import Any, Final

from redis.asyncio import (
    BlockingConnectionPool,
    Connection,
    ConnectionPool,
    Redis,
    SSLConnection,
)
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff

from jts_storage.domain.secret import plain
from jts_storage.settings.redis import RedisConfig

_CONNECT_SECONDS: Final = 1.0
"""Not the bound of a call, which may be longer than that of the configuration, but of closing."""


def connected(config: RedisConfig) -> list[Any]:
    """A client that connects when it is used, and what else is closed with it."""
    if config.kind == "cluster":
        return [_cluster(config)]
    if config.kind == "sentinel":
        return _sentinel(config)
    pool = BlockingConnectionPool(timeout=config.timeout, **_single(config))
    return [Redis.from_pool(pool)]


def bounded_elsewhere(config: RedisConfig) -> Any:
    """A client of a single server for whoever bounds its calls and their number; None for others.

    It takes two thirds of the time of the other one, which bounds each step of a call.
    """
    if config.kind != "single":
        return None
    connecting = max(config.timeout, _CONNECT_SECONDS)
    options = _single(config) | {"socket_timeout": None, "socket_connect_timeout": connecting}
    return Redis.from_pool(ConnectionPool(**options))


def _single(config: RedisConfig) -> dict[str, Any]:
    (host, port), *_ = config.nodes
    own = {
        "host": host,
        "port": port,
        "db": config.db,
        "connection_class": SSLConnection if config.tls else Connection,
        "max_connections": config.pool_size,
    }
    return own | _options(config) | _credentials(config) | _tls(config)


def _cluster(config: RedisConfig) -> Any:
    return RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in config.nodes],
        max_connections=config.pool_size,
        ssl=config.tls,
        **_options(config),
        **_credentials(config),
        **_tls(config),
    )


def _sentinel(config: RedisConfig) -> list[Any]:
    # Its pool waits for nobody: the manager lets no more callers in than there are connections.
    options = _options(config) | {"ssl": config.tls} | _tls(config)
    own: dict[str, Any] = {}
    if config.sentinel_password is not None:
        own["password"] = plain(config.sentinel_password)
    kind: Any = Sentinel
    sentinel = kind(list(config.nodes), sentinel_kwargs=options | own, **options)
    primary = sentinel.master_for(
        config.service, db=config.db, max_connections=config.pool_size, **_credentials(config)
    )
    return [primary, *sentinel.sentinels]


def _options(config: RedisConfig) -> dict[str, Any]:
    return {
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,  # nothing is pushed, so that an answer is always that of the question
    }


def _credentials(config: RedisConfig) -> dict[str, Any]:
    return {"username": config.username, "password": config.secret}


def _tls(config: RedisConfig) -> dict[str, Any]:
    if not config.tls:
        return {}
    return {
        "ssl_cert_reqs": "required" if config.verify else "none",
        "ssl_check_hostname": config.verify,
        "ssl_ca_certs": config.ca_file,
        "ssl_certfile": config.cert_file,
        "ssl_keyfile": config.key_file,
    }
