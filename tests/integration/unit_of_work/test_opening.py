"""What opening a storage does about schemas, and what its health tells."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest
from pydantic import SecretStr

from jts_storage import Storage, StorageSettings
from jts_storage import commit as commit_points
from jts_storage.backend import StoreBackend
from jts_storage.embedded.mongod import LocalMongod
from jts_storage.errors import InvalidConfiguration, SchemaDrift, StorageError
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_formula


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[StorageSettings]:
    folder = tmp_path_factory.mktemp("opening")
    with LocalMongod.acquire(folder / "mongo") as mongod:
        for engine in ("mongod", "chDB", "SQLite"):
            engine_used(engine)
        yield StorageSettings(data_dir=folder, mongo_url=SecretStr(mongod.uri), migrate=True)


async def test_agreeing_schemas_open(settings: StorageSettings) -> None:
    async with Storage.open(settings, check="error") as storage:
        assert (await storage.health()).is_well
        assert storage.clickhouse.health_check()
        assert await storage.mongo.health_check()
        assert await storage.database.health_check()


async def test_a_storage_in_memory_has_no_managers() -> None:
    async with Storage.in_memory() as storage:
        for name in ("clickhouse", "mongo", "database"):
            with pytest.raises(StorageError, match="in memory"):
                getattr(storage, name)


async def test_a_drift_is_refused_or_told(
    settings: StorageSettings, caplog: pytest.LogCaptureFixture
) -> None:
    backend = StoreBackend(settings)
    async with Storage(backend):
        await backend.stores.mongo.db["formulas"].create_index("name", name="somebodys")
    try:
        with pytest.raises(SchemaDrift, match="somebodys"):
            await Storage.open(settings, check="error").open_stores()
        with caplog.at_level(logging.WARNING):
            async with Storage.open(settings, check="warn"):
                assert "somebodys" in caplog.text
    finally:
        async with Storage(backend):
            await backend.stores.mongo.db["formulas"].drop_index("somebodys")


async def test_each_store_is_closed_whatever_becomes_of_the_others(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> None:
        raise RuntimeError("one of them")

    backend = StoreBackend(settings)
    storage = Storage(backend)
    await storage.open_stores()
    stores = backend.stores
    monkeypatch.setattr(stores.database, "close", fail)
    with pytest.raises(RuntimeError, match="one of them"):
        await storage.close()
    monkeypatch.undo()
    assert not stores.clickhouse.is_connected
    await stores.database.close()
    async with Storage.open(settings) as again:
        assert await again.candles.list_keys() is not None


async def test_health_tells_of_unfinished_commits(settings: StorageSettings) -> None:
    class Crash(BaseException):
        pass

    def reached(point: str) -> None:
        if point == "decided":
            raise Crash

    async with Storage.open(settings) as storage:
        commit_points.reached, before = reached, commit_points.reached
        try:
            with pytest.raises(Crash):
                async with storage.unit_of_work() as uow:
                    await uow.candles.save_many(SAMPLE_KEY, make_candles(count=5))
                    await uow.formulas.save(make_formula())
                    await uow.commit()
        finally:
            commit_points.reached = before
        health = await storage.health()
        assert health == {"clickhouse": True, "mongo": True, "database": True}
        assert health.unfinished == 1
        assert health.oldest is not None
        assert health.oldest.total_seconds() < 60


def test_settings_name_what_is_wrong_and_hide_what_is_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JTS_MONGO_URL", "mongodb://user:hunter2@host/")
    monkeypatch.setenv("JTS_CACHE_BYTES", "-hunter2")
    with pytest.raises(InvalidConfiguration, match="JTS_CACHE_BYTES") as caught:
        Storage.open()
    assert "hunter2" not in str(caught.value)
    monkeypatch.delenv("JTS_CACHE_BYTES")
    assert "hunter2" not in repr(StorageSettings.load())


async def test_a_store_that_is_not_there_is_named(settings: StorageSettings) -> None:
    nowhere = settings.model_copy(
        update={"clickhouse_url": SecretStr("clickhouse://127.0.0.1:1/jts?max_retries=0")}
    )
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:1"):
        await Storage.open(nowhere).open_stores()
