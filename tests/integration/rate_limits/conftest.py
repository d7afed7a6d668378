"""A Redis that can be stopped, paused and started again at its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from tests.redis_servers import RestartedRedis


@pytest.fixture
def restarted_redis(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> Iterator[Callable[..., RestartedRedis]]:
    made: list[RestartedRedis] = []

    def make(*, keeps: bool = False) -> RestartedRedis:
        folder = tmp_path / "redis"
        folder.mkdir()
        server = RestartedRedis(folder, keeps=keeps)
        made.append(server)
        server.start()
        with redis.Redis.from_url(server.url) as client:
            engine_used(f"Redis {client.info('server')['redis_version']}")
        return server

    yield make
    for server in made:
        server.kill()
