"""A declaration is tried when it is made: entities there and back, and no float for money."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeVar

from jts_storage.domain.ids import new_document_id
from jts_storage.errors import InvalidConfiguration, InvalidData, StorageError

E = TypeVar("E")

_MONEY = frozenset(
    {"amount", "balance", "capital", "cash", "close", "commission", "cost", "fee", "high", "low"}
    | {"notional", "open", "pnl", "price", "proceeds", "profit", "quantity", "value"}
)
_VALUES: dict[type, tuple[Any, ...]] = {
    bool: (True, False),
    int: (1, 7),
    str: ("a", "가나"),
    Decimal: (Decimal("1.25"), Decimal("70000")),
    float: (0.5, 2.0),
    datetime: (
        datetime(2026, 1, 2, 3, 4, 5, 6000, UTC),
        datetime(1999, 12, 31, tzinfo=UTC),
    ),
    date: (date(2026, 1, 2), date(1999, 12, 31)),
}


def check_money(
    name: str, entity: type[Any], float_columns: Collection[str], allowed: Collection[str]
) -> None:
    """:raises InvalidConfiguration: a float holds what is, or looks like, money."""
    hints = _hints(entity)
    for column in sorted(float_columns):
        is_exact = Decimal in _kinds(hints.get(column))
        looks_so = any(part in _MONEY for part in column.split("_"))
        if is_exact or (looks_so and column not in allowed):
            raise InvalidConfiguration(
                f"column {name}.{column} is a float, which cannot hold money exactly",
                remedy="Declare a Decimal."
                if is_exact
                else f'Declare a Decimal, or say floats=("{column}",) where it is no money.',
            )


def check_round_trip(
    name: str, entity: type[E], there_and_back: Callable[[E], E], examples: Iterable[E]
) -> list[E]:
    """The entities that the mapper was tried with: those given, and generated ones.

    :raises InvalidConfiguration: an entity comes back as another, naming the field.
    """
    refusals: list[Exception] = []
    tried: list[E] = []
    given = list(examples)
    for number, made in enumerate([*given, *_generated(entity, refusals)]):
        example = made
        try:
            if number >= len(given):
                example = _fitting(made, there_and_back)
            returned = there_and_back(example)
        except (StorageError, TypeError, ValueError, KeyError, AttributeError) as exc:
            raise InvalidConfiguration(
                f"the mapper of {name} cannot take {example!r}: {exc}",
                remedy="Every field of the entity needs a column or a field that can hold it.",
            ) from exc
        tried.append(example)
        if returned != example:
            raise _lost(name, example, returned)
    if not tried:
        why = f" ({refusals[0]})" if refusals else ""
        raise InvalidConfiguration(
            f"no {entity.__name__} could be made to try the mapper of {name} with{why}",
            remedy=f"Give some: examples=[{entity.__name__}(...)].",
        )
    return tried


def _fitting(example: E, there_and_back: Callable[[E], E]) -> E:
    """A generated entity, with smaller decimals where the columns are too narrow for its own."""
    fitting: Any = example
    for smaller in (Decimal("1.25"), Decimal("1.5"), Decimal(1)):
        try:
            there_and_back(fitting)
        except InvalidData:
            names = [f.name for f in dataclasses.fields(fitting)]
            decimals = [name for name in names if isinstance(getattr(fitting, name), Decimal)]
            fitting = replace(fitting, **dict.fromkeys(decimals, smaller))
        else:
            break
    made: E = fitting
    return made


def _lost(name: str, example: Any, returned: Any) -> InvalidConfiguration:
    fields = [f.name for f in dataclasses.fields(example)] if _is_dataclass(example) else []
    for field in fields:
        before, after = getattr(example, field), getattr(returned, field, None)
        if before != after:
            return InvalidConfiguration(
                f"the mapper of {name} loses {field}: {before!r} comes back as {after!r}",
                remedy="Map every field in both directions.",
            )
    return InvalidConfiguration(
        f"the mapper of {name} gives {returned!r} back for {example!r}",
        remedy="Map every field in both directions, and give the entity an __eq__.",
    )


def _generated(entity: type[E], refusals: list[Exception]) -> Iterator[E]:
    """Entities with two values in each field, and with each optional field left empty."""
    if not _is_dataclass(entity):
        return
    hints = _hints(entity)
    fields = [f for f in dataclasses.fields(entity) if f.init]  # type: ignore[arg-type]
    made = [{f.name: _value(f.name, hints.get(f.name), n) for f in fields} for n in range(2)]
    optional = [f.name for f in fields if types.NoneType in _kinds(hints.get(f.name))]
    made += [{**made[0], name: None} for name in optional]
    for values in made:
        if any(value is _NONE_KNOWN for value in values.values()):
            continue
        try:
            yield entity(**values)
        except Exception as exc:  # noqa: BLE001 - its own rules raise what they like
            refusals.append(exc)


_NONE_KNOWN = object()


def _value(field: str, hint: Any, number: int) -> Any:
    kinds = _kinds(hint)
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, Enum):
            members = list(kind)
            return members[number % len(members)]
    if str in kinds and (field == "id" or field.endswith("_id")):
        return new_document_id()
    for kind, values in _VALUES.items():
        if kind in kinds:
            return values[number]
    if kinds and typing.get_origin(hint) is tuple:
        return ()
    return None if types.NoneType in kinds else _NONE_KNOWN


def _kinds(hint: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _kinds(typing.get_args(hint)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for part in typing.get_args(hint) for kind in _kinds(part))
    return () if hint is None else (origin or hint,)


def _hints(entity: type[Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(entity, include_extras=True)
    except (NameError, TypeError):  # annotations of names that are imported for typing only
        return {}


def _is_dataclass(entity: Any) -> bool:
    return dataclasses.is_dataclass(entity)
