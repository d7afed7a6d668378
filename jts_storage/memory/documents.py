"""Formulas and strategies as the documents that MongoDB would hold, by its own mappers.

A document is written as BSON and read back, so that it shares nothing with an entity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from bson import decode, encode

from jts_storage.domain import checks
from jts_storage.domain.enums import FormulaCategory, member
from jts_storage.domain.formula import Formula
from jts_storage.domain.ids import new_document_id
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import Page
from jts_storage.domain.revision import Revision, not_kept
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import Conflict, InUse, InvalidData
from jts_storage.memory.conditions import meets
from jts_storage.memory.revisions import Former
from jts_storage.memory.tables import FORMULAS, REFERENCES, STRATEGIES, Session, StoredRow
from jts_storage.mongo.documents import FormulaDocument, Models, StrategyDocument
from jts_storage.mongo.mappers import (
    formula_from_document,
    formula_to_stored,
    read_stored,
    strategy_from_document,
    strategy_to_stored,
)
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.saves import VersionedEntity, shown, shown_of, stamped
from jts_storage.mongo.stored import CODEC, ID, ids_at

Document = TypeVar("Document", bound=VersionedEntity)


class _Versioned(Generic[Document]):
    """Reading pages and saving under optimistic locks, which formulas and strategies share."""

    table: str
    kind: type[Document]

    def __init__(self, session: Session, models: Models | None = None) -> None:
        """:param models: the documents of all collections, by which they refer to each other."""
        self._session = session
        self._models = models or Models()

    def to_stored(self, entity: Document) -> dict[str, Any]:
        raise NotImplementedError

    def read(self, row: StoredRow) -> Document:
        raise NotImplementedError

    async def save(self, entity: Document) -> Document:
        with self._session.exclusive():
            saved = self._next(entity)
            self._put(saved, self._row(saved))
        return saved

    async def save_many(self, entities: Iterable[Document]) -> Sequence[Document]:
        """All of them or, if one is refused, none."""
        given = checks.several(entities, self.kind, self.table)
        with self._session.exclusive():
            saved: dict[str, Document] = {}
            for entity in given:
                if entity.id in saved:
                    raise self._changed(entity, saved[entity.id].version)
                each = self._next(entity)
                assert each.id is not None
                saved[each.id] = each
            rows = [self._row(each) for each in saved.values()]
            for each, row in zip(saved.values(), rows, strict=True):
                self._put(each, row)
        return list(saved.values())

    async def get_by_id(self, identity: str) -> Document | None:
        row = self._session.get(self.table, known_as(identity))
        return None if row is None else self.read(row)

    async def of_version(self, identity: str, version: int) -> Document | None:
        checks.whole(version, "version", least=1)
        former = self._session.former(self.table, known_as(identity))
        states = [self.read(each.row) for each in former if each.row is not None]
        for entity in reversed(states):
            if entity.version == version:
                return entity
        now = await self.get_by_id(identity)
        if now is not None and now.version == version:
            return now
        later = [each.version for each in (*states, *([now] if now else []))]
        if any(each > version for each in later) or any(each.purged >= version for each in former):
            raise not_kept(self.table, identity, version)
        return None

    async def history(
        self, identity: str, *, limit: int = 1_000, after: Revision[Document] | None = None
    ) -> Page[Revision[Document]]:
        size = page_size(limit)
        former = self._session.former(self.table, known_as(identity))
        found = [self._revision(each) for each in former if not each.purged]
        if after is not None:
            last = _place(checks.instance(after, Revision, "after"))
            found = [each for each in found if _place(each) > last]
        return Page.first(size, found)

    def _revision(self, former: Former) -> Revision[Document]:
        entity = None if former.row is None else self.read(former.row)
        version = None if entity is None else entity.version
        return Revision(entity, version, Commit(former.since), former.source)

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Document]:
        return self._page(lambda row: True, limit, after)

    def _put(self, saved: Document, row: StoredRow) -> None:
        assert saved.id is not None
        paths = self._models.references_of(self.table)
        stored = self._session.get(self.table, saved.id) if paths else None
        for identity in ids_at(row, paths) - ids_at(stored, paths):
            _note_reference(self._session, identity)
        self._session.put(self.table, saved.id, row)

    def _row(self, saved: Document) -> StoredRow:
        what = f"{self.kind.__name__.lower()} {shown(saved)}"
        return as_row(self.to_stored(saved), what)

    def _delete(self, identity: str, *, force: bool = False) -> bool:
        known, kind = known_as(identity), self.kind.__name__.lower()
        with self._session.exclusive():
            users = self._models.users_of(self.table)
            for name, paths in () if force else users.items():
                rows = [row for row in self._session.scan(name) if known in ids_at(row, paths)]
                if rows:
                    names = ", ".join(_shown(row) for row in rows[:10])
                    raise InUse(
                        f"{kind} {identity} cannot be deleted: used by {names}.",
                        remedy=f"Change those {name} first, or pass force=True.",
                    )
            deleted = self._session.delete(self.table, known)
            if deleted and users and not force:
                _note_reference(self._session, known)
            return deleted

    def _next(self, entity: Document) -> Document:
        checks.instance(entity, self.kind, self.kind.__name__.lower())
        moment = checks.now()
        if entity.id is None:
            return stamped(
                entity, id=new_document_id(), version=1, created_at=moment, updated_at=moment
            )
        row = self._session.get(self.table, entity.id)
        if row is None:
            raise Conflict(
                f"{shown_of(self.table, entity.id, entity)} cannot be updated: it is not stored.",
                remedy="It may have been deleted; save it without an id to store it anew.",
            )
        stored = self.read(row)
        if stored.version != entity.version:
            raise self._changed(entity, stored.version)
        for name in ("created_at", "updated_at"):
            read = getattr(entity, name, None)
            if read is not None and read != getattr(stored, name):
                raise Conflict(
                    f"{shown_of(self.table, entity.id, entity)} was changed by somebody else:"
                    f" {name} {getattr(stored, name)} is stored, {read} was read.",
                    remedy="Read it again and repeat.",
                )
        created_at = getattr(stored, "created_at", None)
        return stamped(entity, version=entity.version + 1, created_at=created_at, updated_at=moment)

    def _changed(self, entity: Document, version: int) -> Conflict:
        return Conflict(
            f"{shown_of(self.table, entity.id, entity)} was changed by somebody else: "
            f"version {version} is stored, {entity.version} was read.",
            remedy="Read it again and repeat.",
        )

    def _page(
        self, belongs: Callable[[StoredRow], bool], limit: int, after: str | None
    ) -> Sequence[Document]:
        rows = [
            row for row in self._session.scan(self.table) if belongs(row) and is_behind(row, after)
        ]
        page = sorted(rows, key=lambda row: str(row[ID]))[: page_size(limit)]
        return [self.read(row) for row in page]


class InMemoryFormulaRepository(_Versioned[Formula]):
    table = FORMULAS
    kind = Formula

    def to_stored(self, entity: Formula) -> dict[str, Any]:
        return formula_to_stored(entity)

    def read(self, row: StoredRow) -> Formula:
        return read_stored(FormulaDocument, formula_from_document, row)

    async def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        name = FormulaDocument.path("category")
        value = member(FormulaCategory, category, "category").value
        return self._page(lambda row: bool(row[name] == value), limit, after)

    async def get_by_tag(
        self, tag: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        return await self.get_by_tags([tag], limit=limit, after=after)

    async def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        name = FormulaDocument.path("tags")
        wanted = {checks.text(tag, "tags") for tag in _strings(tags)}
        return self._page(lambda row: bool(wanted) and wanted.issubset(row[name]), limit, after)

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        checks.text(query, "query")
        found: list[tuple[int, str, Formula]] = []
        for row in self._session.scan(self.table):
            formula = self.read(row)
            rank = formula.rank(query)
            if rank is not None:
                found.append((rank, str(formula.id), formula))
        return [
            formula for *_, formula in sorted(found, key=lambda item: item[:2])[: page_size(limit)]
        ]

    async def delete(self, formula_id: str, *, force: bool = False) -> bool:
        return self._delete(formula_id, force=force)


class InMemoryStrategyRepository(_Versioned[Strategy]):
    table = STRATEGIES
    kind = Strategy

    def to_stored(self, entity: Strategy) -> dict[str, Any]:
        return strategy_to_stored(entity)

    def read(self, row: StoredRow) -> Strategy:
        return read_stored(StrategyDocument, strategy_from_document, row)

    async def get_by_formula(
        self, formula_id: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Strategy]:
        wanted = known_as(formula_id)
        return self._page(lambda row: wanted in StrategyDocument.formulas_of(row), limit, after)

    async def delete(self, strategy_id: str) -> bool:
        return self._delete(strategy_id)


class InMemoryDocuments(_Versioned[Document]):
    """The documents of a declared model."""

    def __init__(
        self, session: Session, model: DocumentModel[Document, Any], models: Models
    ) -> None:
        super().__init__(session, models)
        self.table, self.kind, self._model = model.name, model.entity, model

    def to_stored(self, entity: Document) -> dict[str, Any]:
        return self._model.to_stored(entity, self._model.document)

    def read(self, row: StoredRow) -> Document:
        return read_stored(self._model.document, self._model.from_document, row)

    async def get(self, identity: str) -> Document | None:
        return await self.get_by_id(identity)

    async def page(
        self, where: Mapping[str, Any], limit: int, after: str | None, *, strict: bool
    ) -> Sequence[Document]:
        return self._page(lambda row: meets(row, where), limit, after)

    async def delete(self, identity: str, *, force: bool) -> bool:
        return self._delete(identity, force=force)


def as_row(document: Mapping[str, Any], what: str | None = None) -> StoredRow:
    """The document as it would come back from a server.

    :param what: for the error, where the document's size is limited.
    :raises InvalidData: the document is too large.
    """
    data = encode(document)
    if what is not None:
        checks.document_size(len(data), what)
    return MappingProxyType(decode(data, CODEC))


def _place(revision: Revision[Any]) -> tuple[int, bool, int]:
    """The place among the revisions of a document; nothing follows a deletion in its commit."""
    return revision.commit.version, revision.is_deletion, revision.version or 0


def known_as(identity: object) -> str:
    """The id as it is stored; nothing is stored under what is no id."""
    is_id = isinstance(identity, str) and checks.is_document_id(identity)
    return str(identity).lower() if is_id else ""


def is_behind(row: StoredRow, after: object) -> bool:
    """Whether the row is on a page after the one that ended with that id."""
    known = known_as(after)
    return after is None or (bool(known) and str(row[ID]) > known)


def page_size(limit: object) -> int:
    return checks.whole(limit, "limit", below=2**31)


def _note_reference(session: Session, identity: str) -> None:
    session.put(REFERENCES, identity, MappingProxyType({"id": identity}))


def _shown(row: StoredRow) -> str:
    return repr(str(row["name"])[:80]) if "name" in row else str(row[ID])


def _strings(values: object) -> Iterable[object]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise InvalidData("must be several strings", field="tags", value=values)
    return values
