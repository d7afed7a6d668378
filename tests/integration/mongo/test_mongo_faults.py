"""What becomes of operations when the server dies, hangs, steps down, refuses or loses answers."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import AutoReconnect, OperationFailure

from jts_storage.domain import checks
from jts_storage.domain.backtest import BacktestConfig, BacktestResult
from jts_storage.domain.formula import Formula
from jts_storage.errors import (
    Conflict,
    ConnectionFailed,
    InvalidConfiguration,
    InvalidData,
    PoolTimeout,
    StorageError,
)
from jts_storage.local_servers.mongod import LocalMongod, find_mongod
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
)
from jts_storage.mongo.errors import MEANINGS, translate
from jts_storage.mongo.transaction import Transaction

PATIENT: dict[str, Any] = {"retry_base_delay": 0.01, "retry_max_delay": 0.05, "max_retries": 5}


def formula(name: str) -> Formula:
    return Formula(name=name, expression="close > open")


@contextmanager
def stopped(mongod: LocalMongod) -> Iterator[None]:
    os.kill(mongod.pid, signal.SIGSTOP)
    try:
        _wait_until_stopped(mongod.pid)
        yield
    finally:
        os.kill(mongod.pid, signal.SIGCONT)


def _wait_until_stopped(pid: int) -> None:
    """The signal is only sent when `kill` returns; threads may still answer for a moment."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
        if all(thread.rpartition(")")[2].split()[0] == "T" for thread in threads):
            return
        time.sleep(0.001)
    raise AssertionError("mongod does not stop")


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)


# Health


async def test_health_of_a_server_that_is_up_stopped_and_up_again(mongod: LocalMongod) -> None:
    async with MongoDBManager(uri=mongod.uri) as manager:
        assert await manager.health_check()
        with stopped(mongod):
            began = time.monotonic()
            assert not await manager.health_check()
            assert not await manager.health_check()
            with pytest.raises(ConnectionFailed, match="MongoDB connection failed"):
                await manager.ping()
            assert time.monotonic() - began < 5, "three checks of half a second each"
        await until(manager.health_check)


async def test_health_of_a_server_that_was_stopped_before_the_first_contact(
    mongod: LocalMongod,
) -> None:
    with stopped(mongod):
        async with MongoDBManager(uri=mongod.uri) as manager:
            began = time.monotonic()
            assert not await manager.health_check()
            assert time.monotonic() - began < 3


async def test_health_without_a_server() -> None:
    async with MongoDBManager(uri="mongodb://127.0.0.1:1") as manager:
        began = time.monotonic()
        assert not await manager.health_check()
        assert time.monotonic() - began < 3


# Death and absence


async def test_no_acknowledged_write_is_lost_to_kill_9(own_mongod: LocalMongod) -> None:
    acknowledged: list[Formula] = []
    failures: list[StorageError] = []
    enough = asyncio.Event()

    async def write(manager: MongoDBManager) -> None:
        repository = MongoDBFormulaRepository(manager)
        while not enough.is_set():
            try:
                saved = await repository.save(formula(f"write {len(acknowledged)}"))
                acknowledged.append(saved)
                acknowledged[-1] = await repository.save(saved)
            except StorageError as exc:
                failures.append(exc)

    async def acknowledged_reach(goal: int) -> None:
        async def reached() -> bool:
            return len(acknowledged) >= goal

        await until(reached)

    async with MongoDBManager(uri=own_mongod.uri, **PATIENT) as manager:
        writing = asyncio.create_task(write(manager))
        for goal in (20, 60):
            await acknowledged_reach(goal)
            os.kill(own_mongod.pid, signal.SIGKILL)
            await asyncio.to_thread(own_mongod.ensure_running)
        await acknowledged_reach(80)
        enough.set()
        await asyncio.wait_for(writing, 30)
        stored = {each.id: each for each in await MongoDBFormulaRepository(manager).list()}
        for each in acknowledged:
            assert stored[each.id].name == each.name
            assert stored[each.id].version >= each.version
    assert all(isinstance(each, ConnectionFailed) for each in failures), failures


async def test_a_stopped_server_fails_reads_in_bounded_time(mongod: LocalMongod) -> None:
    async with MongoDBManager(
        uri=mongod.uri, socket_timeout=0.3, server_selection_timeout=0.5, max_retries=1
    ) as manager:
        repository = MongoDBFormulaRepository(manager)
        await repository.list()
        with stopped(mongod):
            async with asyncio.timeout(20):
                with pytest.raises(ConnectionFailed, match=f"tried 127.0.0.1:{mongod.port}"):
                    await repository.list()
        await until(manager.health_check)


async def test_an_exhausted_pool_is_a_pool_timeout(mongod: LocalMongod) -> None:
    async with MongoDBManager(uri=mongod.uri, max_pool_size=1, pool_timeout=0.1) as manager:
        repository = MongoDBFormulaRepository(manager)
        await repository.list()
        with stopped(mongod):
            holder = asyncio.create_task(repository.list())
            await asyncio.sleep(0.05)
            with pytest.raises(PoolTimeout, match="max_pool_size"):
                await repository.list()
        await asyncio.wait_for(holder, 20)


# A server that fails on command


def mongod_with(folder: Path, *arguments: str) -> LocalMongod:
    """A mongod with further arguments."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "mongod"
    further = shlex.join(arguments)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(str(find_mongod()))} "$@" {further}\n')
    program.chmod(0o755)
    return LocalMongod.acquire(folder / "data", program)


@pytest.fixture(scope="module")
def failing_mongod(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    engine_used("mongod")
    folder = tmp_path_factory.mktemp("failing")
    with mongod_with(folder, "--setParameter", "enableTestCommands=1") as server:
        yield server


Fail = Callable[..., Any]


@pytest.fixture
async def failing(failing_mongod: LocalMongod) -> AsyncIterator[tuple[MongoDBManager, Fail]]:
    async with MongoDBManager(uri=failing_mongod.uri, **PATIENT) as manager:
        admin = manager.client.admin

        async def fail(*commands: str, times: int, **how: Any) -> None:
            await admin.command(
                "configureFailPoint",
                "failCommand",
                mode={"times": times},
                data={"failCommands": list(commands), **how},
            )

        await manager.get_collection("formulas").delete_many({})
        yield manager, fail
        await admin.command("configureFailPoint", "failCommand", mode="off")


@pytest.mark.parametrize(
    "how", [pytest.param({"closeConnection": True}, marks=pytest.mark.slow), {"errorCode": 262}]
)
async def test_what_the_driver_repeats_once_is_repeated_further(
    failing: tuple[MongoDBManager, Fail], how: dict[str, Any]
) -> None:
    manager, fail = failing
    repository = MongoDBFormulaRepository(manager)
    await fail("insert", times=3, **how)
    saved = await repository.save(formula("insert"))
    await fail("update", times=3, **how)
    changed = await repository.save(saved)
    await fail("findAndModify", times=3, **how)
    changed = await repository.save(replace(changed, created_at=None))
    await fail("find", times=3, **how)
    assert await repository.get_by_id(str(saved.id)) == changed
    await fail("insert", "update", times=3, **how)
    assert len(await repository.save_many([formula("many"), changed])) == 2
    assert len(await repository.list()) == 2


@pytest.mark.parametrize("has_arrived", [True, False])
async def test_a_repeated_save_of_several_that_became_stale_leaves_nothing_more(
    failing: tuple[MongoDBManager, Fail], monkeypatch: pytest.MonkeyPatch, has_arrived: bool
) -> None:
    """Whether or not the first attempt, whose answer was lost, reached the new formula."""
    manager, _ = failing
    repository = MongoDBFormulaRepository(manager)
    held = await repository.save(formula("held"))
    store = type(repository._store)
    apply = store._apply

    async def lose(self: Any, writes: list[Any]) -> None:
        monkeypatch.setattr(store, "_apply", apply)
        if has_arrived:
            await apply(self, writes[:1])
        await repository.save(replace(held, name="somebody else's"))
        raise AutoReconnect("the answer was lost")

    monkeypatch.setattr(store, "_apply", lose)
    with pytest.raises(Conflict, match="version 2 is stored, 1 was read"):
        await repository.save_many([formula("new"), held, formula("behind it")])
    names = {each.name for each in await repository.list()}
    assert names == {"somebody else's"} | ({"new"} if has_arrived else set())


async def test_a_read_that_breaks_in_its_middle_is_read_anew(
    failing: tuple[MongoDBManager, Fail],
) -> None:
    manager, fail = failing
    repository = MongoDBFormulaRepository(manager)
    await repository.save_many(formula(f"cross {number}") for number in range(300))
    await fail("getMore", times=1, closeConnection=True)
    found = await repository.search("cro", limit=300)
    assert len({each.id for each in found}) == 300


async def test_repetitions_end(failing: tuple[MongoDBManager, Fail]) -> None:
    manager, fail = failing
    await fail("find", times=1_000, errorCode=262)
    with pytest.raises(ConnectionFailed, match="MongoDB connection failed") as caught:
        await MongoDBFormulaRepository(manager).list()
    assert caught.value.code == 262
    assert not caught.value.transient, "what came before it in a unit of work is not known"
    assert isinstance(caught.value.__cause__, OperationFailure)


async def test_nothing_is_repeated_within_a_transaction(
    failing: tuple[MongoDBManager, Fail],
) -> None:
    manager, fail = failing
    async with manager.client.start_session() as session:
        await session.start_transaction()
        repository = MongoDBFormulaRepository(manager, Transaction(session))
        await repository.list()
        await fail("insert", times=1, errorCode=112, errorLabels=["TransientTransactionError"])
        with pytest.raises(Conflict):
            await repository.save(formula("once"))
        await session.abort_transaction()
        await session.start_transaction()
        await repository.list()
        # Outside of a transaction this would be tried again, and succeed.
        await fail("find", times=1, errorCode=262)
        with pytest.raises(ConnectionFailed):
            await repository.list()
        await session.abort_transaction()


async def test_a_server_out_of_reach_is_not_waited_for_again() -> None:
    nowhere = MongoDBManager(uri="mongodb://127.0.0.1:1", server_selection_timeout=0.1)
    async with nowhere as manager, manager.client.start_session() as session:
        await session.start_transaction()
        with pytest.raises(ConnectionFailed) as caught:
            await MongoDBFormulaRepository(manager, Transaction(session)).list()
    assert not caught.value.transient


async def test_what_the_server_means_for_good_is_not_repeated(
    failing: tuple[MongoDBManager, Fail],
) -> None:
    manager, fail = failing
    await fail("find", times=1, errorCode=13)
    with pytest.raises(StorageError, match="readWrite") as caught:
        await MongoDBFormulaRepository(manager).list()
    assert caught.value.code == 13
    assert await MongoDBFormulaRepository(manager).list() == []


@pytest.mark.parametrize("code", sorted(MEANINGS))
def test_every_code_of_the_table_becomes_its_error(code: int) -> None:
    exc = OperationFailure("what the server said", code)
    error = translate(exc, doing="saving", hosts=("h:1",))
    assert type(error) is MEANINGS[code].kind
    assert "what the server said" in str(error) and "saving" in str(error)
    assert error.repeatable is MEANINGS[code].repeatable


async def test_writes_wait_out_a_stepdown(failing: tuple[MongoDBManager, Fail]) -> None:
    manager, _ = failing
    repository = MongoDBFormulaRepository(manager)
    saved = [await repository.save(formula("before"))]
    await manager.client.admin.command("replSetStepDown", 1, force=True)
    async with asyncio.timeout(40):
        saved.append(await repository.save(formula("during")))
        saved[0] = await repository.save(saved[0])
    assert {each.id for each in await repository.list()} == {each.id for each in saved}


async def test_a_stepdown_within_a_transaction_is_told(
    failing: tuple[MongoDBManager, Fail],
) -> None:
    manager, _ = failing
    async with manager.client.start_session() as session:
        await session.start_transaction()
        repository = MongoDBFormulaRepository(manager, Transaction(session))
        await repository.save(formula("before"))
        await manager.client.admin.command("replSetStepDown", 1, force=True)
        async with asyncio.timeout(40):
            with pytest.raises((Conflict, ConnectionFailed)):
                await repository.save(formula("after"))
    async with asyncio.timeout(40):
        assert await MongoDBFormulaRepository(manager).list() == []


# Answers that are lost: the operation took effect, nobody heard of it


class LosesAnswers:
    """A collection whose first answer to some methods never arrives."""

    reaches_the_server = True

    def __init__(self, collection: Any, *methods: str) -> None:
        self._collection = collection
        self._to_lose = set(methods)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if name not in self._to_lose:
            return method

        async def lossy(*args: Any, **kwargs: Any) -> Any:
            self._to_lose.discard(name)
            if self.reaches_the_server:
                await method(*args, **kwargs)
            raise AutoReconnect("the answer was lost")

        return lossy


class LosesQuestions(LosesAnswers):
    """A collection whose first call of some methods never reaches the server."""

    reaches_the_server = False


@pytest.fixture
def lose(manager: MongoDBManager) -> Callable[..., None]:
    def lose(collection: str, *methods: str) -> None:
        real = manager.db.get_collection(collection)
        lossy: Any = LosesAnswers(real, *methods)
        manager._here().collections[collection] = lossy

    return lose


async def test_an_insert_whose_answer_was_lost_is_stored_once(
    manager: MongoDBManager, lose: Callable[..., None]
) -> None:
    repository = MongoDBFormulaRepository(manager)
    lose("formulas", "insert_one")
    saved = await repository.save(formula("once"))
    assert await repository.list() == [saved]


async def test_a_key_of_somebody_else_is_a_conflict_although_an_answer_was_lost(
    manager: MongoDBManager,
) -> None:
    """The save is repeated, and only its own `_id` may be taken for its first attempt."""
    repository = MongoDBFormulaRepository(manager)
    raw = manager.db.get_collection("formulas")
    await raw.create_index("name", unique=True, name="foreign")
    try:
        theirs = await repository.save(formula("taken"))
        never_sent: Any = LosesQuestions(raw, "insert_one")
        manager._here().collections["formulas"] = never_sent
        with pytest.raises(Conflict, match="taken"):
            await repository.save(formula("taken"))
        assert await repository.list() == [theirs]
    finally:
        await raw.drop_index("foreign")


@pytest.mark.parametrize("update", ["update_one", "find_one_and_update"])
async def test_an_update_whose_answer_was_lost_is_no_conflict(
    manager: MongoDBManager, lose: Callable[..., None], update: str
) -> None:
    """Whether or not the time of creation, which a caller may leave out, has to be read."""
    repository = MongoDBFormulaRepository(manager)
    saved = await repository.save(formula("once"))
    created_at = saved.created_at if update == "update_one" else None
    lose("formulas", update)
    changed = await repository.save(replace(saved, name="twice", created_at=created_at))
    assert (changed.version, changed.created_at) == (2, saved.created_at)
    assert await repository.list() == [changed]
    with pytest.raises(Conflict):
        await repository.save(saved)


async def test_many_whose_answer_was_lost_are_stored_once(
    manager: MongoDBManager, lose: Callable[..., None]
) -> None:
    repository = MongoDBFormulaRepository(manager)
    old = await repository.save(formula("old"))
    lose("formulas", "bulk_write")
    saved = await repository.save_many(
        [formula("new"), replace(old, name="x"), replace(old, name="y", version=2)]
    )
    stored = {each.id: each for each in await repository.list()}
    assert stored == {saved[0].id: saved[0], old.id: saved[2]}


async def test_many_overtaken_between_check_and_write_are_a_conflict(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jts_storage.mongo.store import VersionedStore

    repository = MongoDBFormulaRepository(manager)
    old = await repository.save(formula("old"))
    # Both within one millisecond, as it may happen: time alone cannot tell whose write it was.
    moment = checks.now()
    monkeypatch.setattr(checks, "now", lambda: moment)
    real = VersionedStore._apply

    async def overtaken(self: Any, writes: Any) -> None:
        monkeypatch.setattr(VersionedStore, "_apply", real)
        await repository.save(replace(old, name="faster"))
        await real(self, writes)

    monkeypatch.setattr(VersionedStore, "_apply", overtaken)
    with pytest.raises(Conflict, match="old"):
        await repository.save_many([old])


async def test_a_result_whose_answer_was_lost_is_stored_once(
    manager: MongoDBManager, lose: Callable[..., None]
) -> None:
    repository = MongoDBBacktestResultRepository(manager)
    start = datetime(2024, 1, 2, tzinfo=UTC)
    config = BacktestConfig(
        start_date=start, end_date=start, symbols=("A",), initial_capital=Decimal(1)
    )
    result = BacktestResult(strategy_id="a" * 24, run_at=start, config=config)
    lose("backtest_results", "insert_one")
    saved = await repository.save(result)
    lose("backtest_results", "insert_one")
    with_id = await repository.save(replace(result, id="b" * 24))
    stored = sorted([saved, with_id], key=lambda each: str(each.id))
    assert await repository.list() == [each.summary() for each in stored]
    assert await repository.get_many(str(each.id) for each in stored) == stored


# Refusals


@pytest.fixture
def guarded_port(tmp_path: Path) -> Iterator[int]:
    """The port of a mongod that asks for credentials."""
    data = tmp_path / "guarded"
    data.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [
        find_mongod(),
        "--auth",
        "--dbpath",
        data,
        "--bind_ip",
        "127.0.0.1",
        "--nounixsocket",
    ]
    command += ["--port", port, "--logpath", data / "log", "--wiredTigerCacheSizeGB", 0.25]
    server = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        server.terminate()
        server.wait(30)


async def test_wrong_credentials_are_told_without_the_password(guarded_port: int) -> None:
    secret = "Wr0ngSecret"
    uri = f"mongodb://127.0.0.1:{guarded_port}"
    async with MongoDBManager(uri=uri) as manager:
        await until(manager.health_check)
        await manager.client.admin.command("createUser", "kit", pwd="right", roles=["root"])
        with pytest.raises(StorageError, match="readWrite") as refused:
            await MongoDBFormulaRepository(manager).list()
        assert refused.value.code == 13
    async with MongoDBManager(uri=uri, username="kit", password=secret) as manager:
        with pytest.raises(ConnectionFailed, match="MongoDB connection failed") as caught:
            await MongoDBFormulaRepository(manager).list()
        assert caught.value.code == 18
        assert secret not in str(caught.value) + str(caught.value.__cause__)
        assert not await manager.health_check()
    async with MongoDBManager(uri=uri, username="kit", password="right") as manager:
        assert await MongoDBFormulaRepository(manager).list() == []
        async with manager.client.start_session() as session:
            await session.start_transaction()
            with pytest.raises(InvalidConfiguration, match="replica set"):
                await MongoDBFormulaRepository(manager, Transaction(session)).list()


@pytest.mark.parametrize("value", [2**64, "\ud800", object(), Decimal(1)])
async def test_values_no_driver_can_encode_are_invalid_data(
    manager: MongoDBManager, value: Any
) -> None:
    collection = manager.get_collection("formulas")
    with pytest.raises(InvalidData):
        await manager.retries.once("saving", lambda: collection.insert_one({"v": value}))
