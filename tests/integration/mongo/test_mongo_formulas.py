"""Formulas in a real mongod."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from bson import DatetimeMS, Decimal128, Int64, ObjectId

from jts_storage.domain.enums import FormulaCategory, ParameterType
from jts_storage.domain.formula import Formula, FormulaParameter
from jts_storage.domain.ids import new_document_id
from jts_storage.domain.strategy import StopLossRule, Strategy
from jts_storage.errors import Conflict, InvalidData, SchemaDrift
from jts_storage.mongo import (
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
    ensure_schema,
)
from jts_storage.mongo.transaction import Transaction


def formula(name: str = "rsi", **fields: Any) -> Formula:
    return Formula(name=name, **{"expression": "rsi(:n) < 30"} | fields)


RICH = formula(
    "골든크로스",
    category=FormulaCategory.ENTRY,
    description="two averages cross",
    tags=("trend", "추세"),
    parameters=(
        FormulaParameter("n", ParameterType.INT, 14, 1, 200),
        FormulaParameter("big", ParameterType.INT, 2**62),
        FormulaParameter("x", ParameterType.FLOAT, 0.1, 0, 1.5),
        FormulaParameter("whole", ParameterType.FLOAT, 5.0),
        FormulaParameter("d", ParameterType.DECIMAL, Decimal("1.23456789012345678901234567890123")),
        FormulaParameter("s", ParameterType.STRING, "$name"),
        FormulaParameter("b", ParameterType.BOOL, True),
        FormulaParameter("none"),
    ),
)


async def test_what_is_saved_comes_back_equal_and_of_the_same_types(
    formulas: MongoDBFormulaRepository,
) -> None:
    saved = await formulas.save(RICH)
    assert saved.id and saved.version == 1 and saved.created_at == saved.updated_at is not None
    found = await formulas.get_by_id(saved.id.upper())
    assert found == saved
    for before, after in zip(RICH.parameters, found.parameters, strict=True):
        assert type(after.default_value) is type(before.default_value)
        assert type(after.min_value) is type(before.min_value)


async def test_a_version_that_cannot_be_counted_up_is_refused(
    formulas: MongoDBFormulaRepository,
) -> None:
    last = formula(id=new_document_id(), version=2**63 - 1)
    with pytest.raises(InvalidData, match="must lie between") as raised:
        await formulas.save(last)
    assert raised.value.field == "version"
    with pytest.raises(InvalidData, match="must lie between"):
        await formulas.save_many([last])


async def test_an_update_counts_up_and_keeps_the_time_of_creation(
    formulas: MongoDBFormulaRepository,
) -> None:
    saved = await formulas.save(RICH)
    changed = await formulas.save(replace(saved, name="dead cross", parameters=(), created_at=None))
    assert changed.version == 2
    assert changed.created_at == saved.created_at
    assert await formulas.get_by_id(str(saved.id)) == changed


async def test_a_stale_version_is_a_conflict_and_changes_nothing(
    formulas: MongoDBFormulaRepository,
) -> None:
    first = await formulas.save(formula())
    second = await formulas.save(replace(first, name="second"))
    with pytest.raises(Conflict, match="version 2 is stored, 1 was read"):
        await formulas.save(replace(first, name="third"))
    assert await formulas.get_by_id(str(first.id)) == second


async def test_updating_what_was_deleted_is_a_conflict_and_does_not_bring_it_back(
    formulas: MongoDBFormulaRepository,
) -> None:
    saved = await formulas.save(formula())
    assert await formulas.delete(str(saved.id))
    with pytest.raises(Conflict, match="not stored"):
        await formulas.save(saved)
    assert await formulas.list() == []


@pytest.mark.parametrize(
    "identity", ["", "nonsense", "z" * 24, "6b0144f6a8406c24e214b125", "\x00", "\ud800"]
)
async def test_an_unknown_id_is_not_found(
    formulas: MongoDBFormulaRepository, identity: str
) -> None:
    assert await formulas.get_by_id(identity) is None
    assert await formulas.delete(identity) is False


async def test_by_category_tag_and_tags_in_pages(formulas: MongoDBFormulaRepository) -> None:
    stored = await formulas.save_many(
        formula(
            f"f{n}",
            category=FormulaCategory.EXIT if n % 2 else FormulaCategory.SCAN,
            tags=("even" if n % 2 == 0 else "odd", "all"),
        )
        for n in range(6)
    )
    by_id = sorted(stored, key=lambda each: str(each.id))
    exits = [each for each in by_id if each.category is FormulaCategory.EXIT]
    assert await formulas.get_by_category(FormulaCategory.EXIT) == exits
    assert await formulas.get_by_tag("odd", limit=2) == exits[:2]
    assert await formulas.get_by_tag("odd", after=exits[1].id) == exits[2:]
    assert await formulas.get_by_tags(["all", "odd"]) == exits
    assert await formulas.get_by_tags([]) == []
    assert await formulas.get_by_tags(["odd", "even"]) == []
    assert await formulas.get_by_tag("od") == []
    pages = await formulas.list(limit=4)
    assert [*pages, *await formulas.list(after=pages[-1].id)] == by_id
    assert await formulas.list(limit=0) == []
    assert await formulas.list(after="no id") == []


async def test_save_many_inserts_and_updates_in_order(formulas: MongoDBFormulaRepository) -> None:
    old = await formulas.save(formula("old"))
    saved = await formulas.save_many([formula("a"), replace(old, name="new"), formula("b")])
    assert [each.name for each in saved] == ["a", "new", "b"]
    assert [each.version for each in saved] == [1, 2, 1]
    assert saved[1].created_at == old.created_at
    for each in saved:
        assert await formulas.get_by_id(str(each.id)) == each


async def test_save_many_takes_one_formula_twice_if_its_versions_follow(
    formulas: MongoDBFormulaRepository,
) -> None:
    old = await formulas.save(formula("old"))
    saved = await formulas.save_many([replace(old, name="x"), replace(old, name="y", version=2)])
    assert await formulas.get_by_id(str(old.id)) == saved[1]
    with pytest.raises(Conflict):
        await formulas.save_many([saved[1], saved[1]])


async def test_save_many_with_a_stale_one_is_a_conflict(
    formulas: MongoDBFormulaRepository,
) -> None:
    old = await formulas.save(formula("old"))
    await formulas.save(old)
    gone = replace(formula("gone"), id=new_document_id())
    with pytest.raises(Conflict, match="old"):
        await formulas.save_many([formula("a"), old, gone])
    with pytest.raises(Conflict, match="gone"):
        await formulas.save_many([gone])


async def test_a_formula_in_use_is_deleted_by_force_only(
    formulas: MongoDBFormulaRepository, strategies: MongoDBStrategyRepository
) -> None:
    used = await formulas.save(formula("used"))
    for number, field in enumerate(["entry_formula_id", "exit_formula_id"]):
        await strategies.save(Strategy(name=f"user {number}", **{field: used.id}))  # type: ignore[arg-type]
    await strategies.save(Strategy(name="stops", stop_loss_rule=StopLossRule(formula_id=used.id)))
    with pytest.raises(Conflict) as caught:
        await formulas.delete(str(used.id))
    assert all(name in str(caught.value) for name in ("'user 0'", "'user 1'", "'stops'"))
    assert await formulas.get_by_id(str(used.id)) == used
    assert await formulas.delete(str(used.id), force=True)
    assert not await formulas.delete(str(used.id), force=True)


# Documents of JTS


async def test_a_document_of_jts_is_read_and_keeps_its_extra_fields(
    manager: MongoDBManager, formulas: MongoDBFormulaRepository
) -> None:
    raw = manager.get_collection("formulas")
    identity = ObjectId()
    await raw.insert_one(
        {
            "_id": identity,
            "name": "legacy",
            "expression": "close > :x",
            "category": "scan",
            "language": "korean",
            "__v": 3,
            "owner": {"team": "quant"},
            "parameters": [
                {"name": "x", "dataType": "decimal", "defaultValue": Int64(3), "label": "level"},
                {"name": "y", "dataType": "int", "defaultValue": 14.0, "minValue": Decimal128("1")},
                {"name": "z", "defaultValue": "text"},
            ],
        }
    )
    found = await formulas.get_by_id(str(identity))
    assert found is not None
    assert found.version == 1 and found.tags == () and found.updated_at is None
    assert [p.default_value for p in found.parameters] == [3, 14, "text"]
    assert [type(p.default_value) for p in found.parameters] == [int, int, str]

    saved = await formulas.save(replace(found, description="ours now"))
    stored = await raw.find_one({"_id": identity})
    assert stored is not None
    assert stored["version"] == 2 == saved.version
    assert stored["owner"] == {"team": "quant"} and stored["__v"] == 3
    assert stored["parameters"][0]["label"] == "level"
    assert stored["description"] == "ours now"
    assert await formulas.get_by_id(str(identity)) == saved


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ({"category": "hunch"}, "must be one of scan, entry"),
        ({"category": None}, "must be one of"),
        ({"name": 5}, "must be a string"),
        ({"name": None, "expression": 7}, "must be a string"),
        ({"tags": "abc"}, "must be several strings"),
        ({"parameters": [{"name": "n", "dataType": "number"}]}, "must be one of int"),
        ({"parameters": [5]}, "another type"),
        ({"parameters": [{}]}, "lacks the field 'name'"),
        ({"version": "one"}, "must be a whole number"),
        ({"createdAt": "yesterday"}, "must be a datetime"),
    ],
)
async def test_a_broken_document_is_invalid_data_with_its_id(
    manager: MongoDBManager,
    formulas: MongoDBFormulaRepository,
    broken: dict[str, Any],
    told: str,
) -> None:
    good = {"name": "n", "expression": "e", "category": "scan"}
    identity = ObjectId()
    raw = manager.get_collection("formulas")
    await raw.insert_one({"_id": identity} | good | broken, bypass_document_validation=True)
    with pytest.raises(InvalidData, match=told) as caught:
        await formulas.get_by_id(str(identity))
    assert caught.value.document == str(identity)
    assert str(identity) in str(caught.value)


async def test_a_date_beyond_python_is_invalid_data(
    manager: MongoDBManager, formulas: MongoDBFormulaRepository
) -> None:
    raw = manager.get_collection("formulas")
    document = {"name": "n", "expression": "e", "category": "scan", "createdAt": DatetimeMS(2**60)}
    identity = (await raw.insert_one(document)).inserted_id
    with pytest.raises(InvalidData) as caught:
        await formulas.get_by_id(str(identity))
    assert caught.value.document == str(identity)


# Bad input


@pytest.mark.parametrize(
    "name", ["$gt", "a.b", "{'$gt': ''}", "$where", "x" * 100_000, 'it\'s "q"']
)
async def test_odd_strings_are_data(formulas: MongoDBFormulaRepository, name: str) -> None:
    saved = await formulas.save(formula(name, tags=("$tag.x",), description=name))
    saved = await formulas.save(replace(saved, expression="$$ROOT"))
    assert await formulas.get_by_id(str(saved.id)) == saved
    assert await formulas.get_by_tag("$tag.x") == [saved]


@pytest.mark.parametrize("value", [{"$gt": ""}, {"$ne": None}, None, 5, ["a"], b"x"])
async def test_what_is_no_string_never_reaches_the_server(
    formulas: MongoDBFormulaRepository, value: Any
) -> None:
    await formulas.save(formula(tags=("a",)))
    assert await formulas.get_by_id(value) is None
    for query in (formulas.get_by_tag, formulas.search, formulas.get_by_category):
        with pytest.raises(InvalidData):
            await query(value)
    with pytest.raises(InvalidData):
        await formulas.get_by_tags([value])


@pytest.mark.parametrize("text", ["nul\x00", "surrogate\ud800"])
async def test_what_utf8_cannot_carry_is_refused(
    formulas: MongoDBFormulaRepository, text: str
) -> None:
    with pytest.raises(InvalidData):
        await formulas.get_by_tag(text)
    assert await formulas.search(text) == []


@pytest.mark.parametrize("limit", [-1, 1.5, "10", None, 2**40])
async def test_a_limit_that_is_no_count_is_refused(
    formulas: MongoDBFormulaRepository, limit: Any
) -> None:
    with pytest.raises(InvalidData, match="limit"):
        await formulas.list(limit=limit)


async def test_a_document_too_large_is_invalid_data(formulas: MongoDBFormulaRepository) -> None:
    large = formula(expression="가" * 1_000_000, description="나" * 1_000_000)
    saved = await formulas.save(large)
    assert await formulas.get_by_id(str(saved.id)) == saved
    too_large = replace(large, tags=tuple(f"{'다' * 250}{n}" for n in range(16_000)))
    with pytest.raises(InvalidData, match="a document may take 8,388,608"):
        await formulas.save(too_large)
    with pytest.raises(InvalidData, match="a document may take 8,388,608"):
        await formulas.save(replace(too_large, id=saved.id))


async def test_the_validator_refuses_and_is_named(
    manager: MongoDBManager, formulas: MongoDBFormulaRepository
) -> None:
    await manager.db.command(
        "collMod", "formulas", validator={"$jsonSchema": {"required": ["owner"]}}
    )
    try:
        with pytest.raises(InvalidData, match="owner") as caught:
            await formulas.save(formula())
        assert caught.value.code == 121
        with pytest.raises(InvalidData, match="owner"):
            await formulas.save_many([formula()])
    finally:
        await ensure_schema(manager.db)


async def test_a_duplicate_key_of_a_foreign_unique_index_is_a_conflict(
    manager: MongoDBManager, formulas: MongoDBFormulaRepository
) -> None:
    raw = manager.get_collection("formulas")
    await raw.create_index("name", unique=True, name="foreign")
    try:
        await formulas.save(formula("one"))
        with pytest.raises(Conflict, match="one"):
            await formulas.save(formula("one"))
    finally:
        await raw.drop_index("foreign")


# Search


@pytest.fixture
async def library(formulas: MongoDBFormulaRepository) -> MongoDBFormulaRepository:
    await formulas.save_many(
        [
            formula("Moving Average Cross", description="fast over slow", tags=("trend",)),
            formula("RSI oversold", description="momentum with moving window", tags=("osc",)),
            formula("이동평균 돌파", description="가격이 이동평균선을 넘는다", tags=("추세",)),
            formula("rsi_14-smooth", description="(a+b)*c", tags=("오실레이터", "Momentum")),
            formula("Straße", description="Crème brûlée"),
            formula("plain"),
        ]
    )
    return formulas


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("moving", ["Moving Average Cross", "RSI oversold"]),
        ("MOV", ["Moving Average Cross", "RSI oversold"]),
        ("mov win", ["RSI oversold"]),
        ("cross moving", ["Moving Average Cross"]),
        ("trend moving", ["Moving Average Cross"]),
        ("이동", ["이동평균 돌파"]),
        ("평균", ["이동평균 돌파"]),  # letters of Hangul may begin a word anywhere
        ("돌파 이동평균", ["이동평균 돌파"]),
        ("rsi", ["RSI oversold", "rsi_14-smooth"]),
        ("momentum", ["RSI oversold", "rsi_14-smooth"]),
        ("rsi momentum", ["RSI oversold", "rsi_14-smooth"]),
        ("verage", []),
        ("strasse", ["Straße"]),
        ("STRASS", ["Straße"]),
        ("brûlée", ["Straße"]),
        ("brulee", []),
        ("-rsi", ["RSI oversold", "rsi_14-smooth"]),
        ('"fast slow"', ["Moving Average Cross"]),
        ("a+b", ["rsi_14-smooth"]),
        (".*", []),
        ("", []),
        ("  ", []),
        ("plain nothing", []),
        ("x" * 100_000, []),
        ("oversold " * 10_000, ["RSI oversold"]),
    ],
)
async def test_search(library: MongoDBFormulaRepository, query: str, names: list[str]) -> None:
    found = await library.search(query)
    assert sorted(each.name for each in found) == sorted(names)


async def test_search_puts_names_first_then_the_score(
    formulas: MongoDBFormulaRepository,
) -> None:
    await formulas.save_many(
        [
            formula("a", description="gap gap gap gap"),
            formula("b", tags=("gap",)),
            formula("gapper"),
            formula("opening gap down with much more to say"),
            formula("gap"),
        ]
    )
    found = [each.name for each in await formulas.search("gap")]
    assert found == ["gap", "opening gap down with much more to say", "gapper", "b", "a"]
    assert [each.name for each in await formulas.search("gap", limit=1)] == ["gap"]
    assert [each.name for each in await formulas.search("gap", limit=3)] == found[:3]
    assert await formulas.search("gap", limit=0) == []


async def test_search_agrees_with_the_domain(library: MongoDBFormulaRepository) -> None:
    everything = await library.list()
    for query in ("m", "r", "rsi o", "c", "1", "14", "s t", "추", "ss", "st"):
        expected = {each.id for each in everything if each.rank(query) is not None}
        assert {each.id for each in await library.search(query)} == expected, query


async def test_search_without_the_text_index_finds_the_same(
    manager: MongoDBManager, library: MongoDBFormulaRepository
) -> None:
    await manager.get_collection("formulas").drop_index("formulas_text")
    try:
        found = await library.search("moving")
        async with manager.client.start_session() as session:
            await session.start_transaction()
            with pytest.raises(SchemaDrift, match="migrations"):
                await MongoDBFormulaRepository(manager, Transaction(session)).search("moving")
    finally:
        await ensure_schema(manager.db)
    assert [each.name for each in found] == ["Moving Average Cross", "RSI oversold"]
