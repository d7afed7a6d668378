"""Conditions of MongoDB on documents in memory: the comparisons that queries of services use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bson import Decimal128

from jts_storage.errors import InvalidData
from jts_storage.mongo.stored import at_path


def meets(document: Mapping[str, Any], condition: Mapping[str, Any]) -> bool:
    """Whether a stored document meets a condition.

    :raises InvalidData: the condition has an operator that is not known here.
    """
    return all(_meets(document, name, wanted) for name, wanted in condition.items())


def _meets(document: Mapping[str, Any], name: str, wanted: Any) -> bool:
    if name == "$and":
        return all(meets(document, each) for each in wanted)
    if name == "$or":
        return any(meets(document, each) for each in wanted)
    if name == "$nor":
        return not any(meets(document, each) for each in wanted)
    value = at_path(document, name)
    if isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted):
        return all(_compares(value, operator, each) for operator, each in wanted.items())
    return _is(value, wanted)


def _compares(value: Any, operator: str, wanted: Any) -> bool:
    if operator == "$not":
        return not all(_compares(value, each, of) for each, of in wanted.items())
    compare = _OPERATORS.get(operator)
    if compare is None:
        raise InvalidData(
            f"the twin in memory does not know {operator}",
            field="where",
            remedy=f"Use {', '.join(sorted(_OPERATORS))}, $and, $or, or a real store.",
        )
    return compare(value, wanted)


def _is(value: Any, wanted: Any) -> bool:
    """Equal, or holding an equal item; MongoDB takes lists so."""
    if isinstance(value, list) and not isinstance(wanted, list):
        return any(_plain(item) == _plain(wanted) for item in value)
    return bool(_plain(value) == _plain(wanted))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Values of different kinds are in no order to each other."""

    def check(value: Any, wanted: Any) -> bool:
        try:
            return compare(_plain(value), _plain(wanted))
        except TypeError:
            return False

    return check


def _plain(value: Any) -> Any:
    return value.to_decimal() if isinstance(value, Decimal128) else value


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": _is,
    "$ne": lambda value, wanted: not _is(value, wanted),
    "$in": lambda value, wanted: any(_is(value, each) for each in wanted),
    "$nin": lambda value, wanted: not any(_is(value, each) for each in wanted),
    "$gt": _ordered(lambda value, wanted: bool(value > wanted)),
    "$gte": _ordered(lambda value, wanted: bool(value >= wanted)),
    "$lt": _ordered(lambda value, wanted: bool(value < wanted)),
    "$lte": _ordered(lambda value, wanted: bool(value <= wanted)),
    "$exists": lambda value, wanted: (value is not None) is bool(wanted),
}
