"""What a database must look like: validators derived from the documents, and indexes."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from beanie import PydanticObjectId
from bson import json_util
from pydantic import BaseModel
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid

from jts_storage.errors import InvalidData
from jts_storage.mongo.documents import Models
from jts_storage.mongo.mappers import (
    backtest_from_document,
    formula_from_document,
    read_stored,
    strategy_from_document,
    trades_from_document,
)
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.revisions import DOCUMENT, HISTORIES, NUMBER, SINCE
from jts_storage.mongo.stored import ID, StoredDocument
from jts_storage.ports.schema import NOTHING, THERE, Difference

if TYPE_CHECKING:
    from jts_storage.mongo.manager import Database

_KITS_OWN: Final = Models()

STORE: Final = "mongo"
RULES: Final = {"validationLevel": "moderate", "validationAction": "error"}
"""How validators act: what was stored before and breaks one may still be updated."""

# What holds where a collection lists no rule.
_DEFAULT_RULES: Final = {"validationLevel": "strict", "validationAction": "error"}
_REMAKE: Final = (
    "jts-storage migrate stamp base --chain kit --store mongo"
    " && jts-storage migrate up --store mongo"
)

_BSON_TYPES: Final[dict[Any, str]] = {
    str: "string",
    bool: "bool",
    # What is written as one kind of number may well have been stored as another by JTS.
    int: "number",
    float: "number",
    Decimal: "number",
    datetime: "date",
    PydanticObjectId: "objectId",
    types.NoneType: "null",
}


_UNITS_OF_WORK = {
    "uow_journal": [],
    "uow_journal_chunks": [
        IndexModel([("entry", 1), ("kind", 1), ("n", 1)], name="uow_journal_chunks_entry")
    ],
    "uow_events": [IndexModel([("key", 1), ("version", 1), ("n", 1)], name="uow_events_key")],
    "uow_deliveries": [],
    "uow_consumers": [],
    "uow_leases": [],
    "uow_clock": [],
    "uow_references": [],
    "uow_outcomes": [],
    "uow_purges": [],
    "uow_history": [],
    "uow_cache": [],
    **{
        name: [
            IndexModel(
                [(DOCUMENT, 1), (SINCE, -1), (NUMBER, -1)], name=f"{name}_document", unique=True
            )
        ]
        for name in HISTORIES.values()
    },
}
"""Collections of the unit of work: they have indexes, but no document model."""


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """A collection as it should be."""

    name: str
    validator: dict[str, Any] | None
    indexes: tuple[IndexModel, ...]


def collection_schemas(models: Models = _KITS_OWN) -> tuple[CollectionSchema, ...]:
    """The collections of the kit, each with its indexes; those of documents with a validator."""
    documents = [
        CollectionSchema(name, {"$jsonSchema": json_schema(model)}, tuple(model.indexes()))
        for name, model in models.by_collection.items()
    ]
    plain = [CollectionSchema(name, None, tuple(made)) for name, made in _UNITS_OF_WORK.items()]
    return (*documents, *plain)


_SHOWN: Final = 5


def _readers(models: Models) -> dict[type[StoredDocument], Callable[[Any], object]]:
    return {
        models.formulas: formula_from_document,
        models.strategies: strategy_from_document,
        models.backtest_results: backtest_from_document,
        models.backtest_trades: trades_from_document,
    }


async def differences(
    db: Database, models: Models = _KITS_OWN, declared: Iterable[DocumentModel[Any, Any]] = ()
) -> list[Difference]:
    """Return how the collections of a database differ from the documents: options, rules, indexes.

    And which documents cannot be read: every one is looked at.

    :param declared: the models of services, which `models` has the documents of.
    """
    cursor = await db.list_collections()
    listed = {info["name"]: info async for info in cursor}
    views = {name for name, info in listed.items() if info.get("type") == "view"}
    present = {name: info.get("options", {}) for name, info in listed.items()}
    found: list[Difference] = []
    for schema in collection_schemas(models):
        if schema.name in views:
            found.append(_in_its_place(schema, present[schema.name], present.keys()))
        else:
            found += await _compare(db, schema, present.get(schema.name))
    readers = _readers(models) | {model.document: model.from_document for model in declared}
    for model, from_document in readers.items():
        if model.collection in present:
            found += await _unreadable(db, model, from_document)
    return found


def _in_its_place(
    schema: CollectionSchema, options: dict[str, Any], taken: Collection[str]
) -> Difference:
    """Say what makes a collection of a view, with all documents that the view shows."""
    name, new = schema.name, f"{schema.name}_rebuilt"
    while new in taken:
        new += "_"
    view, made = (f"db.getCollection({shown(each)})" for each in (name, new))
    steps = [
        f"db.createCollection({shown(new)}, {shown(_rules(schema))})",
        f"{view}.aggregate({shown([{'$merge': {'into': new}}])})",
        *(_index_made(made, index) for index in schema.indexes),
        f"{view}.drop()",
        f"{made}.renameCollection({shown(name)})",
    ]
    origin = shown(options.get("viewOn", ""))
    warning = (
        f"Nothing can be written to it. No document is lost: those of {origin} stay, and what the"
        " view shows of them is copied. One that breaks the validator stops it."
    )
    return Difference(
        STORE, name, "collection", "a collection", f"a view of {origin}", "; ".join(steps), warning
    )


def _index_made(collection: str, index: IndexModel) -> str:
    document = dict(index.document)
    key = dict(document.pop("key"))
    return f"{collection}.createIndex({shown(key)}, {shown(document)})"


async def _unreadable(
    db: Database, model: type[StoredDocument], from_document: Callable[[Any], object]
) -> list[Difference]:
    name = model.collection
    count, first = 0, ""
    ids: list[Any] = []
    async with db.get_collection(name).find({}) as cursor:
        async for document in cursor:
            try:
                read_stored(model, from_document, document)
            except InvalidData as exc:
                count += 1
                first = first or str(exc)
                ids = [*ids, document[ID]][:_SHOWN]
    if not count:
        return []
    where = shown({ID: {"$in": ids}})
    more = "" if count == len(ids) else f", then look again for the other {count - len(ids)}"
    return [
        Difference(
            STORE,
            name,
            "documents",
            "all readable",
            f"{count} unreadable ({first})",
            f"correct or delete them: db.getCollection({shown(name)}).find({where}){more}",
        )
    ]


async def _compare(
    db: Database, schema: CollectionSchema, options: dict[str, Any] | None
) -> list[Difference]:
    name = schema.name
    if options is None:
        is_kits = name in _UNITS_OF_WORK or name in _KITS_OWN.by_collection
        mend = _REMAKE if is_kits else _made(schema)
        return [Difference(STORE, name, "collection", THERE, NOTHING, mend)]
    cursor = await db.get_collection(name).list_indexes()
    found = {index["name"]: dict(index) async for index in cursor}
    return [*_compare_options(schema, options), *_compare_indexes(schema, found)]


def _compare_options(schema: CollectionSchema, options: dict[str, Any]) -> Iterator[Difference]:
    wanted = _rules(schema)
    rules = {"collMod": schema.name, **wanted}
    mend = f"db.runCommand({shown(rules)})"
    for option in sorted(wanted.keys() | options.keys()):
        should = wanted.get(option, NOTHING)
        has = options.get(option, _DEFAULT_RULES.get(option, NOTHING))
        if should == has:
            continue
        if option == "validator" and isinstance(has, dict):
            yield Difference(STORE, schema.name, option, *_where_apart(should, has), mend)
        else:
            remedy = mend if option in wanted else f"a new collection without {option}"
            yield Difference(STORE, schema.name, option, shown(should), shown(has), remedy)


def _compare_indexes(
    schema: CollectionSchema, found: dict[str, dict[str, Any]]
) -> Iterator[Difference]:
    collection = f"db.getCollection({shown(schema.name)})"
    wanted = {str(index.document["name"]): dict(index.document) for index in schema.indexes}
    for name, document in wanted.items():
        where = f"{schema.name}.{name}"
        options = {option: value for option, value in document.items() if option != "key"}
        create = f"{collection}.createIndex({shown(document['key'])}, {shown(options)})"
        if name not in found:
            yield Difference(STORE, where, "index", shown(document["key"]), NOTHING, create)
            continue
        mend = f"{collection}.dropIndex({shown(name)}); {create}"
        should, has = _index_options(document), _index_options(found[name])
        for option in sorted(should.keys() | has.keys()):
            expected, actual = (shown(side.get(option, NOTHING)) for side in (should, has))
            if expected != actual:
                yield Difference(STORE, where, f"index {option}", expected, actual, mend)
    for name in found.keys() - wanted.keys() - {"_id_"}:
        key = shown(_index_options(found[name])["key"])
        drop = f"{collection}.dropIndex({shown(name)})"
        yield Difference(STORE, f"{schema.name}.{name}", "index", NOTHING, key, drop)


def _index_options(index: dict[str, Any]) -> dict[str, Any]:
    """Return the options to compare; those of a text index in the form in which it was created."""
    options = {
        name: value
        for name, value in index.items()
        if name not in {"v", "ns", "name", "textIndexVersion", "background"}
    }
    options["key"] = dict(options["key"])
    if "_fts" in options["key"]:
        # The server keeps the fields by name, with their weights, in place of the key.
        others = {k: v for k, v in options["key"].items() if k not in {"_fts", "_ftsx"}}
        options["key"] = others | dict.fromkeys(sorted(options["weights"]), "text")
    elif "text" in options["key"].values():
        others = {k: v for k, v in options["key"].items() if v != "text"}
        fields = sorted(options["key"].keys() - others.keys())
        options["key"] = others | dict.fromkeys(fields, "text")
        weights = options.get("weights", {})
        options["weights"] = {name: weights.get(name, 1) for name in fields}
    if "weights" in options:
        options["weights"] = {k: int(v) for k, v in sorted(options["weights"].items())}
    return {name: value for name, value in options.items() if value is not False}


def _where_apart(should: Any, has: Any, path: str = "") -> tuple[str, str]:
    """The innermost part in which two rules differ, each side with its path."""
    if isinstance(should, dict) and isinstance(has, dict):
        apart = [k for k in [*should, *has] if should.get(k, NOTHING) != has.get(k, NOTHING)]
        if len(set(apart)) == 1:
            key = apart[0]
            inner = f"{path}.{key}".lstrip(".")
            return _where_apart(should.get(key, NOTHING), has.get(key, NOTHING), inner)
    return f"{path} {shown(should)}".strip(), f"{path} {shown(has)}".strip()


def shown(value: Any) -> str:
    """A value as mongosh takes it."""
    if value is NOTHING:
        return NOTHING
    text: str = json.dumps(value, default=json_util.default, ensure_ascii=False)
    return text


def _made(schema: CollectionSchema) -> str:
    """Write the statements with which a person creates a collection of a service."""
    indexes = (
        f"; db.getCollection({shown(schema.name)}).createIndex"
        f"({shown(dict(index.document['key']))}, {{name: {shown(index.document['name'])}}})"
        for index in schema.indexes
    )
    return f"db.createCollection({shown(schema.name)}, {shown(_rules(schema))}){''.join(indexes)}"


async def create_missing(db: Database, models: Models) -> None:
    """Create the collections of declared documents that are not there yet, with their indexes."""
    present = set(await db.list_collection_names())
    for schema in collection_schemas(models):
        if schema.name not in models.declared or schema.name in present:
            continue
        with suppress(CollectionInvalid):  # another process was faster
            await db.create_collection(schema.name, **_rules(schema))
        if schema.indexes:
            await db.get_collection(schema.name).create_indexes(list(schema.indexes))


async def ensure_schema(db: Database, models: Models = _KITS_OWN) -> None:
    """Create what is missing of collections and indexes, and set the validators.

    For migrations and tests, never for start-up. Doing it twice is harmless. Documents that were
    stored before and break a validator can still be read and updated.
    """
    for schema in collection_schemas(models):
        rules = _rules(schema)
        try:
            await db.create_collection(schema.name, **rules)
        except CollectionInvalid:  # it exists
            if rules:
                await db.command("collMod", schema.name, **rules)
        if schema.indexes:
            await db.get_collection(schema.name).create_indexes(list(schema.indexes))


def _rules(schema: CollectionSchema) -> dict[str, Any]:
    return {} if schema.validator is None else {"validator": schema.validator, **RULES}


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model as MongoDB's dialect of JSON Schema; fields it does not name are allowed."""
    named = {info.alias or field: info for field, info in model.model_fields.items()}
    named.pop(ID, None)  # MongoDB itself makes one where there is none
    properties = {name: _rule(info.annotation) for name, info in named.items()}
    required = [name for name, info in named.items() if info.is_required()]
    schema: dict[str, Any] = {"bsonType": "object", "properties": properties}
    return schema | ({"required": required} if required else {})


def _rule(annotation: Any) -> dict[str, Any]:
    if annotation is Any:
        return {}
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _rule(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return _union([_rule(part) for part in typing.get_args(annotation)])
    if origin is list:
        return {"bsonType": "array", "items": _rule(typing.get_args(annotation)[0])}
    if issubclass(annotation, Enum):
        return {"enum": [member.value for member in annotation]}
    if issubclass(annotation, BaseModel):
        return json_schema(annotation)
    return {"bsonType": _BSON_TYPES[annotation]}


def _union(rules: list[dict[str, Any]]) -> dict[str, Any]:
    """One rule for several that differ in their type: in practice a type, or null."""
    kinds = list(dict.fromkeys(rule["bsonType"] for rule in rules if "bsonType" in rule))
    merged: dict[str, Any] = {}
    for rule in rules:
        merged |= rule
    if "enum" in merged:
        return {"enum": [*merged["enum"], None]}
    return merged | {"bsonType": kinds if len(kinds) > 1 else kinds[0]}
