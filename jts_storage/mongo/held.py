"""Convert values of entities to what BSON documents store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal, DecimalException
from enum import Enum
from types import NoneType
from typing import Any, Final

from bson import Decimal128, ObjectId

from jts_storage.domain import checks
from jts_storage.errors import InvalidData
from jts_storage.mongo.decimals import to_decimal128

_HELD_AS_THEY_ARE: Final = frozenset({str, bool, float, NoneType})


def as_held(value: Any, field: str = "value") -> Any:
    """Money as Decimal128, a member of an enum as its value, a moment in UTC; lists of these alike.

    :raises InvalidData: a document would keep the value as another one, or not at all.
    """
    if type(value) in _HELD_AS_THEY_ARE:
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Decimal):
        return _money(value, field)
    if isinstance(value, datetime):
        return checks.utc(value, field)
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise InvalidData("has more than 64 bits", field=field, value=value)
        return value
    if isinstance(value, date):
        raise InvalidData(
            "is a day, which documents do not have",
            field=field,
            value=value.isoformat(),
            remedy="Keep its text, date.isoformat(), or a time in UTC.",
        )
    if isinstance(value, list | tuple | set | frozenset):
        return [as_held(each, field) for each in value]
    if isinstance(value, Mapping):
        return {name: as_held(each, f"{field}.{name}") for name, each in value.items()}
    return value


def _money(value: Decimal, field: str) -> Decimal128:
    try:
        return to_decimal128(value)
    except DecimalException as exc:
        raise InvalidData(
            "has more digits than a document keeps, which are 34", field=field, value=str(value)
        ) from exc


def object_id_of(value: Any, field: str) -> ObjectId | None:
    """:raises InvalidData: the value is no id."""
    if value is None or isinstance(value, ObjectId):
        return value
    return ObjectId(checks.document_id(value, field))
