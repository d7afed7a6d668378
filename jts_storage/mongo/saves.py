"""One save of a formula or a strategy, guarded by the version and the times that were read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import InsertOne, UpdateOne

from jts_storage.domain.formula import Formula
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import Conflict
from jts_storage.mongo import queries
from jts_storage.mongo.documents import VersionedDocument
from jts_storage.mongo.stored import ID

Bson = dict[str, Any]

_TIMES: Final = ("created_at", "updated_at")
_CHECKED: Final[frozenset[type[Any]]] = frozenset({Formula, Strategy})


class VersionedEntity(Protocol):
    """An entity saved under an optimistic lock; it may have `created_at` and `updated_at` too."""

    @property
    def id(self) -> str | None: ...

    @property
    def version(self) -> int: ...


Versioned = TypeVar("Versioned", bound=VersionedEntity)


def stamped(entity: Versioned, **values: Any) -> Versioned:
    """The entity with these values in those of the fields that it has."""
    kept = {name: value for name, value in values.items() if hasattr(entity, name)}
    changed: Any = entity
    made: Versioned = replace(changed, **kept)
    return made


def marked(entity: Versioned, **values: Any) -> Versioned:
    """As `stamped`, for an id, a version and times that the kit makes itself.

    The kit's own entities were checked when they were made, and are not checked again: that took
    a third of saving a thousand.
    """
    kind: Any = type(entity)
    if kind not in _CHECKED:
        return stamped(entity, **values)
    made = object.__new__(kind)
    for name in kind.__slots__:
        value = values[name] if name in values else getattr(entity, name)
        object.__setattr__(made, name, value)
    marked_entity: Versioned = made
    return marked_entity


def shown(entity: VersionedEntity) -> str:
    """Name an entity in a message."""
    name = getattr(entity, "name", None)
    return repr(name[:80]) if isinstance(name, str) else str(entity.id)


def shown_of(collection: str, identity: object, entity: VersionedEntity) -> str:
    """Name the document of an entity in a message, by its id and, where it has one, its name."""
    name = f" ({shown(entity)})" if isinstance(getattr(entity, "name", None), str) else ""
    return f"{collection} {identity}{name}"


@dataclass(frozen=True, slots=True)
class Save(Generic[Versioned]):
    """One save: the entity as it will be, its document, and what it takes the place of.

    :param encoded: the document as it is sent.
    :param before: the entity as it was read; None for an insert.
    :param follows: it updates what an earlier save of the same batch has just stored.
    """

    model: type[VersionedDocument]
    saved: Versioned
    document: Bson
    encoded: RawBSONDocument
    before: Versioned | None
    follows: bool = False

    @property
    def identity(self) -> ObjectId:
        identity: ObjectId = self.document[ID]
        return identity

    @property
    def times(self) -> dict[str, datetime]:
        """The times of what was read, as far as they are known."""
        before = self.before
        if before is None or self.follows:
            return {}
        path = self.model.path
        times = {path(name): getattr(before, name, None) for name in _TIMES}
        return {name: moment for name, moment in times.items() if moment is not None}

    @property
    def says_when_created(self) -> bool:
        """Whether the time of creation is known, so that `where` looks at it, or is not kept."""
        return not hasattr(self.saved, "created_at") or self.model.path("created_at") in self.times

    @property
    def where(self) -> Bson:
        """The document, if it still is as it was read."""
        assert self.before is not None
        return queries.of_version(self.model, self.identity, self.before.version) | self.times

    @property
    def change(self) -> list[Bson] | Bson:
        return queries.replacement(self.model, self.document)

    def is_stored(self, document: Bson | None) -> bool:
        """Return whether the stored document is what this very save made of it."""
        if document is None:
            return False
        # The id of an insert was made for it, so whatever is there came from it.
        return self.before is None or _shows(
            document, queries.known_fields(self.model, self.document)
        )

    def replaces(self, state: Mapping[str, Any]) -> bool:
        """Return whether a stored state is the one that was read."""
        assert self.before is not None
        is_of_version = self.version_of(state) == self.before.version
        return is_of_version and all(state.get(name) == time for name, time in self.times.items())

    def request(self) -> InsertOne[Mapping[Any, Any]] | UpdateOne:
        if self.before is None:
            return InsertOne(self.encoded)
        return UpdateOne(self.where, self.change)

    def result(self, state: Mapping[str, Any] | None) -> Versioned:
        """Return what was saved, with the stored time of creation, which a caller cannot change.

        :param state: what was stored before, None for an insert.
        """
        if state is None:
            return self.saved
        created_at = state.get(self.model.path("created_at"))
        if getattr(self.saved, "created_at", None) == created_at:
            return self.saved
        return stamped(self.saved, created_at=created_at)

    def conflict(self, name: str, state: Mapping[str, Any] | None) -> Conflict:
        """The error of a save whose document is not what it takes the place of.

        :param name: of the collection.
        :param state: what is stored.
        """
        assert self.before is not None
        what = shown_of(name, self.identity, self.saved)
        if state is None:
            return Conflict(
                f"{what} cannot be updated: it is not stored.",
                remedy="It may have been deleted; save it without an id to store it anew.",
            )
        stored, read = f"version {self.version_of(state)}", str(self.before.version)
        if self.version_of(state) == self.before.version and not self.replaces(state):
            field = next(name for name, time in self.times.items() if state.get(name) != time)
            stored, read = f"{field} {state.get(field)}", str(self.times[field])
        return Conflict(
            f"{what} was changed by somebody else: {stored} is stored, {read} was read.",
            remedy="Read it again and repeat.",
        )

    def version_of(self, state: Mapping[str, Any]) -> Any:
        return state.get(self.model.path("version")) or 1


def not_yet_stored(
    saves: Sequence[Save[Versioned]], stored: Mapping[ObjectId, Bson]
) -> list[Save[Versioned]]:
    """The saves that are not stored, without those that a later save of the batch replaced."""
    reached: dict[ObjectId, int] = {}
    for save in saves:
        if save.is_stored(stored.get(save.identity)):
            reached[save.identity] = save.saved.version
    return [save for save in saves if save.saved.version > reached.get(save.identity, 0)]


def _shows(stored: Any, written: Any) -> bool:
    """Return whether `stored` holds everything of `written`, whatever else it holds."""
    if isinstance(written, dict):
        return isinstance(stored, dict) and all(
            _shows(stored.get(name), value) for name, value in written.items()
        )
    if isinstance(written, list):
        return (
            isinstance(stored, list)
            and len(stored) == len(written)
            and all(map(_shows, stored, written))
        )
    return bool(stored == written)
