"""A service subclasses a document, adds fields and an index, renames one, and registers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from pydantic import Field
from pymongo import ASCENDING, IndexModel

from jts_storage.domain.backtest import BacktestSummary
from jts_storage.domain.enums import FormulaCategory, Metric
from jts_storage.errors import Conflict, InUse, InvalidConfiguration
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import (
    BacktestDocument,
    FormulaDocument,
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    StrategyDocument,
    TradeChunkDocument,
    ensure_schema,
    trade_sets,
)
from jts_storage.mongo.schema import differences
from jts_storage.mongo.stored import StoredDocument
from jts_storage.mongo.transaction import Transaction
from jts_storage.testing.factories import START, make_backtest, make_formula, make_strategy


class DeskFormula(FormulaDocument):
    desk: str | None = None
    category: FormulaCategory = Field(alias="kind")
    version: int | None = Field(1, alias="revision")

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        by_desk = [(cls.path("desk"), ASCENDING)]
        return [*super().indexes(), IndexModel(by_desk, name="formulas_desk")]


class DeskStrategy(StrategyDocument):
    name: str = Field(alias="title")
    entry_formula_id: Any = Field(None, alias="opensBy")


@pytest.fixture
async def manager(mongod: LocalMongod) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database="desk") as manager:
        manager.register(DeskFormula, DeskStrategy)
        await ensure_schema(manager.db, manager.models)
        yield manager
        await manager.client.drop_database("desk")


async def test_the_added_field_is_kept_found_and_indexed(manager: MongoDBManager) -> None:
    formulas = MongoDBFormulaRepository(manager)
    saved = await formulas.save(make_formula())
    raw = manager.get_collection("formulas")
    assert "formulas_desk" in await raw.index_information()
    assert await differences(manager.db, manager.models) == []
    assert {each.where for each in await differences(manager.db)} >= {"formulas.formulas_desk"}

    documents = await manager.documents()
    ours = await documents.formulas.get(saved.id)
    ours.desk = "seoul"
    await ours.replace()
    saved = await formulas.save(replace(saved, name="changed"))
    [found] = await documents.formulas.find(documents.formulas.desk == "seoul").to_list()
    assert (found.name, found.desk, str(found.id)) == ("changed", "seoul", saved.id)
    assert await formulas.get_by_id(str(saved.id)) == saved


async def test_what_runs_uses_the_new_names(manager: MongoDBManager) -> None:
    formulas, strategies = MongoDBFormulaRepository(manager), MongoDBStrategyRepository(manager)
    saved = await formulas.save(make_formula(category=FormulaCategory.EXIT))
    [saved] = await formulas.save_many([replace(saved, name="golden")])
    saved = await formulas.save(saved)
    stored = await manager.get_collection("formulas").find_one({})
    assert stored is not None
    assert (stored["kind"], stored["revision"]) == ("exit", 3)
    assert not {"category", "version"} & stored.keys()
    assert await formulas.get_by_category(FormulaCategory.EXIT) == [saved]
    assert await formulas.search("golden") == [saved]
    with pytest.raises(Conflict, match="version 3 is stored, 1 was read"):
        await formulas.save(replace(saved, version=1))

    user = await strategies.save(make_strategy("its user", entry_formula_id=saved.id))
    used = await manager.get_collection("strategies").find_one({})
    assert used is not None and used["opensBy"] == ObjectId(saved.id)
    assert used["title"] == "its user" and "name" not in used
    assert await strategies.get_by_formula(str(saved.id)) == [user]
    with pytest.raises(InUse, match="its user"):
        await formulas.delete(str(saved.id))


async def test_a_registered_document_is_used_within_transactions(manager: MongoDBManager) -> None:
    async with manager.client.start_session() as session:
        await session.start_transaction()
        formulas = MongoDBFormulaRepository(manager, Transaction(session))
        saved = await formulas.save(make_formula(category=FormulaCategory.EXIT))
        assert await formulas.get_by_category(FormulaCategory.EXIT) == [saved]
        await session.commit_transaction()
    [stored] = await manager.get_collection("formulas").find({}).to_list()
    assert stored["kind"] == "exit"


async def test_backtests_follow_their_model(mongod: LocalMongod) -> None:
    class Desk(BacktestDocument):
        run_at: Any = Field(alias="ranAt")
        strategy_id: Any = Field(alias="strategy")

    async with MongoDBManager(uri=mongod.uri, database="desk") as manager:
        manager.register(Desk)
        backtests = MongoDBBacktestResultRepository(manager)
        older = await backtests.save(make_backtest(run_at=START))
        newer = await backtests.save(make_backtest(run_at=START + timedelta(days=1)))
        expected: list[BacktestSummary] = [newer.summary(), older.summary()]
        assert await backtests.get_by_strategy(older.strategy_id) == expected
        page = await backtests.get_by_strategy(older.strategy_id, after=newer.id)
        assert page == expected[1:]
        assert await backtests.best(Metric.WIN_RATE, strategy_id=older.strategy_id) == expected
        stored = await manager.get_collection("backtest_results").find_one({})
        assert stored is not None and {"ranAt", "strategy"} <= stored.keys()
        await manager.client.drop_database("desk")


async def test_trades_in_chunks_follow_their_model(
    mongod: LocalMongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    class DeskTrades(TradeChunkDocument):
        trade_set: Any = Field(alias="heap")

    monkeypatch.setattr(trade_sets, "INLINE_BYTES", 0)
    async with MongoDBManager(uri=mongod.uri, database="desk") as manager:
        manager.register(DeskTrades)
        await ensure_schema(manager.db, manager.models)
        backtests = MongoDBBacktestResultRepository(manager)
        kept, deleted = [await backtests.save(make_backtest()) for _ in range(2)]
        chunks = manager.get_collection("backtest_trades")
        stored = await chunks.find({}).to_list()
        assert len(stored) == 2 and all("heap" in chunk for chunk in stored)
        await backtests.delete(str(deleted.id))
        left = await chunks.find({}).to_list()
        assert len(left) == 1 and left[0] in stored
        assert await backtests.get_by_id(str(kept.id)) == kept
        await manager.client.drop_database("desk")


def test_what_cannot_take_the_place_of_a_document_is_refused_in_words() -> None:
    class Other(StoredDocument):
        pass

    class Demanding(FormulaDocument):
        desk: str

    with pytest.raises(InvalidConfiguration, match=r"Other .*FormulaDocument"):
        MongoDBManager().register(Other)
    with pytest.raises(InvalidConfiguration, match=r"Demanding adds desk without a default"):
        MongoDBManager().register(Demanding)
