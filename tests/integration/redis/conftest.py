"""A Redis of this process's tests, empty for each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from jts_storage.local_servers.redis import LocalRedis
from jts_storage.testing.fault_proxy import FaultProxy
from tests.redis_servers import RestartedRedis, Sentinel, waited_for


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


@dataclass
class Sentinels:
    """A primary, its replica, and a sentinel that puts the one in the place of the other."""

    primary: RestartedRedis
    replica: RestartedRedis
    sentinel: Sentinel

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/main/0"

    def primary_now(self) -> int:
        """The port of what the sentinel calls the primary."""
        with redis.Redis.from_url(self.sentinel.url) as client:
            told: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")
        return int(told[1])

    def fail_over(self) -> None:
        """Kill the primary and wait for the sentinel."""
        self.primary.kill()
        waited_for(lambda: self.primary_now() == self.replica.port)

    def start(self) -> None:
        for server in (self.primary, self.replica):
            server.start()
        with redis.Redis.from_url(self.replica.url) as client:
            waited_for(lambda: client.info("replication")["master_link_status"] == "up")
        self.sentinel.start()
        with redis.Redis.from_url(self.sentinel.url) as client:
            waited_for(lambda: bool(client.execute_command("SENTINEL", "REPLICAS", "main")))

    def stop(self) -> None:
        for server in (self.sentinel, self.primary, self.replica):
            server.kill()


@pytest.fixture
def sentinels(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[Sentinels]:
    folders = [tmp_path / name for name in ("primary", "replica", "sentinel")]
    for folder in folders:
        folder.mkdir()
    quick = {"--repl-diskless-sync-delay": "0"}
    primary = RestartedRedis(folders[0], options=quick)
    follows = quick | {"--replicaof": f"127.0.0.1 {primary.port}"}
    replica = RestartedRedis(folders[1], options=follows)
    made = Sentinels(primary, replica, Sentinel(folders[2], primary))
    try:
        made.start()
        with redis.Redis.from_url(primary.url) as client:
            engine_used(f"Redis {client.info('server')['redis_version']}")
        yield made
    finally:
        made.stop()
