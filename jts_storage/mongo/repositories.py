"""Formulas and strategies in MongoDB. The ports say what the methods promise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from jts_storage.domain import checks
from jts_storage.domain.enums import FormulaCategory, member
from jts_storage.domain.formula import Formula
from jts_storage.domain.results import Page
from jts_storage.domain.revision import Revision
from jts_storage.domain.strategy import Strategy
from jts_storage.mongo import queries
from jts_storage.mongo.as_of import DocumentsAsOf, RevisionsOf
from jts_storage.mongo.documents import (
    FORMULAS,
    STRATEGIES,
    FormulaDocument,
    StrategyDocument,
)
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.mappers import (
    formula_from_document,
    formula_to_stored,
    strategy_from_document,
    strategy_to_stored,
)
from jts_storage.mongo.references import ReferringStore, delete_unused
from jts_storage.mongo.search import FormulaSearch
from jts_storage.mongo.store import DocumentMapper, VersionedStore
from jts_storage.mongo.transaction import Transaction

E = TypeVar("E", covariant=True)

_ALL: Final = 2**31 - 1
_FORMULA: Final[DocumentMapper[FormulaDocument, Formula]] = DocumentMapper(
    Formula, formula_to_stored, formula_from_document
)
_STRATEGY: Final[DocumentMapper[StrategyDocument, Strategy]] = DocumentMapper(
    Strategy, strategy_to_stored, strategy_from_document
)


class _Documents(Protocol[E]):
    """Documents as they are, or as they were."""

    @property
    def model(self) -> type[Any]: ...

    async def get(self, identity: str) -> E | None: ...

    async def entities(
        self, where: Mapping[str, Any], limit: int, after: str | None, *, strict: bool = False
    ) -> list[Any]: ...


class _Formulas:
    """Reading formulas, but for the search, for which only those of now have an index."""

    def __init__(self, documents: _Documents[Formula]) -> None:
        self._documents = documents

    async def get_by_id(self, formula_id: str) -> Formula | None:
        return await self._documents.get(formula_id)

    async def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        wanted = member(FormulaCategory, category, "category")
        where = queries.in_category(self._documents.model, wanted)
        return await self._documents.entities(where, limit, after)

    async def get_by_tag(
        self, tag: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        where = queries.tagged(self._documents.model, [checks.text(tag, "tag")])
        return await self._documents.entities(where, limit, after)

    async def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        # Without any tag, "every one of none" matches nothing.
        where = queries.tagged(self._documents.model, tags)
        return await self._documents.entities(where, limit, after)

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Formula]:
        return await self._documents.entities({}, limit, after, strict=strict)


class MongoDBFormulaRepository(_Formulas):
    """The collection ``formulas``.

    A unit of work keeps revisions of what it changes; without one none are kept.

    :param transaction: that of a unit of work, which every operation is to be part of.
    """

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None = None) -> None:
        self._store = VersionedStore(manager, FORMULAS, transaction, _FORMULA)
        super().__init__(self._store)
        self._search = FormulaSearch(self._store)
        self._revisions = RevisionsOf(self._store)

    async def of_version(self, formula_id: str, version: int) -> Formula | None:
        return await self._revisions.of_version(formula_id, version)

    async def history(
        self, formula_id: str, *, limit: int = 1_000, after: Revision[Formula] | None = None
    ) -> Page[Revision[Formula]]:
        return await self._revisions.history(formula_id, limit, after)

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        return await self._search.find(query, queries.count(limit))

    async def save(self, formula: Formula) -> Formula:
        return await self._store.save(formula)

    async def save_many(self, formulas: Iterable[Formula]) -> Sequence[Formula]:
        return await self._store.save_many(formulas)

    async def delete(self, formula_id: str, *, force: bool = False) -> bool:
        identity = queries.object_id(formula_id)
        return identity is not None and await delete_unused(self._store, identity, force=force)


class FormulasAsOf(_Formulas):
    """A `FormulaReader` of the formulas as of a version."""

    def __init__(
        self, manager: MongoDBManager, version: int, is_kept: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(DocumentsAsOf(manager, FORMULAS, _FORMULA, version, is_kept))

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        wanted, size = queries.words(query), queries.count(limit)
        if not wanted or not size:
            return []
        where = queries.beginnings(self._documents.model, wanted)
        found = await self._documents.entities(where, _ALL, None)
        ranked = [(rank, each) for each in found if (rank := each.rank(query)) is not None]
        ranked.sort(key=lambda item: (item[0], str(item[1].id)))
        return [formula for _, formula in ranked[:size]]


class _Strategies:
    def __init__(self, documents: _Documents[Strategy]) -> None:
        self._documents = documents

    async def get_by_id(self, strategy_id: str) -> Strategy | None:
        return await self._documents.get(strategy_id)

    async def get_by_formula(
        self, formula_id: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Strategy]:
        identity = queries.object_id(formula_id)
        if identity is None:
            return []
        where = queries.uses_formula(self._documents.model, identity)
        return await self._documents.entities(where, limit, after)

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Strategy]:
        return await self._documents.entities({}, limit, after, strict=strict)


class MongoDBStrategyRepository(_Strategies):
    """The collection ``strategies``.

    A unit of work keeps revisions of what it changes; without one none are kept.

    :param transaction: that of a unit of work, which every operation is to be part of.
    """

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None = None) -> None:
        self._store = ReferringStore(manager, STRATEGIES, transaction, _STRATEGY)
        super().__init__(self._store)
        self._revisions = RevisionsOf(self._store)

    async def of_version(self, strategy_id: str, version: int) -> Strategy | None:
        return await self._revisions.of_version(strategy_id, version)

    async def history(
        self, strategy_id: str, *, limit: int = 1_000, after: Revision[Strategy] | None = None
    ) -> Page[Revision[Strategy]]:
        return await self._revisions.history(strategy_id, limit, after)

    async def save(self, strategy: Strategy) -> Strategy:
        checks.instance(strategy, Strategy, "strategy")
        return await self._store.guarded([strategy], lambda store: store.save(strategy))

    async def save_many(self, strategies: Iterable[Strategy]) -> Sequence[Strategy]:
        given = checks.several(strategies, Strategy, STRATEGIES)
        return await self._store.guarded(given, lambda store: store.save_many(given))

    async def delete(self, strategy_id: str) -> bool:
        identity = queries.object_id(strategy_id)
        return identity is not None and await delete_unused(self._store, identity)


class StrategiesAsOf(_Strategies):
    """A `StrategyReader` of the strategies as of a version."""

    def __init__(
        self, manager: MongoDBManager, version: int, is_kept: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(DocumentsAsOf(manager, STRATEGIES, _STRATEGY, version, is_kept))
