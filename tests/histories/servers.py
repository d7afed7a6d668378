"""The servers that all workers of a run share, and a network of its own for each worker."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from jts_storage import Storage, StorageSettings
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.testing.clickhouse_server import ServerProcess
from jts_storage.testing.fault_proxy import FaultProxy
from tests.histories.process import settings_of
from tests.histories.scene import MODELS

HOST = "127.0.0.1"


@dataclass
class Network:
    """One worker's ways to the servers, each of which can be cut."""

    urls: dict[str, str]
    proxies: dict[str, FaultProxy] = field(default_factory=dict)


class Servers:
    """MongoDB, ClickHouse (chDB behind its protocol) and SQLite or PostgreSQL, migrated."""

    def __init__(self, folder: Path, *, postgres: bool = False) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._with_postgres = postgres

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._mongod = stack.enter_context(LocalMongod.acquire(self.folder / "mongod"))
            self._clickhouse = stack.enter_context(
                ServerProcess(self.folder / "clickhouse", fsync=False)
            )
            self._postgres = (
                stack.enter_context(LocalPostgres.start()) if self._with_postgres else None
            )
            self.urls = self._urls(
                self._mongod.port,
                self._clickhouse.port,
                self._postgres.port if self._postgres else None,
            )
            asyncio.run(self._migrate())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def settings(self) -> StorageSettings:
        """The direct way, for whoever prepares a run and looks at its end."""
        return settings_of(self.urls, self.folder)

    def network(self) -> Network:
        targets = {"mongo": self._mongod.port, "clickhouse": self._clickhouse.port}
        if self._postgres is not None:
            targets["sql"] = self._postgres.port
        proxies = {
            name: self._stack.enter_context(FaultProxy(HOST, port))
            for name, port in targets.items()
        }
        sql = proxies.get("sql")
        urls = self._urls(
            proxies["mongo"].port, proxies["clickhouse"].port, sql.port if sql else None
        )
        return Network(urls, proxies)

    def _urls(self, mongo: int, clickhouse: int, sql: int | None) -> dict[str, str]:
        return {
            "mongo_url": f"mongodb://{HOST}:{mongo}/?directConnection=true",
            "clickhouse_url": f"clickhouse://{HOST}:{clickhouse}/default",
            "database_url": f"postgresql://postgres@{HOST}:{sql}/postgres"
            if sql is not None
            else f"sqlite:///{self.folder / 'bookkeeping.db'}",
        }

    async def _migrate(self) -> None:
        settings = self.settings.model_copy(update={"migrate": True})
        async with Storage.open(settings, models=MODELS):
            pass
