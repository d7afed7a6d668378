"""Single values of entities as they are stored, and back."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any

from bson import Decimal128, Int64, ObjectId

from jts_storage.domain.enums import ParameterType
from jts_storage.mongo.decimals import from_decimal128, to_decimal128


def reference(identity: str | None) -> ObjectId | None:
    return None if identity is None else ObjectId(identity)


def several(values: Any) -> Any:
    return values or ()


def id_text(reference: Any) -> str | None:
    return None if reference is None else str(reference)


def money(value: Decimal | None) -> Decimal128 | None:
    return None if value is None else to_decimal128(value)


def double(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def to_bson(value: Any) -> Any:
    return to_decimal128(value) if isinstance(value, Decimal) else value


def plain_value(value: Any) -> Any:
    """A stored value of any type as Python's own."""
    if isinstance(value, Decimal128):
        return from_decimal128(value)
    return int(value) if isinstance(value, Int64) else value


def as_type(value: Any, kind: ParameterType) -> Any:
    """A stored value of any type, without what storing a single kind of number did to it."""
    if isinstance(value, float):
        if kind is ParameterType.INT and value.is_integer():
            return int(value)
        if kind is ParameterType.DECIMAL:
            return decimal(value)
        return value
    return value if value is None else plain_value(value)


# These pass on what they cannot convert: the entity then refuses it, and names the field.


def decimal(value: Any) -> Any:
    if isinstance(value, Decimal128):
        return from_decimal128(value)
    if isinstance(value, float):
        return Decimal(repr(value))
    return value


def percentage(value: Any) -> Any:
    return _fifteen_digits(value) if isinstance(value, float) else decimal(value)


@lru_cache(maxsize=4_096)
def _fifteen_digits(value: float) -> Decimal:
    """A double holds 15 digits and gives them back; what it shows beyond is noise.

    Kept, since percentages and quantities are few.
    """
    return Decimal(f"{value:.15g}")


def figure(value: Any) -> Any:
    """A statistic; NaN and infinity are how others wrote one that is not defined."""
    if isinstance(value, Decimal128):
        value = float(from_decimal128(value))
    return None if isinstance(value, float) and not isfinite(value) else value


def whole(value: Any, default: int) -> Any:
    if value is None:
        return default
    number = plain_value(value)
    if isinstance(number, float | Decimal) and number == int(number):
        return int(number)
    return number
