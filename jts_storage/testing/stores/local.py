"""Servers that run on this machine without Docker."""

from __future__ import annotations

from pathlib import Path

from jts_storage.embedded.mongod import LocalMongod
from jts_storage.testing.local_postgres import LocalPostgres


class Mongod:
    """A share in the mongod of a folder: every process with one uses the same server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._share: LocalMongod | None = None

    def start(self) -> str:
        self._share = LocalMongod.acquire(self._folder)
        return self._share.uri

    def stop(self) -> None:
        if self._share is not None:
            self._share.release()


class Postgres:
    """A PostgreSQL of this process alone."""

    def __init__(self) -> None:
        self._server: LocalPostgres | None = None

    def start(self) -> str:
        self._server = LocalPostgres.start()
        return self._server.dsn

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
