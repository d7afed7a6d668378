"""What repositories do with the session of a unit of work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId
from pymongo.asynchronous.collection import AsyncCollection

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain.strategy import StopLossRule
from jts_storage.errors import Conflict, ConnectionFailed, InUse, StorageError
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.references import References, ReferringStore
from jts_storage.mongo.transaction import Transaction, in_own_transaction
from jts_storage.testing.factories import make_backtest, make_formula, make_strategy


class Watched:
    """A collection that counts the operations under way, and pauses each of them."""

    under_way = 0
    most = 0

    def __init__(self, collection: Any) -> None:
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._collection, name)
        if name == "find":
            return method

        async def watched(*args: Any, **kwargs: Any) -> Any:
            Watched.under_way += 1
            Watched.most = max(Watched.most, Watched.under_way)
            try:
                await asyncio.sleep(0.002)
                return await method(*args, **kwargs)
            finally:
                Watched.under_way -= 1

        return watched


@pytest.fixture
def watch(manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setattr(Watched, "most", 0)

    def watch(name: str) -> None:
        watched: Any = Watched(manager.db.get_collection(name))
        manager._here().collections[name] = watched

    return watch


@pytest.fixture
async def transaction(manager: MongoDBManager) -> AsyncIterator[Transaction]:
    async with manager.client.start_session() as session:
        await session.start_transaction()
        yield Transaction(session)


async def test_a_session_has_one_operation_at_a_time(
    manager: MongoDBManager, transaction: Transaction, watch: Callable[[str], None]
) -> None:
    for name in ("formulas", "strategies", "backtest_results"):
        watch(name)
    formulas = MongoDBFormulaRepository(manager, transaction)
    strategies = MongoDBStrategyRepository(manager, transaction)
    backtests = MongoDBBacktestResultRepository(manager, transaction)
    await asyncio.gather(
        *(formulas.save(make_formula()) for _ in range(5)),
        *(strategies.save(make_strategy()) for _ in range(5)),
        *(backtests.save(make_backtest()) for _ in range(5)),
    )
    assert Watched.most == 1


async def test_a_save_is_not_interrupted_by_another(
    manager: MongoDBManager, transaction: Transaction
) -> None:
    backtests = MongoDBBacktestResultRepository(manager, transaction)
    result = replace(make_backtest(), id="b" * 24)
    # Each looks whether it is there, and inserts it: a duplicate key would end the transaction.
    assert await asyncio.gather(*(backtests.save(result) for _ in range(5))) == [result] * 5


async def test_a_commit_waits_for_the_operation_under_way() -> None:
    lifetime = Lifetime()
    session: Any = object()
    transaction = Transaction(session, lifetime)
    steps: list[str] = []
    begun = asyncio.Event()

    async def operation(name: str) -> None:
        async with transaction.exclusive():
            begun.set()
            await asyncio.sleep(0.01)
            steps.append(name)

    running = asyncio.create_task(operation("running"))
    await begun.wait()
    waiting = asyncio.create_task(operation("waiting"))
    await asyncio.sleep(0)
    lifetime.end("is over")
    await transaction.ended()
    steps.append("committed")
    outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
    assert steps == ["running", "committed"]
    assert isinstance(outcomes[1], StorageError)


async def test_a_cancelled_operation_gives_its_turn_back() -> None:
    session: Any = object()
    transaction = Transaction(session)

    async def hold() -> None:
        async with transaction.exclusive(), transaction.exclusive():
            await asyncio.sleep(60)

    holding = asyncio.create_task(hold())
    await asyncio.sleep(0)
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    async with asyncio.timeout(1), transaction.exclusive():
        pass


# Formulas that are deleted while a strategy begins to use them, without a unit of work


async def test_a_formula_deleted_between_look_and_save_is_a_conflict(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    formulas, strategies = MongoDBFormulaRepository(manager), MongoDBStrategyRepository(manager)
    formula = await formulas.save(make_formula())
    real = ReferringStore._begun

    def overtaken(self: Any, *given: Any) -> Any:
        monkeypatch.setattr(ReferringStore, "_begun", real)
        begun = real(self, *given)
        looked = type(self._references).deletions

        async def deletions(references: Any, formula_ids: Any) -> Any:
            monkeypatch.setattr(type(self._references), "deletions", looked)
            before = await looked(references, formula_ids)
            assert await formulas.delete(str(formula.id))
            return before

        monkeypatch.setattr(type(self._references), "deletions", deletions)
        return begun

    monkeypatch.setattr(ReferringStore, "_begun", overtaken)
    with pytest.raises(Conflict, match=str(formula.id)):
        await strategies.save(make_strategy(entry_formula_id=formula.id))
    assert await strategies.list() == []


async def test_strategies_saved_side_by_side_may_begin_to_use_one_formula(
    manager: MongoDBManager,
) -> None:
    formulas, strategies = MongoDBFormulaRepository(manager), MongoDBStrategyRepository(manager)
    formula = await formulas.save(make_formula())
    saved = await asyncio.gather(
        *(strategies.save(make_strategy(entry_formula_id=formula.id)) for _ in range(20))
    )
    assert {each.id for each in await strategies.list()} == {each.id for each in saved}
    with pytest.raises(InUse):
        await formulas.delete(str(formula.id))


async def test_no_strategy_is_left_without_its_formula(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    formulas, strategies = MongoDBFormulaRepository(manager), MongoDBStrategyRepository(manager)
    deletions, steps = References.deletions, list[str]()

    async def looked(*arguments: Any) -> Any:
        steps.append("the save begins")
        return await deletions(*arguments)

    async def delete(identity: str) -> bool:
        deleted = await formulas.delete(identity)
        steps.append("the deletion has ended")
        return deleted

    monkeypatch.setattr(References, "deletions", looked)
    for _ in range(20):
        formula = await formulas.save(make_formula())
        strategy = make_strategy(entry_formula_id=formula.id)
        steps.clear()
        outcomes = await asyncio.gather(
            strategies.save(strategy), delete(str(formula.id)), return_exceptions=True
        )
        if steps[0] == "the deletion has ended":
            continue  # a busy machine let the save wait: it names a formula that never was
        assert sum(isinstance(each, Conflict) for each in outcomes) == 1, outcomes
        is_there = await formulas.get_by_id(str(formula.id)) is not None
        assert len(await strategies.get_by_formula(str(formula.id))) == is_there


async def test_formulas_are_guarded_in_one_order_whoever_names_them_how(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that take them in opposite orders would each have what the other wants."""
    guarded: list[list[ObjectId]] = []
    real = AsyncCollection.bulk_write

    async def note(self: Any, requests: Any, **options: Any) -> Any:
        if self.name == "uow_references":
            guarded.append([each._filter["_id"] for each in requests])
        return await real(self, requests, **options)

    monkeypatch.setattr(AsyncCollection, "bulk_write", note)
    strategies = MongoDBStrategyRepository(manager)
    ids = [str(ObjectId()) for _ in range(12)]
    for named in (ids, ids[::-1]):
        await strategies.save_many(
            [make_strategy(entry_formula_id=each, exit_formula_id=None) for each in named]
        )
    assert guarded == [list(map(ObjectId, sorted(ids)))] * 2


@pytest.mark.parametrize("role", ["entryFormulaId", "exitFormulaId", "stopLossRule.formulaId"])
async def test_a_reference_in_capital_letters_is_one_that_is_there_already(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    """Another program may have stored it as a text."""
    formulas, strategies = MongoDBFormulaRepository(manager), MongoDBStrategyRepository(manager)
    formula = "abcdef" * 4
    rule = StopLossRule(formula_id=formula)
    saved = await strategies.save(
        make_strategy(entry_formula_id=formula, exit_formula_id=formula, stop_loss_rule=rule)
    )
    others = dict.fromkeys(("entryFormulaId", "exitFormulaId", "stopLossRule"))
    others.pop(role.partition(".")[0])
    await manager.get_collection("strategies").update_one(
        {"_id": ObjectId(saved.id)},
        {"$set": {**others, role: formula.upper()}},
        bypass_document_validation=True,
    )
    [found] = await strategies.get_by_formula(formula.upper())
    assert found.formula_ids == {formula}
    with pytest.raises(InUse):
        await formulas.delete((await formula_of_id(manager, formula)).upper())
    monkeypatch.setattr(manager.client, "start_session", lambda: pytest.fail("a transaction"))
    assert (await strategies.save(replace(found, name="changed"))).version == found.version + 1


async def formula_of_id(manager: MongoDBManager, identity: str) -> str:
    saved = await MongoDBFormulaRepository(manager).save(make_formula())
    raw = manager.get_collection("formulas")
    stored = await raw.find_one_and_delete({"_id": ObjectId(saved.id)})
    assert stored is not None
    await raw.insert_one(stored | {"_id": ObjectId(identity)})
    return identity


async def test_a_strategy_that_refers_to_nothing_new_is_saved_without_a_transaction(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategies = MongoDBStrategyRepository(manager)
    saved = await strategies.save(make_strategy(entry_formula_id="a" * 24, exit_formula_id=None))
    monkeypatch.setattr(manager.client, "start_session", lambda: pytest.fail("a transaction"))
    saved = await strategies.save(replace(saved, name="changed"))
    [saved] = await strategies.save_many([replace(saved, entry_formula_id=None)])
    assert await strategies.get_by_id(str(saved.id)) == saved
    assert await manager.get_collection("uow_references").count_documents({}) == 1


async def test_a_commit_whose_answer_is_lost_is_asked_for_again(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pymongo.asynchronous.client_session import AsyncClientSession
    from pymongo.errors import AutoReconnect

    real = AsyncClientSession.commit_transaction
    lost: list[int] = []
    to_lose = 1

    async def commit(self: Any) -> None:
        await real(self)
        if len(lost) < to_lose:
            lost.append(1)
            raise AutoReconnect(
                "the answer was lost", {"errorLabels": ["UnknownTransactionCommitResult"]}
            )

    monkeypatch.setattr(AsyncClientSession, "commit_transaction", commit)
    strategies = MongoDBStrategyRepository(manager)
    saved = await strategies.save(make_strategy(entry_formula_id="a" * 24))
    assert lost and await strategies.list() == [saved]
    lost.clear()
    to_lose = 9
    with pytest.raises(ConnectionFailed, match="unknown"):
        await strategies.save(make_strategy(entry_formula_id="b" * 24))
    assert len(await strategies.list()) == 2, "stored once, though nobody could say so"


async def test_a_transaction_that_the_server_ended_is_begun_anew(manager: MongoDBManager) -> None:
    from pymongo.errors import OperationFailure

    tried: list[int] = []

    async def work(transaction: Transaction | None) -> str:
        assert transaction is not None
        tried.append(1)
        if len(tried) < 3:
            raise StorageError("overtaken") from OperationFailure(
                "WriteConflict", 112, {"errorLabels": ["TransientTransactionError"]}
            )
        return "done"

    assert await in_own_transaction(manager, "trying", work) == "done"
    assert len(tried) == 3


async def test_a_server_without_transactions_is_told_of_and_written_to(
    lonely_mongod_uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with MongoDBManager(uri=lonely_mongod_uri) as manager:
        formulas, strategies = MongoDBFormulaRepository(manager), MongoDBStrategyRepository(manager)
        formula = await formulas.save(make_formula())
        with caplog.at_level(logging.WARNING):
            saved = await strategies.save(make_strategy(entry_formula_id=formula.id))
            await strategies.save(make_strategy(entry_formula_id=str(ObjectId())))
        assert caplog.text.count("no transactions") == 1
        assert await strategies.get_by_formula(str(formula.id)) == [saved]
        with pytest.raises(InUse):
            await formulas.delete(str(formula.id))
        assert await strategies.delete(str(saved.id))
        assert await formulas.delete(str(formula.id))


@pytest.fixture
async def lonely_mongod_uri(
    tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Callable[[], int]
) -> AsyncIterator[str]:
    """A mongod of its own that is no replica set."""
    from jts_storage.local_servers.mongod import find_mongod

    folder, port = tmp_path_factory.mktemp("alone"), unused_tcp_port_factory()
    server = await asyncio.create_subprocess_exec(
        *(str(find_mongod()), "--dbpath", str(folder), "--bind_ip", "127.0.0.1"),
        *("--port", str(port), "--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield f"mongodb://127.0.0.1:{port}"
    finally:
        server.terminate()
        await server.wait()
