"""Values of entities as documents hold them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from typing import Any

from bson import ObjectId

from jts_storage.domain import checks
from jts_storage.mongo.decimals import to_decimal128


def as_held(value: Any) -> Any:
    """Money as Decimal128, a member of an enum as its value; lists of these alike."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return to_decimal128(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [as_held(each) for each in value]
    if isinstance(value, Mapping):
        return {name: as_held(each) for name, each in value.items()}
    return value


def object_id_of(value: Any, field: str) -> ObjectId | None:
    """:raises InvalidData: the value is no id."""
    if value is None or isinstance(value, ObjectId):
        return value
    return ObjectId(checks.document_id(value, field))
