"""Redis servers of one test, which can be stopped, paused and started again at their place."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import redis

from jts_storage.local_servers.folder import free_port
from jts_storage.local_servers.redis import find_redis

_SECONDS = 30.0


class RestartedRedis:
    """A redis-server that keeps its port.

    :param keeps: whether it has an append-only file.
    :param options: further ones of its command line.
    """

    def __init__(
        self, folder: Path, *, keeps: bool = False, options: dict[str, str] | None = None
    ) -> None:
        self._folder, self._keeps, self._options = folder, keeps, options or {}
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, behind: RestartedRedis | None = None) -> None:
        """
        :param behind: the primary that it follows.
        """
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--dir": str(self._folder),
            "--save": "",
            "--appendonly": "yes" if self._keeps else "no",
        } | self._options
        if behind is not None:
            options["--replicaof"] = f"127.0.0.1 {behind.port}"
        self._run([part for option in options.items() for part in option])

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def _run(self, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [str(find_redis()), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with redis.Redis.from_url(self.url) as client:
            waited_for(lambda: _answers(client))


class Sentinel(RestartedRedis):
    """A sentinel that decides when the primary is gone, alone or with others.

    :param primary: what it watches, under the name ``main``.
    :param quorum: how many have to miss it.
    :param patience: for how many milliseconds one has to miss it.
    """

    def __init__(
        self, folder: Path, primary: RestartedRedis, *, quorum: int = 1, patience: int = 400
    ) -> None:
        super().__init__(folder)
        self._primary, self._quorum, self._patience_ms = primary, quorum, patience

    def start(self, behind: RestartedRedis | None = None) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder}",
            f"sentinel monitor main 127.0.0.1 {self._primary.port} {self._quorum}",
            f"sentinel down-after-milliseconds main {self._patience_ms}",
            "sentinel failover-timeout main 3000",
        ]
        file = self._folder / "sentinel.conf"
        file.write_text("\n".join(lines) + "\n")
        self._run([str(file), "--sentinel"])


def waited_for(is_so: Callable[[], bool], seconds: float = _SECONDS) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ConnectionError:
        return False
