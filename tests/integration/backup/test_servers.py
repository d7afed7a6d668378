"""The same of servers: ClickHouse over TCP and PostgreSQL, whose files nobody can reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.testing.clickhouse_server import ClickHouseServer
from tests.integration.backup.filled import DAY, KEY, fill, fill_more
from tests.integration.backup.pairs import check_cut, seen
from tests.integration.backup.test_create_and_restore import everything
from tests.integration.backup.test_cut import taken


@pytest.fixture
def of_servers(
    settings: StorageSettings, tmp_path: Path, engine_used: Callable[[str], None]
) -> Iterator[Callable[[str], StorageSettings]]:
    """Settings by the name of databases on two servers."""
    with ClickHouseServer() as clickhouse, LocalPostgres.start() as postgres:
        engine_used(f"ClickHouse over TCP (chDB {clickhouse.version})")
        engine_used("PostgreSQL")

        def named(name: str) -> StorageSettings:
            url = f"clickhouse://{clickhouse.host}:{clickhouse.port}"
            _make_database(url, name)
            changes: dict[str, Any] = {
                "clickhouse_url": SecretStr(f"{url}/{name}"),
                "database_url": SecretStr(postgres.create_database(name)),
                "mongo_database": f"{settings.mongo_database}_{name}",
                "data_dir": tmp_path / name,
                "migrate": True,
            }
            return settings.model_copy(update=changes)

        yield named


def _make_database(url: str, name: str) -> None:
    from jts_storage.clickhouse.manager import ClickHouseManager

    with ClickHouseManager(url) as manager:
        manager.execute(f"CREATE DATABASE {name}")


@pytest.mark.slow
async def test_servers_are_backed_up_and_restored(
    of_servers: Callable[[str], StorageSettings], repository: Path
) -> None:
    """IT-INFRA-02: PostgreSQL by its pool, among the other stores."""
    settings, others = of_servers("one"), of_servers("two")
    async with Storage(StoreBackend(settings)) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        first = await manager.create_backup()
        assert not first.is_verified  # only where it is asked for
        await fill_more(storage)
        second = await manager.create_backup(verify=True)
        assert (second.status, second.is_verified) == ("success", True), second.faults
        assert second.new_objects < first.new_objects
        before = await everything(storage)
    async with Storage(StoreBackend(others)) as storage:
        await BackupManager(storage, repository).restore()
        assert await everything(storage) == before
        assert await storage.ingestion.symbol_bars.get(KEY.symbol, DAY) is not None
        for each in (settings, others):
            await storage.mongo.client.drop_database(each.mongo_database)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
async def test_backups_of_servers_are_cut_at_one_commit(
    of_servers: Callable[[str], StorageSettings], repository: Path
) -> None:
    settings, others = of_servers("one"), of_servers("two")
    async with Storage(StoreBackend(settings)) as storage:
        writers, found = await taken(storage, repository, 10)
    async with Storage(StoreBackend(others)) as restored:
        manager = BackupManager(restored, repository)
        for identity, version, acknowledged in found:
            await manager.restore(identity, replace=True)
            for writer, told in zip(writers, acknowledged, strict=True):
                check_cut(writer, await seen(restored, writer), version, told)
        for each in (settings, others):
            await restored.mongo.client.drop_database(each.mongo_database)
