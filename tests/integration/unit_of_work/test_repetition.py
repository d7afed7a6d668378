"""`Storage.run` when the server ends a transaction without anybody being in its way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import AutoReconnect

from jts_storage import Formula, Storage, StorageSettings
from jts_storage.errors import Conflict, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.ports import UnitOfWork
from jts_storage.sync import Storage as BlockingStorage
from jts_storage.sync import UnitOfWork as BlockingUnitOfWork
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.testing.fault_proxy import FaultProxy
from tests import servers

KILL: dict[str, Any] = {"killAllSessions": []}
numbers = count()


mongod = pytest.fixture(scope="module")(servers.mongod)


@pytest.fixture(scope="module")
def settings(
    mongod: LocalMongod,
    tmp_path_factory: pytest.TempPathFactory,
    engine_used: Callable[[str], None],
) -> StorageSettings:
    for engine in ("chDB", "SQLite"):
        engine_used(engine)
    folder = tmp_path_factory.mktemp("repetition")
    return StorageSettings(data_dir=folder, mongo_url=SecretStr(mongod.uri), migrate=True)


@pytest.fixture
async def storage(settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage.open(settings) as storage:
        yield storage


def end_transactions(mongod: LocalMongod, command: dict[str, Any]) -> None:
    """End all that are open at the server."""
    # A server that steps down may close the connection that told it to.
    with MongoClient[Any](mongod.uri) as client, suppress(AutoReconnect):
        client.admin.command(command)


@pytest.mark.parametrize("command", [KILL, {"replSetStepDown": 1, "force": True}], ids=str)
async def test_a_unit_of_work_that_the_server_ended_is_repeated(
    storage: Storage, mongod: LocalMongod, command: dict[str, Any]
) -> None:
    formula, candles = make_formula(f"repeated {next(numbers)}"), make_candles(count=5)
    attempts = []

    async def work(uow: UnitOfWork) -> Formula:
        attempts.append(uow)
        saved = await uow.formulas.save(formula)
        await uow.candles.save_many(candles.key, candles)
        if len(attempts) == 1:
            await asyncio.to_thread(end_transactions, mongod, command)
        return saved

    saved = await storage.run(work)
    assert len(attempts) == 2
    assert await storage.formulas.get_by_id(saved.id or "") == saved
    assert await storage.candles.count(candles.key) == 5
    assert [found.name for found in await storage.formulas.list()].count(formula.name) == 1


def test_its_blocking_twin_repeats_too(settings: StorageSettings, mongod: LocalMongod) -> None:
    formula = make_formula(f"repeated {next(numbers)}")
    attempts = []

    def work(uow: BlockingUnitOfWork) -> Formula:
        attempts.append(uow)
        saved = uow.formulas.save(formula)
        if len(attempts) == 1:
            end_transactions(mongod, KILL)
        return saved

    with BlockingStorage.open(settings) as storage:
        saved = storage.run(work)
        assert len(attempts) == 2
        assert storage.formulas.get_by_id(saved.id or "") == saved


async def test_a_unit_of_work_that_lost_its_connection_is_repeated(
    settings: StorageSettings, mongod: LocalMongod
) -> None:
    formula = make_formula(f"repeated {next(numbers)}")
    attempts = []
    with FaultProxy("127.0.0.1", mongod.port) as proxy:

        async def work(uow: UnitOfWork) -> Formula:
            attempts.append(uow)
            await uow.formulas.list()
            if len(attempts) == 1:
                proxy.faults.cut(after_bytes=0)
            try:
                return await uow.formulas.save(formula)
            finally:
                proxy.faults.clear()

        uri = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        through_proxy = settings.model_copy(update={"mongo_url": SecretStr(uri)})
        async with Storage.open(through_proxy) as storage:
            saved = await storage.run(work)
            assert len(attempts) == 2
            assert await storage.formulas.get_by_id(saved.id or "") == saved


async def test_what_the_server_ended_says_why(storage: Storage, mongod: LocalMongod) -> None:
    with pytest.raises(Conflict, match="transactionLifetimeLimitSeconds"):
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            end_transactions(mongod, KILL)
            await uow.commit()


async def test_other_failures_are_not_repeated(storage: Storage) -> None:
    attempts = []

    async def fail(uow: UnitOfWork) -> None:
        attempts.append(uow)
        raise StorageError("of the caller's own")

    with pytest.raises(StorageError, match="of the caller's own"):
        await storage.run(fail)
    assert len(attempts) == 1
