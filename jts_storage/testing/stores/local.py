"""Servers that run on this machine without Docker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.local_servers.redis import LocalRedis

if TYPE_CHECKING:
    from jts_storage.testing.stores.base import Server


class Early:
    """A server that begins to start at once, in a thread, while drivers are being imported."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._thread = ThreadPoolExecutor(1, "jts-tests-start")
        self._url = self._thread.submit(server.start)
        self._thread.shutdown(wait=False)

    def start(self) -> str:
        return self._url.result()

    def stop(self) -> None:
        self._url.exception()  # waits for the start; its error was raised by start()
        self._server.stop()


class Mongod:
    """A share in the mongod of a folder: every process with one uses the same server."""

    def __init__(self, folder: Path) -> None:
        # What its start needs, here: two threads that import one library at once can fail.
        import pymongo.errors  # noqa: F401

        self._folder = folder
        self._share: LocalMongod | None = None

    def start(self) -> str:
        self._share = LocalMongod.acquire(self._folder)
        return self._share.uri

    def stop(self) -> None:
        if self._share is not None:
            self._share.release()


class Redis:
    """A Redis of this process alone."""

    def __init__(self) -> None:
        self._server: LocalRedis | None = None

    def start(self) -> str:
        self._server = LocalRedis.start()
        return self._server.url

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()


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
