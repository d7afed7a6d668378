"""Formulas: expressions with named, bounded parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from jts_storage.domain import checks, words
from jts_storage.domain.enums import FormulaCategory, ParameterType, member
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    from jts_storage.domain.strategy import Strategy

ParameterValue = int | float | Decimal | str | bool

# ``:name``, but neither in ``a:name`` nor in ``::name``.
_TOKEN = re.compile(r"(?<![\w:]):([^\W\d]\w*)")
_NUMERIC = frozenset({ParameterType.INT, ParameterType.FLOAT, ParameterType.DECIMAL})
_PLAIN = {ParameterType.INT: int, ParameterType.FLOAT: float}


@dataclass(frozen=True, slots=True)
class FormulaParameter:
    """A value that an expression names as ``:name``, with its type, default and bounds."""

    name: str
    data_type: ParameterType = ParameterType.FLOAT
    default_value: ParameterValue | None = None
    min_value: int | float | Decimal | None = None
    max_value: int | float | Decimal | None = None

    def __post_init__(self) -> None:
        _check_identifier(self.name)
        if type(self.data_type) is not ParameterType:
            kind = member(ParameterType, self.data_type, "data_type")
            object.__setattr__(self, "data_type", kind)
        if not self._is_plainly_within():
            self._check_numbers()

    def _is_plainly_within(self) -> bool:
        """Return whether default and bounds are 64-bit numbers of the very type, in their order."""
        least, value, most = self.min_value, self.default_value, self.max_value
        kind = _PLAIN.get(self.data_type)
        if kind is None or not type(least) is type(value) is type(most) is kind:
            return False
        return bool(-(2**63) <= least <= value <= most < 2**63)  # type: ignore[operator]

    def _check_numbers(self) -> None:
        for field in ("min_value", "max_value"):
            bound = getattr(self, field)
            if bound is None:
                continue
            if self.data_type not in _NUMERIC:
                raise InvalidData(
                    f"has no meaning for type {self.data_type.value}", field=field, value=bound
                )
            _number(bound, field)
        if (
            self.min_value is not None
            and self.max_value is not None
            and _is_below(self.max_value, self.min_value)
        ):
            raise InvalidData(
                f"must not be below min_value {self.min_value}",
                field="max_value",
                value=self.max_value,
            )
        if self.default_value is not None:
            self.check(self.default_value, "default_value")

    def check(self, value: object, field: str | None = None) -> ParameterValue:
        """`value`, if it has the parameter's type and lies within its bounds (both included)."""
        field = field or self.name
        if self.data_type is ParameterType.STRING:
            return checks.text(value, field)
        if self.data_type is ParameterType.BOOL:
            if not isinstance(value, bool):
                raise InvalidData("must be True or False", field=field, value=value)
            return value
        if self.data_type is ParameterType.INT:
            number: int | float | Decimal = checks.whole(value, field, least=-(2**63))
        elif self.data_type is ParameterType.DECIMAL:
            number = checks.decimal(value, field)
        else:
            number = _number(value, field)
        if self.min_value is not None and _is_below(number, self.min_value):
            raise InvalidData(f"must be at least {self.min_value}", field=field, value=value)
        if self.max_value is not None and _is_below(self.max_value, number):
            raise InvalidData(f"must be at most {self.max_value}", field=field, value=value)
        return number


@dataclass(frozen=True, slots=True)
class Formula:
    """A scan or trading formula.

    `id` is None until it is saved for the first time; `version` is the version that was read, and
    a save with an older one than the stored is a `Conflict`.
    """

    id: str | None = None
    name: str = ""
    expression: str = ""
    category: FormulaCategory = FormulaCategory.SCAN
    description: str | None = None
    tags: tuple[str, ...] = ()
    parameters: tuple[FormulaParameter, ...] = ()
    version: int = 1
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def __post_init__(self) -> None:
        store = object.__setattr__
        check_document_header(self)
        if not checks.text(self.expression, "expression").strip():
            raise InvalidData("must not be empty", field="expression")
        if type(self.category) is not FormulaCategory:
            store(self, "category", member(FormulaCategory, self.category, "category"))
        store(self, "tags", checks.names(self.tags, "tags"))
        store(self, "parameters", checks.several(self.parameters, FormulaParameter, "parameters"))
        names = [parameter.name for parameter in self.parameters]
        if len(names) > 1 and len(set(names)) < len(names):
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise InvalidData("must have one name each", field="parameters", value=twice)

    def rank(self, query: str) -> int | None:
        """Rank the match: 0 by its name alone, 1 by tags or description too, None if there is none.

        Every word of `query` must begin a word of it, whatever the case. Where some only begin
        within a word, as they may in Korean, Chinese and Japanese, it is 2 and 3.
        """
        wanted = words.words(query)
        if not wanted:
            return None
        in_name = words.words(self.name)
        everywhere = in_name | words.words(" ".join((self.description or "", *self.tags)))
        for rank, matches in ((0, words.begin), (2, words.are_within)):
            if matches(wanted, in_name):
                return rank
            if matches(wanted, everywhere):
                return rank + 1
        return None

    def with_parameters(self, /, **values: ParameterValue) -> str:
        """The expression with every ``:name`` replaced by the value given, or by its default.

        :raises InvalidData: a name is unknown, a value is missing without a default, has the
            wrong type or lies outside its bounds, or the expression uses an undeclared one.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in values.items():
            if name not in known:
                raise InvalidData(
                    f"formula {self.name!r} has no such parameter "
                    f"(it has {', '.join(known) or 'none'})",
                    field=name,
                    value=value,
                )
        texts = {name: _as_text(_value_of(parameter, values)) for name, parameter in known.items()}

        def replacement(match: re.Match[str]) -> str:
            name = match.group(1)
            if name not in texts:
                raise InvalidData(
                    f"the expression of {self.name!r} uses a parameter that is not declared",
                    field=name,
                )
            return texts[name]

        return _TOKEN.sub(replacement, self.expression)


def _check_identifier(name: object) -> None:
    is_short = isinstance(name, str) and len(name) <= checks.LONGEST_NAME
    if is_short and name.isascii() and name.isidentifier():  # type: ignore[attr-defined]
        return
    checked = checks.name(name, "name")
    if not _TOKEN.fullmatch(f":{checked}"):
        raise InvalidData("must be an identifier", field="name", value=checked)


def check_document_header(entity: Formula | Strategy) -> None:
    """Check and normalise what every versioned document begins with."""
    checks.given(entity, checks.document_id, "id")
    checks.name(entity.name, "name", longest=100_000)
    checks.given(entity, checks.text, "description")
    checks.whole(entity.version, "version", least=1)
    checks.given(entity, checks.utc, "created_at", "updated_at")


def _value_of(parameter: FormulaParameter, values: dict[str, ParameterValue]) -> ParameterValue:
    if parameter.name in values:
        return parameter.check(values[parameter.name])
    if parameter.default_value is None:
        raise InvalidData("needs a value: it has no default", field=parameter.name)
    return parameter.default_value


def _number(value: object, field: str) -> int | float | Decimal:
    if isinstance(value, Decimal):
        return checks.decimal(value, field)
    if isinstance(value, int) and not isinstance(value, bool):
        return checks.whole(value, field, least=-(2**63))
    return checks.finite(value, field)


def _is_below(number: int | float | Decimal, other: int | float | Decimal) -> bool:
    if type(number) is type(other):
        return number < other  # two floats are in the order of the decimals they print as
    return _as_written(number) < _as_written(other)


def _as_written(number: int | float | Decimal) -> int | Decimal:
    """A float as the decimal that it prints as: 0.1 lies within a bound of Decimal("0.1")."""
    return Decimal(repr(number)) if isinstance(number, float) else number


def _as_text(value: ParameterValue) -> str:
    if isinstance(value, float):
        value = _as_written(value)
    return format(value, "f") if isinstance(value, Decimal) else str(value)
