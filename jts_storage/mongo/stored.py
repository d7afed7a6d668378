"""The base of the document models: their stored names, and documents made without validation.

A model is declared once, as pydantic and Beanie read it. What the repositories read and write
goes through `from_stored` and `to_stored`, which know the names of the model and validate
nothing: the entity that a mapper makes of a document checks every value anyway.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC
from functools import cache, partial
from operator import itemgetter
from typing import Any, ClassVar, Final, Self, TypeVar, cast

from beanie import PydanticObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo
from pymongo import IndexModel

from jts_storage.errors import InvalidConfiguration

S = TypeVar("S", bound="Stored")

ID: Final = "_id"
"""The name under which MongoDB itself keeps the id of a document."""


CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    # A date beyond Python's comes as a number, so that the mapper can name its document.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


def stored_alias(field: str) -> str:
    """camelCase; the two names that Beanie itself looks for stay what it expects."""
    return {"id": ID, "revision_id": "revision_id"}.get(field) or to_camel(field)


def at_path(stored: Mapping[str, Any], path: str) -> Any:
    """Return what stands at a path such as "stopLossRule.formulaId", None if nothing does."""
    value: Any = stored
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def ids_at(stored: Mapping[str, Any] | None, paths: Iterable[str]) -> frozenset[str]:
    """The ids that stand at these paths, also where they were stored as strings."""
    if stored is None:
        return frozenset()
    found = (at_path(stored, path) for path in paths)
    return frozenset(str(each).lower() for each in found if each is not None)


class Stored(BaseModel):
    """Fields under camelCase names; what JTS stored beside them is kept."""

    model_config = ConfigDict(alias_generator=stored_alias, populate_by_name=True, extra="allow")

    left_out_if_none: ClassVar[frozenset[str]] = frozenset()
    """Fields of the kit that JTS does not know: stored only where there is something to say."""

    @classmethod
    def path(cls, field: str) -> str:
        """The stored name of a field: "riskConfig.maxPositions" of "risk_config.max_positions".

        :raises KeyError: the model has no such field.
        """
        return _path(cls, field)

    @classmethod
    def id_fields(cls) -> frozenset[str]:
        """The fields that hold ids of documents."""
        return _id_fields(cls)

    @classmethod
    def nested(cls, field: str) -> type[Any]:
        """The model of the documents that a field holds."""
        return _nested(cls, field)

    @classmethod
    def nested_lists(cls) -> list[tuple[str, type[Stored]]]:
        """The stored names of the fields that are lists of nested documents, with their models."""
        plan = _plan(cls)
        return [(cls.path(field), model) for field, model, is_list in plan.nested if is_list]

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any], *, is_part: bool = False) -> Self:
        """A document with the values as they are stored, whatever their types.

        :param is_part: fields may be missing that were not asked for.
        :raises KeyError: a required field is missing.
        :raises TypeError: `stored`, or something nested in it, is no document.
        """
        return cast("Self", _reader(cls)(stored, is_part))

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A document of values that are fit to be stored, given by field.

        What a service added to a model of the kit is not given, and not stored.

        :raises TypeError: the model has no such field, or one without a default is missing.
        """
        plan = _plan(cls)
        if values.keys() != plan.known:
            plan.check(cls, values)
        return cast("Self", _maker(cls)(values))

    @classmethod
    def stored_of(cls, **values: Any) -> dict[str, Any]:
        """Return what `of(**values).to_stored()` would, with nested documents already stored.

        Saves make thousands of these, and a document between would double what they take.

        :raises TypeError: the model has no such field, or one without a default is missing.
        """
        plan = _plan(cls)
        names = plan.name_of
        try:
            stored = {names[field]: value for field, value in values.items()}
        except KeyError:
            plan.check(cls, values)
            raise
        if len(values) < len(names):
            plan.check(cls, values)
        for field, name in plan.left_out:
            if values.get(field) is None:
                stored.pop(name, None)
        return stored

    def to_stored(self) -> dict[str, Any]:
        """Return what `of` or `from_stored` was given, under the stored names."""
        plan = _plan(type(self))
        values = self.__dict__
        try:
            stored = dict(zip(plan.names, plan.values(values), strict=False))
        except KeyError:
            # `of` made it without the fields that a service has added, which have defaults.
            pairs = zip(plan.fields, plan.names, strict=True)
            stored = {name: values[field] for field, name in pairs if field in values}
        for alias, is_list in plan.nested_names:
            value = stored.get(alias)
            if value:
                stored[alias] = (
                    [each.to_stored() for each in value] if is_list else value.to_stored()
                )
        for name, alias in plan.left_out:
            if values.get(name) is None:
                stored.pop(alias, None)
        return stored


class StoredDocument(Stored):
    """A document of a collection of its own."""

    collection: ClassVar[str]
    """The collection's name, by which a registered subclass takes the place of the kit's model."""

    id: PydanticObjectId | None = None

    @classmethod
    def references(cls) -> Mapping[str, str]:
        """Return where documents name others by their id: stored names, each with a collection."""
        return {}

    @classmethod
    def indexes(cls) -> list[IndexModel]:
        """The indexes of the collection; a subclass adds its own to `super().indexes()`."""
        return []


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a model's documents are read and written by; worked out once for each model."""

    fields: tuple[str, ...]
    names: tuple[str, ...]
    known: frozenset[str]
    name_of: Mapping[str, str]
    take: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    nested: tuple[tuple[str, type[Stored], bool], ...]
    nested_names: tuple[tuple[str, bool], ...]
    left_out: tuple[tuple[str, str], ...]
    defaults: Mapping[str, Callable[[], Any]]

    def check(self, model: type[Stored], values: Mapping[str, Any]) -> None:
        """Check that all fields are known, and that those without a default are there.

        :raises TypeError: naming the fields.
        """
        wrong = values.keys() - self.known
        if wrong:
            raise TypeError(f"{model.__name__} has no field {', '.join(sorted(wrong))}")
        missing = self.known - values.keys() - self.defaults.keys()
        if missing:
            raise TypeError(f"{model.__name__} lacks {', '.join(sorted(missing))}")

    def with_defaults(self, stored: Mapping[str, Any], *, is_part: bool) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field, name in zip(self.fields, self.names, strict=True):
            if name in stored:
                values[field] = stored[name]
            elif field in self.defaults:
                values[field] = self.defaults[field]()
            elif is_part:
                values[field] = None
            else:
                raise KeyError(name)
        return values


@cache
def _plan(model: type[Stored]) -> _Plan:
    infos = model.model_fields
    fields = tuple(infos)
    names = tuple(info.alias or field for field, info in infos.items())
    nested = tuple(
        (field, *found)
        for field, info in infos.items()
        if (found := nested_model(info.annotation)) is not None
    )
    alias = dict(zip(fields, names, strict=True))
    return _Plan(
        fields=fields,
        names=names,
        known=frozenset(fields),
        name_of=alias,
        take=_taking(names),
        values=_taking(fields),
        nested=nested,
        nested_names=tuple((alias[field], is_list) for field, _, is_list in nested),
        left_out=tuple((field, alias[field]) for field in sorted(model.left_out_if_none)),
        defaults={field: _default(info) for field, info in infos.items() if not info.is_required()},
    )


def _default(info: FieldInfo) -> Callable[[], Any]:
    """Makes the default of a field."""
    factory = info.default_factory
    if factory is None or info.default_factory_takes_validated_data:
        return partial(info.get_default, call_default_factory=True)
    # Pydantic looks at its signature each time it is asked, for 0.2 ms.
    return cast("Callable[[], Any]", factory)


def _taking(keys: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    take = itemgetter(*keys)
    return take if len(keys) > 1 else lambda values: (take(values),)


@cache
def _id_fields(model: type[Stored]) -> frozenset[str]:
    return frozenset(
        name
        for name, info in model.model_fields.items()
        if PydanticObjectId in (info.annotation, *typing.get_args(info.annotation))
    )


@cache
def _path(model: type[Stored], field: str) -> str:
    first, _, rest = field.partition(".")
    name = model.model_fields[first].alias or first
    return f"{name}.{_path(_nested(model, first), rest)}" if rest else name


@cache
def _nested(model: type[Stored], field: str) -> type[Stored]:
    found = nested_model(model.model_fields[field].annotation)
    if found is None:
        raise KeyError(field)
    return found[0]


def check_stored_names(model: type[Stored], within: str = "") -> None:
    """Check that every field is stored under a name of its own, nested ones too.

    :raises InvalidConfiguration: two are stored under one name, of which one would be lost, or
        under names that differ by capitals alone.
    """
    seen: dict[str, str] = {}
    for field, info in model.model_fields.items():
        name = info.alias or field
        other = seen.setdefault(name.casefold(), field)
        if other != field:
            where = f"{within}{model.__name__}"
            raise InvalidConfiguration(
                f"{where} stores its fields {other!r} and {field!r} under one name,"
                f" {name!r}, or under names that differ by capitals alone",
                remedy="Rename one of the fields, or give it an alias of its own.",
            )
        inner = nested_model(info.annotation)
        if inner is not None and inner[0] is not model:
            check_stored_names(inner[0], f"{within}{model.__name__}.")


def nested_model(annotation: Any) -> tuple[type[Stored], bool] | None:
    """The model that a field's values have, and whether the field is a list of them."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return nested_model(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        parts = map(nested_model, typing.get_args(annotation))
        return next((part for part in parts if part is not None), None)
    if origin is list:
        inner = nested_model(typing.get_args(annotation)[0])
        return None if inner is None else (inner[0], True)
    if isinstance(annotation, type) and issubclass(annotation, Stored):
        return annotation, False
    return None


@cache
def _reader(model: type[Stored]) -> Callable[..., Any]:
    """`from_stored` of a model, with all that it needs at hand: lists make thousands of these."""
    plan = _plan(model)
    fields, take, make = plan.fields, plan.take, _maker(model)
    nested = [(field, _reader(inner), is_list) for field, inner, is_list in plan.nested]

    def read(stored: Mapping[str, Any], is_part: bool = False) -> Any:
        try:
            values = dict(zip(fields, take(stored), strict=False))
        except KeyError:
            values = plan.with_defaults(stored, is_part=is_part)
        for field, inner, is_list in nested:
            value = values[field]
            if value:
                values[field] = list(map(inner, value)) if is_list else inner(value)
        return make(values)

    return read


@cache
def _maker(model: type[S]) -> Callable[[dict[str, Any]], S]:
    """As `model_construct`, which takes five times as long to look for aliases and defaults."""
    new = model.__new__
    set_values, set_fields, set_extra, set_private = (
        vars(BaseModel)[slot].__set__
        for slot in (
            "__dict__",
            "__pydantic_fields_set__",
            "__pydantic_extra__",
            "__pydantic_private__",
        )
    )
    every_field = frozenset(model.model_fields)

    def make(values: dict[str, Any]) -> S:
        made = new(model)
        set_values(made, values)
        set_fields(made, every_field)
        set_extra(made, None)
        set_private(made, None)
        return made

    return make
