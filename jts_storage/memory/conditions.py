"""Conditions of MongoDB on documents in memory: the comparisons that queries of services use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from bson import Decimal128, ObjectId

from jts_storage.errors import InvalidData

_MISSING: Final = object()


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
    values = list(_values_at(document, name.split(".")))
    if isinstance(wanted, Mapping) and any(str(key).startswith("$") for key in wanted):
        return all(_compares(values, operator, each) for operator, each in wanted.items())
    return _is(values, wanted)


def _values_at(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """What stands at a path; in a list of documents, of each of them."""
    if not path:
        yield value
    elif isinstance(value, Mapping):
        yield from _values_at(value.get(path[0], _MISSING), path[1:])
    elif isinstance(value, list):
        for item in value:
            if isinstance(item, Mapping):
                yield from _values_at(item, path)
    else:
        yield _MISSING


def _compares(values: Sequence[Any], operator: str, wanted: Any) -> bool:
    if operator == "$not":
        return not all(_compares(values, each, of) for each, of in wanted.items())
    compare = _OPERATORS.get(operator)
    if compare is None:
        raise InvalidData(
            f"the twin in memory does not know {operator}",
            field="where",
            remedy=f"Use {', '.join(sorted(_OPERATORS))}, $and, $or, or a real store.",
        )
    return compare(values, wanted)


def _is(values: Sequence[Any], wanted: Any) -> bool:
    """Equal, or holding an equal item; MongoDB takes lists so."""
    return any(_same(each, wanted) for each in _with_items(values))


def _with_items(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        yield value
        if isinstance(value, list):
            yield from value


def _same(value: Any, wanted: Any) -> bool:
    if _kind(value) != _kind(wanted):
        return False
    if value is _MISSING or value is None:
        return True
    if isinstance(value, list):
        return len(value) == len(wanted) and all(map(_same, value, wanted))
    if isinstance(value, Mapping):  # in which the order of fields counts
        return list(value) == list(wanted) and all(map(_same, value.values(), wanted.values()))
    return bool(_plain(value) == _plain(wanted))


def _ordered(
    compare: Callable[[Any, Any], bool], *, or_equal: bool
) -> Callable[[Sequence[Any], Any], bool]:
    """Values of different kinds are in no order to each other, and NaN is in none to any."""

    def holds(value: Any, wanted: Any) -> bool:
        kind = _kind(value)
        if kind != _kind(wanted):
            return False
        if kind == "null":
            return or_equal
        left, right = _plain(value), _plain(wanted)
        return left == left and compare(left, right)

    return lambda values, wanted: any(holds(each, wanted) for each in _with_items(values))


def _kind(value: Any) -> str:
    """The kind of values that a value is compared with; a flag is no number."""
    if value is None or value is _MISSING:
        return "null"
    return next(
        (name for name, types in _KINDS.items() if isinstance(value, types)), type(value).__name__
    )


_KINDS: Mapping[str, Any] = {
    "flag": bool,
    "number": int | float | Decimal128 | Decimal,
    "text": str,
    "moment": datetime,
    "id": ObjectId,
    "list": list,
    "document": Mapping,
}


def _plain(value: Any) -> Any:
    return value.to_decimal() if isinstance(value, Decimal128) else value


_OPERATORS: Mapping[str, Callable[[Sequence[Any], Any], bool]] = {
    "$eq": _is,
    "$ne": lambda values, wanted: not _is(values, wanted),
    "$in": lambda values, wanted: any(_is(values, each) for each in wanted),
    "$nin": lambda values, wanted: not any(_is(values, each) for each in wanted),
    "$gt": _ordered(lambda value, wanted: bool(value > wanted), or_equal=False),
    "$gte": _ordered(lambda value, wanted: bool(value >= wanted), or_equal=True),
    "$lt": _ordered(lambda value, wanted: bool(value < wanted), or_equal=False),
    "$lte": _ordered(lambda value, wanted: bool(value <= wanted), or_equal=True),
    "$exists": lambda values, wanted: any(each is not _MISSING for each in values) is wanted,
}
