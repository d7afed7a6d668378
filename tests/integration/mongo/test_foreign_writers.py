"""Another program writes the same collections: what it changes, and what nobody can read."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from jts_storage.domain.enums import FormulaCategory, Metric
from jts_storage.errors import Conflict, InUse, InvalidData
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.schema import differences
from jts_storage.testing.factories import START, make_backtest, make_formula, make_strategy

NAN = float("nan")
BAD_FORMULAS: list[dict[str, Any]] = [
    {"category": "hunch"},
    {"tags": "trend"},
    {"version": NAN},
    {"_id": "6b0144f6a8406c24e214b125"},
    {"_id": "no id at all"},
    {"name": 5},
    {"createdAt": "yesterday"},
    {"_id": 7},
    {"_id": datetime(2024, 1, 1, tzinfo=UTC)},
]


async def insert(manager: MongoDBManager, name: str, *documents: dict[str, Any]) -> None:
    collection = manager.get_collection(name)
    await collection.insert_many(list(documents), bypass_document_validation=True)


def as_jts_stores(**fields: Any) -> dict[str, Any]:
    good = {"name": "cross", "expression": "e", "category": "entry", "tags": ["trend"]}
    return {"_id": ObjectId()} | good | fields


async def test_a_change_that_does_not_count_the_version_up_is_not_overwritten(
    manager: MongoDBManager, formulas: MongoDBFormulaRepository
) -> None:
    saved = await formulas.save(make_formula())
    assert saved.updated_at is not None
    raw = manager.get_collection("formulas")
    theirs = {"name": "theirs", "updatedAt": saved.updated_at + timedelta(milliseconds=1)}
    await raw.update_one({"_id": ObjectId(saved.id)}, {"$set": theirs})
    for save in (formulas.save(saved), formulas.save_many([saved])):
        with pytest.raises(Conflict, match=r"updatedAt .* is stored, .* was read"):
            await save
    found = await formulas.get_by_id(str(saved.id))
    assert found is not None and found.name == "theirs"
    assert (await formulas.save(replace(found, name="ours"))).version == 2


async def test_one_made_anew_under_the_same_version_is_not_overwritten(
    manager: MongoDBManager, formulas: MongoDBFormulaRepository
) -> None:
    saved = await formulas.save(make_formula())
    raw = manager.get_collection("formulas")
    stored = await raw.find_one({"_id": ObjectId(saved.id)})
    assert stored is not None
    for anew in (
        {"createdAt": START, "updatedAt": START},
        {"createdAt": START},
        {"updatedAt": None},
    ):
        await raw.replace_one({"_id": stored["_id"]}, stored | anew | {"name": "anew"})
        for save in (formulas.save(saved), formulas.save_many([saved])):
            with pytest.raises(Conflict):
                await save
        found = await formulas.get_by_id(str(saved.id))
        assert found is not None and found.name == "anew"


async def test_a_document_without_times_is_compared_by_its_version(
    manager: MongoDBManager, strategies: MongoDBStrategyRepository
) -> None:
    identity = ObjectId()
    await insert(manager, "strategies", {"_id": identity, "name": "legacy"})
    found = await strategies.get_by_id(str(identity))
    assert found is not None
    saved = await strategies.save(found)
    with pytest.raises(Conflict):
        await strategies.save(found)
    assert await strategies.get_by_id(str(identity)) == saved


# What cannot be read


@pytest.mark.parametrize("limit", [1, 2, 1_000])
async def test_lists_go_past_what_cannot_be_read(
    manager: MongoDBManager,
    formulas: MongoDBFormulaRepository,
    caplog: pytest.LogCaptureFixture,
    limit: int,
) -> None:
    good = []
    for number, bad in enumerate(BAD_FORMULAS):
        # Of a bad document, a good one lies on either side.
        await insert(manager, "formulas", as_jts_stores(**bad))
        document = as_jts_stores(name=f"cross {number}")
        await insert(manager, "formulas", document)
        good.append(str(document["_id"]))

    async def walked(read: Any) -> list[str]:
        ids: list[str] = []
        while page := await read(limit=limit, after=ids[-1] if ids else None):
            assert len(page) == limit or len(ids) + len(page) == len(good), "a page ended early"
            ids += [each.id for each in page]
        return ids

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert await walked(formulas.list) == sorted(good)
            assert await walked(
                lambda **page: formulas.get_by_category(FormulaCategory.ENTRY, **page)
            ) == sorted(good)
            assert await walked(lambda **page: formulas.get_by_tag("trend", **page)) == sorted(good)
            assert await walked(lambda **page: formulas.get_by_tags(["trend"], **page)) == sorted(
                good
            )
            found = await formulas.search("cross", limit=limit)
            assert len(found) == min(limit, len(good))
            assert {each.id for each in found} <= set(good)
    lines = [each for each in caplog.records if "cannot be read" in each.getMessage()]
    assert len(lines) == manager.unreadable.count <= len(BAD_FORMULAS)
    assert len({each.document for each in lines}) == len(lines)  # type: ignore[attr-defined]
    if limit == 1_000:
        assert manager.unreadable.count == len(BAD_FORMULAS)
    with pytest.raises(InvalidData):
        await formulas.list(strict=True)
    assert await formulas.get_by_id("6b0144f6a8406c24e214b125") is None


async def test_what_was_mended_is_not_counted_any_more(
    manager: MongoDBManager, formulas: MongoDBFormulaRepository
) -> None:
    document = as_jts_stores(category="hunch")
    await insert(manager, "formulas", document)
    assert await formulas.list() == []
    assert manager.unreadable.count == 1
    raw = manager.get_collection("formulas")
    await raw.update_one({"_id": document["_id"]}, {"$set": {"category": "entry"}})
    assert len(await formulas.list()) == 1
    assert manager.unreadable.count == 0


async def test_strategies_and_results_that_cannot_be_read_are_left_out(
    manager: MongoDBManager,
    strategies: MongoDBStrategyRepository,
    backtests: MongoDBBacktestResultRepository,
) -> None:
    formula = ObjectId()
    good = [await strategies.save(make_strategy(entry_formula_id=str(formula))) for _ in range(2)]
    for bad in ({"riskConfig": {"positionSizePct": NAN}}, {"name": 5}, {"stopLossRule": "x"}):
        await insert(manager, "strategies", {"name": "bad", "entryFormulaId": formula} | bad)
    assert {each.id for each in await strategies.list(limit=2)} == {each.id for each in good}
    assert len(await strategies.get_by_formula(str(formula), limit=2)) == 2
    with pytest.raises(InvalidData):
        await strategies.list(strict=True)

    results = [await backtests.save(replace(make_backtest(), run_at=START)) for _ in range(3)]
    strategy_id = results[0].strategy_id
    raw = manager.get_collection("backtest_results")
    stored = await raw.find_one({"_id": ObjectId(results[0].id)})
    assert stored is not None
    later = START + timedelta(days=1)
    bad_results: list[dict[str, Any]] = [
        {"config": None},
        {"runAt": "today"},
        {"metrics": {"winRate": "half"}},
        {"_id": "6b0144f6a8406c24e214b125"},
    ]
    for bad_result in bad_results:
        document = stored | {"_id": ObjectId(), "runAt": later} | bad_result
        await insert(manager, "backtest_results", document)
    ids = {each.id for each in results}
    assert {each.id for each in await backtests.list(limit=3)} == ids
    newest_first = sorted(results, key=lambda each: str(each.id), reverse=True)
    summaries = [each.summary() for each in newest_first]
    assert await backtests.get_by_strategy(strategy_id, limit=3) == summaries
    assert await backtests.get_by_strategy(strategy_id, after=newest_first[0].id) == summaries[1:]
    assert await backtests.latest(strategy_id) == newest_first[0]
    assert {each.id for each in await backtests.best(Metric.WIN_RATE, limit=3)} == ids
    with pytest.raises(InvalidData):
        await backtests.list(strict=True)


@pytest.mark.parametrize(
    "bad",
    [
        {"trades": "none"},
        {"tradeSet": ObjectId(), "tradeCount": 3},
        {"tradeSet": "x", "tradeCount": 3},
        {"tradeSet": ObjectId(), "tradeCount": "many"},
    ],
)
async def test_a_result_whose_trades_cannot_be_read_is_listed_and_refused_by_its_id(
    manager: MongoDBManager, backtests: MongoDBBacktestResultRepository, bad: dict[str, Any]
) -> None:
    good = await backtests.save(replace(make_backtest(), run_at=START))
    raw = manager.get_collection("backtest_results")
    stored = await raw.find_one({"_id": ObjectId(good.id)})
    assert stored is not None
    document = stored | {"_id": ObjectId(), "runAt": START + timedelta(days=1)} | bad
    await insert(manager, "backtest_results", document)
    identity = str(document["_id"])

    assert {each.id for each in await backtests.list(strict=True)} == {good.id, identity}
    assert len(await backtests.best(Metric.WIN_RATE)) == 2
    for refused in (backtests.get_by_id(identity), backtests.get_many([str(good.id), identity])):
        with pytest.raises(InvalidData) as caught:
            await refused
        assert caught.value.document == identity
    assert await backtests.latest(good.strategy_id) == good
    assert manager.unreadable.count == 1


@pytest.mark.parametrize("spelled", [str.lower, str.upper])
async def test_references_stored_as_strings_are_references(
    manager: MongoDBManager,
    formulas: MongoDBFormulaRepository,
    strategies: MongoDBStrategyRepository,
    backtests: MongoDBBacktestResultRepository,
    spelled: Any,
) -> None:
    saved = await formulas.save(make_formula())
    text = spelled(str(saved.id))
    for reference in (
        {"entryFormulaId": text},
        {"exitFormulaId": text},
        {"stopLossRule": {"type": "formula", "formulaId": text}},
    ):
        await manager.get_collection("strategies").delete_many({})
        await insert(manager, "strategies", {"name": "its user"} | reference)
        [strategy] = await strategies.get_by_formula(str(saved.id))
        assert strategy.formula_ids == {saved.id}
        with pytest.raises(InUse, match="its user"):
            await formulas.delete(str(saved.id))

    result = await backtests.save(make_backtest())
    raw = manager.get_collection("backtest_results")
    changed = {"$set": {"strategyId": spelled(result.strategy_id)}}
    await raw.update_one({"_id": ObjectId(result.id)}, changed, bypass_document_validation=True)
    summary = result.summary()
    assert await backtests.get_by_strategy(result.strategy_id) == [summary]
    assert await backtests.best(Metric.WIN_RATE, strategy_id=result.strategy_id) == [summary]


async def test_the_check_counts_what_cannot_be_read(manager: MongoDBManager) -> None:
    assert await differences(manager.db) == []
    await insert(manager, "formulas", as_jts_stores(), *(as_jts_stores(**b) for b in BAD_FORMULAS))
    await insert(manager, "strategies", {"name": 5})
    found = {each.where: each for each in await differences(manager.db)}
    assert set(found) == {"formulas", "strategies"}
    assert found["formulas"].actual.startswith(f"{len(BAD_FORMULAS)} unreadable")
    assert "strategies" in found["strategies"].remedy and "$oid" in found["strategies"].remedy
