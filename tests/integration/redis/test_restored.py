"""After a restore no cache answers with what was stored before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager
from jts_storage.errors import StorageError
from jts_storage.testing.factories import make_symbol
from tests.integration.redis.test_cached_storage import (
    DAY,
    ENDS,
    HIGHER,
    KEY,
    counted,
    everything,
    uncached,
)


@pytest.fixture
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups") / "repository"


@asynccontextmanager
async def opened(settings: StorageSettings, url: str | None) -> AsyncIterator[Storage]:
    changes: dict[str, Any] = {"cache": "auto" if url else "off"}
    if url is not None:
        changes |= {"redis_url": SecretStr(url), "redis": {"timeout": 5.0}}
    known = StorageSettings(**settings.model_dump() | changes)
    async with Storage(StoreBackend(known)) as storage:
        yield storage


async def backed_up_and_changed(storage: Storage, repository: Path) -> None:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, DAY)
        await uow.symbols.save(make_symbol("AAPL"))
        await uow.commit()
    await BackupManager(storage, repository).create_backup(verify=False)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, HIGHER)
        await uow.symbols.save(make_symbol("MSFT"))
        await uow.commit()


async def test_what_others_have_kept_counts_no_more(
    fresh_settings: StorageSettings, redis_url: str, repository: Path
) -> None:
    """They read all the time while the storage that restores has the same cache."""
    async with (
        opened(fresh_settings, redis_url) as storage,
        opened(fresh_settings, redis_url) as reader,
    ):
        await backed_up_and_changed(storage, repository)
        assert (await everything(reader))[0] == await everything_twice(reader) == HIGHER
        reading = asyncio.create_task(_read_on(reader))
        await BackupManager(storage, repository).restore(replace=True)
        after = [await everything(reader) for _ in range(3)]
        reading.cancel()
        assert after == [await uncached(reader)] * 3
        assert after[0][0] == DAY and after[0][13] is None
        hits = counted(reader, "hits")
        await everything(reader)
        assert counted(reader, "hits") > hits  # answers are kept again


async def everything_twice(storage: Storage) -> Any:
    await everything(storage)
    return (await everything(storage))[0]


async def _read_on(reader: Storage) -> None:
    while True:
        with suppress(StorageError):  # tables are emptied and filled
            await everything(reader)
        await asyncio.sleep(0.001)


async def test_so_does_what_was_kept_where_the_one_that_restores_has_no_cache(
    fresh_settings: StorageSettings, redis_url: str, repository: Path
) -> None:
    """The services are stopped meanwhile, and their answers are still in Redis."""
    async with opened(fresh_settings, redis_url) as service:
        await backed_up_and_changed(service, repository)
        assert await everything_twice(service) == HIGHER
    async with opened(fresh_settings, None) as storage:
        await BackupManager(storage, repository).restore(replace=True)
        assert await storage.candles.get_range(KEY, *ENDS) == DAY
    async with opened(fresh_settings, redis_url) as service:
        assert await everything(service) == await uncached(service)
        assert await everything_twice(service) == DAY
        assert await service._stores.mongo.get_collection("uow_cache").count_documents({}) == 1
