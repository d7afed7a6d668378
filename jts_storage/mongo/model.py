"""Declared documents: what an entity is, the document that holds it, and the mapping."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar, cast, get_args, overload

from beanie.odm.fields import ExpressionField
from beanie.odm.operators.find.comparison import GT, GTE, LT, LTE, NE, Eq, In, NotIn
from beanie.odm.operators.find.logical import (
    And,
    LogicalOperatorForListOfExpressions,
    Nor,
    Or,
)
from bson import Decimal128, ObjectId, decode, encode

from jts_storage.domain.ids import new_document_id
from jts_storage.errors import InvalidConfiguration, InvalidData
from jts_storage.models.document_repository import (
    Condition,
    DocumentRepository,
    DocumentSource,
    DocumentWhere,
)
from jts_storage.models.mapper import Mapper
from jts_storage.models.round_trip import check_money, check_round_trip
from jts_storage.mongo.beanie_internals import refused_truth
from jts_storage.mongo.documents import Models, VersionedDocument
from jts_storage.mongo.held import as_held
from jts_storage.mongo.mappers import read_stored
from jts_storage.mongo.stored import CODEC, ID, Stored, check_stored_names, nested_model

E = TypeVar("E")
R = TypeVar("R")
D = TypeVar("D", bound=VersionedDocument)


class DocumentModel(Generic[E, R]):
    """A collection of a service: documents with versions, in the commit of all stores.

    The document is a subclass of `VersionedDocument` that names its collection, and its indexes.
    The entity is a dataclass with ``id: str | None`` and ``version: int``; if it has
    ``created_at`` and ``updated_at`` they are filled, too.

    :param references: fields that hold the id of a document of another collection, which then
        cannot be deleted: ``{"strategy_id": "strategies"}``.
    :param repository: a subclass of `DocumentRepository` with the service's own queries.
    :param examples: entities that the mapper is tried with, beside those the kit makes itself.
    :param floats: fields that look like money and are meant to be floats all the same.
    :raises InvalidConfiguration: saying what is wrong with the declaration.
    """

    store: Literal["mongo"] = "mongo"
    mode: Literal["document"] = "document"

    @overload
    def __init__(
        self: DocumentModel[E, DocumentRepository[E]],
        entity: type[E],
        document: type[D],
        mapper: Mapper[E, D],
        *,
        references: Mapping[str, str] = ...,
        examples: Iterable[E] = ...,
        floats: Collection[str] = ...,
    ) -> None: ...
    @overload
    def __init__(
        self,
        entity: type[E],
        document: type[D],
        mapper: Mapper[E, D],
        *,
        references: Mapping[str, str] = ...,
        repository: type[R],
        examples: Iterable[E] = ...,
        floats: Collection[str] = ...,
    ) -> None: ...
    def __init__(
        self,
        entity: type[E],
        document: type[D],
        mapper: Mapper[E, D],
        *,
        references: Mapping[str, str] | None = None,
        repository: Any = DocumentRepository,
        examples: Iterable[E] = (),
        floats: Collection[str] = (),
    ) -> None:
        self.entity: type[E] = entity
        self.document: type[VersionedDocument] = document
        self.mapper: Mapper[E, Any] = mapper
        self._repository = repository
        self.name = _checked_collection(document)
        check_stored_names(document)
        self.references = {
            _path(document, field): target for field, target in (references or {}).items()
        }
        _check_entity(self.name, entity)
        check_money(self.name, entity, _float_fields(document), floats)
        self.examples = tuple(check_round_trip(self.name, entity, self._there_and_back, examples))

    def __repr__(self) -> str:
        return f"DocumentModel({self.name!r})"

    def repository(self, source: DocumentSource[E]) -> R:
        return cast("R", self._repository(self, source))

    def key_of(self, entity: E) -> tuple[Any, ...]:
        saved: Any = entity
        return (saved.id,)

    def to_stored(self, entity: E, model: type[VersionedDocument]) -> dict[str, Any]:
        document: VersionedDocument = self.mapper.to_stored(entity)
        return document.to_stored()

    def from_document(self, document: Any) -> E:
        return self.mapper.from_stored(document)

    def condition(self, where: DocumentWhere) -> Condition:
        """A condition as MongoDB has it, its values as documents hold them."""
        with refused_truth(_refuse_truth):
            made = where(fields_of(self.document))
        if not isinstance(made, Mapping):
            raise InvalidData(
                "must be a condition",
                field="where",
                value=type(made).__name__,
                remedy=f"Compare fields with values. {_JOIN}",
            )
        condition: Condition = _as_stored(self.document, made)
        return condition

    def _there_and_back(self, entity: E) -> E:
        saved: Any = entity
        if saved.id is None:
            saved = replace(saved, id=new_document_id())
        stored = self.to_stored(saved, self.document)
        # Through BSON, which cuts microseconds and returns other types for some values.
        data = decode(encode(stored), CODEC)
        returned: Any = read_stored(self.document, self.from_document, data)
        original: Any = entity
        given: E = replace(returned, id=original.id)
        return given


class _Fields:
    """The fields of a document by name, each to be compared with a value; nested ones by dots."""

    def __init__(self, model: type[Stored], prefix: str = "") -> None:
        self._model, self._prefix = model, prefix

    def __getattr__(self, name: str) -> Any:
        info = self._model.model_fields.get(name)
        if info is None:
            raise InvalidData(
                f"{self._model.__name__} has no such field", field="where", value=name
            )
        path = self._prefix + self._model.path(name)
        inner = nested_model(info.annotation)
        return _Fields(inner[0], f"{path}.") if inner else _field(path)


_JOIN: Final = "Join conditions by &, | and ~, each in brackets: (f.a == 1) & (f.b > 2)."


def _refuse_truth() -> NoReturn:
    raise InvalidData(
        "joins conditions by Python's and, or, not, or a chain such as 1 < x < 3, which keep only"
        " one of them",
        field="where",
        remedy=_JOIN,
    )


class _Guard:
    """A condition, to be joined with others; none is true or false by itself."""

    def __bool__(self) -> bool:
        _refuse_truth()

    def __and__(self, other: Any) -> Any:
        return _guarded(And)(self, _condition(other))

    def __rand__(self, other: Any) -> Any:
        return _guarded(And)(_condition(other), self)

    def __or__(self, other: Any) -> Any:
        return _guarded(Or)(self, _condition(other))

    def __ror__(self, other: Any) -> Any:
        return _guarded(Or)(_condition(other), self)

    def __invert__(self) -> Any:
        return _guarded(Nor)(self)


@cache
def _guarded(operator: Any) -> Any:
    return type(operator.__name__, (_Guard, operator), {})


def _condition(value: Any) -> Mapping[str, Any]:
    """:raises InvalidData: it is none, such as the bool that ``f.price is None`` gives."""
    if not isinstance(value, Mapping):
        raise InvalidData("is joined with what is no condition", field="where", value=value)
    return value


def _compared_by(operator: Any) -> Any:
    def compare(self: Any, other: Any) -> Any:
        # Beanie compares the names of fields so, as keys of a query.
        if isinstance(other, ExpressionField):
            return str(self) == str(other)
        return _guarded(operator)(self, other)

    return compare


class _Field(ExpressionField):
    """A field whose comparisons are guarded, and which is no condition itself."""

    def __bool__(self) -> bool:
        _refuse_truth()

    def __getitem__(self, item: Any) -> Any:
        return _field(f"{self}.{item}")

    def __getattr__(self, item: str) -> Any:
        if item.startswith("_"):
            raise AttributeError(item)
        return self[item]

    def in_(self, values: Iterable[Any]) -> Any:
        """The field, or an item of its list, is one of these."""
        return _guarded(In)(self, _values(values))

    def not_in(self, values: Iterable[Any]) -> Any:
        """Not `in_`; documents without the field are found, too."""
        return _guarded(NotIn)(self, _values(values))

    __eq__ = _compared_by(Eq)
    __ne__ = _compared_by(NE)
    __lt__ = _compared_by(LT)
    __le__ = _compared_by(LTE)
    __gt__ = _compared_by(GT)
    __ge__ = _compared_by(GTE)
    __hash__ = ExpressionField.__hash__


def _values(given: Iterable[Any]) -> list[Any]:
    if isinstance(given, str | bytes | Mapping):
        raise InvalidData("is looked for among no list of values", field="where", value=given)
    return list(given)


_field: Any = _Field  # to a checker its constructor has no types


def fields_of(model: type[Stored]) -> Any:
    return _Fields(model)


def _as_stored(model: type[Stored], value: Any, path: str = "") -> Any:
    """Values of a condition as documents hold them; an id in text matches both of its forms.

    :raises InvalidData: a document holds no such value, or MongoDB compares nothing with it.
    """
    if isinstance(value, LogicalOperatorForListOfExpressions) and not value.expressions:
        raise InvalidData("joins no conditions", field="where", value=type(value).__name__)
    if isinstance(value, Mapping):
        # Plain text, since a field of Beanie equals whatever it is compared with.
        named = ((str(key), each) for key, each in value.items())
        return {
            key: _of_operator(key, _as_stored(model, each, path if key.startswith("$") else key))
            for key, each in named
        }
    if isinstance(value, list | tuple | set):
        return [_as_stored(model, each, path) for each in value]
    names_ids = path == ID or path in map(model.path, model.id_fields())
    if isinstance(value, str) and names_ids and ObjectId.is_valid(value):
        return ObjectId(value)
    return _compared(as_held(value, path or "where"), path or "where")


def _compared(value: Any, field: str) -> Any:
    if value != value or (isinstance(value, Decimal128) and value.to_decimal().is_nan()):
        raise InvalidData(
            "is compared with NaN, which is neither more nor less than a number",
            field=field,
            remedy="Keep None where there is no number, and ask for None.",
        )
    if value is not None and not isinstance(value, _COMPARED):
        raise InvalidData(
            f"is compared with a {type(value).__name__}, which no document holds", field=field
        )
    return value


_COMPARED: Final = (bool, int, float, str, bytes, Decimal128, datetime, ObjectId)
_JOINS: Final = frozenset({"$and", "$or", "$nor"})
_ORDERS: Final = frozenset({"$lt", "$lte", "$gt", "$gte"})


def _of_operator(name: str, value: Any) -> Any:
    if name == "$exists" and not isinstance(value, bool):
        raise InvalidData(
            "asks whether a field is there by a value that is neither True nor False",
            field="where",
            value=value,
        )
    if name in _JOINS and not _are_conditions(value):
        raise InvalidData("joins what is no condition", field="where", value=value)
    if name in _ORDERS and isinstance(value, list | dict):
        raise InvalidData("lists and documents are in no order", field="where", value=name)
    return value


def _are_conditions(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _checked_collection(document: type[Any]) -> str:
    if not issubclass(document, VersionedDocument):
        raise InvalidConfiguration(
            f"{document.__name__} is no document with a version",
            remedy="Make it a subclass of VersionedDocument.",
        )
    name = getattr(document, "collection", None)
    if not isinstance(name, str) or not name:
        raise InvalidConfiguration(
            f"{document.__name__} names no collection",
            remedy='Write collection: ClassVar[str] = "orders" into it.',
        )
    if "$" in name or "\0" in name or name.startswith(".") or name.endswith("."):
        raise InvalidConfiguration(
            f"{document.__name__} names the collection {name!r}, which MongoDB refuses",
            remedy="Use letters, digits and _.",
        )
    return name


def _path(document: type[Stored], field: str) -> str:
    try:
        return document.path(field)
    except KeyError:
        raise InvalidConfiguration(
            f"{document.__name__} has no field {field!r} to refer by",
            remedy=f"It has {', '.join(document.model_fields)}.",
        ) from None


def _check_entity(name: str, entity: type[Any]) -> None:
    known = dataclasses.fields(entity) if dataclasses.is_dataclass(entity) else ()
    missing = {"id", "version"} - {field.name for field in known}
    if missing:
        raise InvalidConfiguration(
            f"{entity.__name__}, which {name} holds, has no {' and no '.join(sorted(missing))}",
            remedy="Make it a dataclass with id: str | None = None and version: int = 1.",
        )


def _float_fields(document: type[Stored]) -> set[str]:
    return {
        name
        for name, info in document.model_fields.items()
        if float in (info.annotation, *get_args(info.annotation))
    }


_KITS_OWN: Final = Models()


def with_declared(models: Iterable[Any], documents: Models = _KITS_OWN) -> Models:
    """The documents of the kit and of declared models, with where these refer to others.

    :param documents: of the kit, perhaps with registered ones in their place.
    :raises InvalidConfiguration: one refers to a collection that nobody declares.
    """
    declared = [model for model in models if isinstance(model, DocumentModel)]
    found = replace(
        documents,
        declared={model.name: model.document for model in declared},
        referring={model.name: model.references for model in declared},
    )
    for model in declared:
        unknown = set(model.references.values()) - found.by_collection.keys()
        if unknown:
            raise InvalidConfiguration(
                f"{model.name} refers to {', '.join(sorted(unknown))}, which is no collection that"
                " is known",
                remedy=f"Known are {', '.join(found.by_collection)}.",
            )
    return found
