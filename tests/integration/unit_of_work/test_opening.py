"""What opening a storage does about schemas, and what its health tells."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.errors import InvalidConfiguration, SchemaDrift, StorageError
from jts_storage.local_servers.folder import ServerFolder
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.testing.factories import SAMPLE_KEY, make_candles, make_formula
from jts_storage.unit_of_work import commit as commit_points


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


async def test_tasks_that_open_at_once_open_once(settings: StorageSettings) -> None:
    storage = Storage.open(settings)
    await asyncio.gather(*(storage.open_stores() for _ in range(3)))
    await storage.close()
    async with Storage.open(settings):
        """Nothing of before has the embedded engine open."""


async def test_an_opening_that_is_cancelled_leaves_no_server(tmp_path: Path) -> None:
    storage = Storage.open(StorageSettings(data_dir=tmp_path))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await storage.open_stores()
    folder = ServerFolder(tmp_path / "mongo")
    assert await asyncio.to_thread(folder.running) is None


async def test_closing_waits_for_the_commits_that_have_begun(settings: StorageSettings) -> None:
    storage = Storage.open(settings)
    await storage.open_stores()
    keys = [SeriesKey(f"CLOSING{n}", Timeframe.M1) for n in range(10)]

    async def commit(key: SeriesKey) -> bool:
        try:
            async with storage.unit_of_work() as uow:
                await uow.candles.save_many(key, make_candles(key, 5))
                await uow.formulas.save(make_formula(key.symbol))
                await uow.commit()
        except StorageError:
            return False
        return True

    tasks = [asyncio.create_task(commit(key)) for key in keys]
    await asyncio.sleep(0.05)
    await storage.close()
    committed = await asyncio.gather(*tasks)
    async with Storage.open(settings) as storage:
        assert (await storage.health()).unfinished == 0
        names = {formula.name for formula in await storage.formulas.list()}
        for key, is_committed in zip(keys, committed, strict=True):
            assert await storage.candles.count(key) == 5 * is_committed
            assert (key.symbol in names) == is_committed


async def test_an_engine_that_cannot_be_opened_leaves_no_mongod(tmp_path: Path) -> None:
    """It fails while mongod is starting."""
    (tmp_path / "clickhouse").write_text("a file where the folder should be")
    with pytest.raises(InvalidConfiguration, match="cannot be made a directory"):
        await Storage.open(StorageSettings(data_dir=tmp_path)).open_stores()
    assert ServerFolder(tmp_path / "mongo").running() is None


async def test_a_mongod_that_cannot_start_leaves_the_engine_closed(
    tmp_path: Path, settings: StorageSettings
) -> None:
    wanting = StorageSettings(data_dir=tmp_path, mongod=tmp_path / "none")
    with pytest.raises(InvalidConfiguration, match="no program that can be run"):
        await Storage.open(wanting).open_stores()
    async with Storage.open(settings) as storage:  # a process has one embedded engine at a time
        assert (await storage.health()).is_well


async def test_closing_that_is_cancelled_leaves_nothing_open(settings: StorageSettings) -> None:
    storage = Storage.open(settings)
    await storage.open_stores()
    stores = storage._backend.stores  # type: ignore[attr-defined]
    with stores.commits.one():
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert stores.delivery._is_closed
    with pytest.raises(StorageError, match="closed"):
        await stores.formulas.list()
    assert storage._backend._opened is None  # type: ignore[attr-defined]
    async with storage:
        assert (await storage.health()).is_well


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
