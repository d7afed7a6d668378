"""A ClickHouse database of the tests."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from jts_storage import migrate
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.settings import ClickHouseConfig
from jts_storage.settings.storage import named_migrations
from jts_storage.testing.address import Address
from jts_storage.testing.stores.base import (
    BOOKS_OF_MIGRATIONS,
    Server,
    ServerStore,
    faults_of,
    proxied,
)

_DIRTY_TABLES = (
    "SELECT DISTINCT table FROM system.parts WHERE database = currentDatabase() AND active"
)
_MERGE_TREES = (
    "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'"
)


class ClickHouseStore(ServerStore):
    """A ClickHouse database, embedded or on a server."""

    def __init__(self, server: Server, database: str = "") -> None:
        super().__init__(server, database)
        self._config: ClickHouseConfig | None = None
        self._manager: ClickHouseManager | None = None

    @property
    def config(self) -> ClickHouseConfig:
        assert self._config is not None, "prepare() comes first"
        return self._config

    @property
    def url(self) -> str:
        return self.config.url.render_as_string(hide_password=False)

    @property
    def database(self) -> str:
        return self.config.database

    def prepare(self) -> None:
        config = ClickHouseConfig.from_url(self._url)
        self._config = replace(config, database=self._database or config.database)
        if not config.is_embedded:
            _create_clickhouse_database(self._config)
        # It stays connected: the embedded engine lives as long as one connection does.
        self._manager = ClickHouseManager(self._config, pool_size=2, idle_check=3600).connect()
        self._closing.callback(self._manager.close)
        databases = migrate.Databases(clickhouse=self._manager, service=named_migrations())
        asyncio.run(migrate.up(databases))

    def clean(self) -> None:
        assert self._manager is not None, "prepare() comes first"
        cluster = self.config.cluster
        on_cluster = f" ON CLUSTER {_backquoted(cluster)}" if cluster else ""
        for (name,) in self._manager.execute(_MERGE_TREES if cluster else _DIRTY_TABLES):
            if not name.startswith(BOOKS_OF_MIGRATIONS):
                self._manager.execute(f"TRUNCATE TABLE {_backquoted(name)}{on_cluster}")

    def break_off(self) -> None:
        """Nothing: ClickHouse keeps no locks for a client that is gone."""

    def _served(self) -> Address:
        from jts_storage.testing.clickhouse_server import ClickHouseServer

        config = self.config
        assert config.embedded_path is not None
        server = ClickHouseServer(
            config.embedded_path, database=config.database, fsync=config.fsync
        )
        self._closing.enter_context(server)
        return Address(
            url=f"clickhouse://default@{server.host}:{server.port}/{config.database}",
            host=server.host,
            port=server.port,
            database=config.database,
            user="default",
            _faults=server.faults,
            _open_connections=lambda: server.open_connections,
        )

    def _proxied(self) -> Address:
        config = self.config
        if config.is_embedded:
            return self._served()
        proxy = proxied(config.host, config.port, self._closing, secure=config.secure)
        if proxy is not None:
            config = replace(config, host=proxy.host, port=proxy.port, alt_hosts=())
        return Address(
            url=config.url.render_as_string(hide_password=False),
            host=config.host,
            port=config.port,
            database=config.database,
            user=config.user,
            password=config.password,
            **faults_of(proxy),
        )


def _create_clickhouse_database(config: ClickHouseConfig) -> None:
    on_cluster = f" ON CLUSTER {_backquoted(config.cluster)}" if config.cluster else ""
    with ClickHouseManager(config, database="default", pool_size=1) as manager:
        name = _backquoted(config.database)
        manager.execute(f"CREATE DATABASE IF NOT EXISTS {name}{on_cluster}")


def _backquoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
