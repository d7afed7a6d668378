"""Reading commands open few stores, and never print a series without an acknowledged commit."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.errors import StorageError
from jts_storage.local_servers import at_rest
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.reading import ReadingBackend
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.unit_of_work.at_rest import is_at_rest
from jts_storage.unit_of_work.entries import ENTRIES
from tests.integration.unit_of_work.interrupted import abandon
from tests.prepared import Prepared

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
ROWS = 10


@pytest.fixture
def settings(
    tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None]
) -> StorageSettings:
    engine_used("chDB")
    prepared.copy(tmp_path / "data")
    return StorageSettings(data_dir=tmp_path / "data")


async def fill(settings: StorageSettings) -> None:
    async with Storage.open(settings) as storage, storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, ROWS))
        await uow.commit()


@pytest.fixture(scope="module")
def filled_folder(
    prepared: Prepared,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> Path:
    engine_used("chDB")
    folder = tmp_path_factory.mktemp("filled") / "data"
    prepared.copy(folder)
    asyncio.run(fill(StorageSettings(data_dir=folder)))
    return folder


@pytest.fixture
def filled(filled_folder: Path, tmp_path: Path) -> StorageSettings:
    """Of stores of this test alone with the candles; a copy is at rest as what it is a copy of."""
    shutil.copytree(filled_folder, tmp_path / "data", symlinks=True)
    return StorageSettings(data_dir=tmp_path / "data")


def mark_of(settings: StorageSettings) -> Path:
    return settings.data_dir / "mongo" / "at_rest.json"


async def read(settings: StorageSettings, **what: Any) -> tuple[bool, int]:
    """Whether only what is read was opened, and how many candles were found."""
    backend = ReadingBackend(settings, **what)
    async with Storage(backend) as storage:
        return backend.is_partial, await storage.candles.count(KEY)


async def test_only_what_is_read_is_opened(
    filled: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = filled

    def refused(*_: object, **__: object) -> LocalMongod:
        raise AssertionError("mongod was started")

    monkeypatch.setattr(LocalMongod, "acquire", refused)
    assert await read(settings) == (True, ROWS)
    async with Storage(ReadingBackend(settings, bookkeeping=True)) as storage:
        assert await storage.ingestion.checkpoints.get("none") is None
        with pytest.raises(StorageError, match="no formulas"):
            _ = storage.formulas
        with pytest.raises(StorageError, match="no units of work"):
            storage.unit_of_work()
    async with Storage(ReadingBackend(settings)) as storage:
        with pytest.raises(StorageError, match="no bookkeeping"):
            _ = storage.ingestion


async def test_an_unfinished_commit_is_finished_before_anything_is_read(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Storage.open(settings):
        pass
    assert mark_of(settings).exists()
    async with Storage.open(settings) as storage, storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, ROWS))
        await uow.formulas.save(make_formula("one"))
        await abandon(storage, monkeypatch, uow)
    assert await read(settings) == (False, ROWS)
    assert await read(settings) == (True, ROWS)  # which it has marked again


async def test_the_mark_is_gone_while_anybody_could_write(filled: StorageSettings) -> None:
    settings = filled
    assert at_rest.is_marked(settings.data_dir / "mongo")
    async with Storage.open(settings):
        assert not mark_of(settings).exists()


async def test_what_comes_in_between_is_noticed(
    filled: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, False])
    monkeypatch.setattr(at_rest, "is_marked", lambda _: next(answers))
    assert await read(filled) == (False, ROWS)


async def test_a_comparison_of_schemas_needs_all_stores(filled: StorageSettings) -> None:
    strict = filled.model_copy(update={"check": "error"})
    assert await read(strict) == (False, ROWS)


async def test_one_of_two_users_leaves_no_mark(settings: StorageSettings) -> None:
    folder = settings.data_dir / "mongo"
    with LocalMongod.acquire(folder):
        await fill(settings)
        assert not mark_of(settings).exists()


@pytest.mark.parametrize("entries", [0, 1])
def test_the_last_user_looks_into_every_journal(tmp_path: Path, entries: int) -> None:
    mongod = LocalMongod.acquire(tmp_path)
    with MongoClient[dict[str, Any]](mongod.uri) as client:
        for number in range(entries):
            client["of_another_name"][ENTRIES].insert_one({"_id": number})
    mongod.release(is_at_rest=is_at_rest)
    assert at_rest.is_marked(tmp_path) is (entries == 0)


def test_nobody_writes_between_the_look_and_the_end(tmp_path: Path) -> None:
    mongod = LocalMongod.acquire(tmp_path)
    uri = f"mongodb://127.0.0.1:{mongod.port}/?directConnection=true"
    refused: list[Exception] = []

    def look(_: object) -> bool:
        with MongoClient[dict[str, Any]](uri, retryWrites=False) as other:
            try:
                other["jts"][ENTRIES].insert_one({})
            except PyMongoError as exc:
                refused.append(exc)
        return True

    mongod.release(is_at_rest=look)
    assert "not primary" in str(refused[0])


def test_a_mark_counts_no_more_once_mongod_has_run(tmp_path: Path) -> None:
    """As an earlier release runs it, which knows of no mark and leaves it there."""
    LocalMongod.acquire(tmp_path).release(is_at_rest=lambda _: True)
    kept = tmp_path / "kept.json"
    shutil.copy2(tmp_path / "at_rest.json", kept)
    mongod = LocalMongod.acquire(tmp_path)
    shutil.copy2(kept, tmp_path / "at_rest.json")
    assert not at_rest.is_marked(tmp_path)
    mongod.release()
    assert (tmp_path / "at_rest.json").exists()
    assert not at_rest.is_marked(tmp_path)


def test_a_mongod_that_was_killed_is_not_at_rest(tmp_path: Path) -> None:
    mongod = LocalMongod.acquire(tmp_path)
    mongod._folder.kill(10)
    mongod.release(is_at_rest=lambda _: True)
    at_rest.mark(tmp_path)
    assert not at_rest.is_marked(tmp_path)


def test_a_damaged_mark_is_none(tmp_path: Path) -> None:
    LocalMongod.acquire(tmp_path).release(is_at_rest=lambda _: True)
    assert at_rest.is_marked(tmp_path)
    for text in (b"", b"null", b"[]", b"{}", b"\xff"):
        (tmp_path / "at_rest.json").write_bytes(text)
        assert not at_rest.is_marked(tmp_path)


def test_a_command_reads_without_mongod(filled: StorageSettings) -> None:
    settings = filled
    before = (settings.data_dir / "mongo" / "mongod.log").stat().st_mtime_ns
    assert asyncio.run(read(settings)) == (True, ROWS)
    assert (settings.data_dir / "mongo" / "mongod.log").stat().st_mtime_ns == before
