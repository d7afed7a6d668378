"""What a database must look like: validators derived from the documents, and indexes."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from beanie import PydanticObjectId
from pydantic import BaseModel
from pymongo import IndexModel
from pymongo.errors import CollectionInvalid

from jts_storage.mongo.documents import MODELS, indexes

if TYPE_CHECKING:
    from jts_storage.mongo.manager import Database

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


@dataclass(frozen=True, slots=True)
class CollectionSchema:
    """A collection as it should be."""

    name: str
    validator: dict[str, Any]
    indexes: tuple[IndexModel, ...]


def collection_schemas() -> tuple[CollectionSchema, ...]:
    """The collections of the kit, each with its ``$jsonSchema`` validator and its indexes."""
    by_name = indexes()
    return tuple(
        CollectionSchema(name, {"$jsonSchema": json_schema(model)}, tuple(by_name[name]))
        for name, model in MODELS.items()
    )


async def ensure_schema(db: Database) -> None:
    """Create what is missing of collections and indexes, and set the validators.

    For migrations and tests, never for start-up. Doing it twice is harmless. Documents that were
    stored before and break a validator can still be read and updated.
    """
    for schema in collection_schemas():
        rules: dict[str, Any] = {
            "validator": schema.validator,
            "validationLevel": "moderate",
            "validationAction": "error",
        }
        try:
            await db.create_collection(schema.name, **rules)
        except CollectionInvalid:
            await db.command("collMod", schema.name, **rules)
        await db.get_collection(schema.name).create_indexes(list(schema.indexes))


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model as MongoDB's dialect of JSON Schema; fields it does not name are allowed."""
    properties = {
        info.alias or name: _rule(info.annotation) for name, info in model.model_fields.items()
    }
    required = [
        info.alias or name for name, info in model.model_fields.items() if info.is_required()
    ]
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
