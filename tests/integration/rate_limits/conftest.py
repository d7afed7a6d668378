"""A Redis that can be stopped, paused and started again at its place."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from jts_storage.local_servers.folder import free_port
from jts_storage.local_servers.redis import find_redis


class RestartedRedis:
    """A redis-server of one test, which keeps its port.

    :param keeps: whether it has an append-only file.
    """

    def __init__(self, folder: Path, *, keeps: bool = False) -> None:
        self._folder, self._keeps = folder, keeps
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self._port),
            "--dir": str(self._folder),
            "--save": "",
            "--appendonly": "yes" if self._keeps else "no",
        }
        flat = [part for option in options.items() for part in option]
        self._process = subprocess.Popen(
            [str(find_redis()), *flat], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 30
        with redis.Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.exceptions.ConnectionError:
                    assert time.monotonic() < end
                    time.sleep(0.02)

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None


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
        if server._process is not None:
            server.signal(signal.SIGCONT)
        server.kill()
