"""Formulas and strategies in MongoDB. The ports say what the methods promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar

from jts_storage.domain import checks
from jts_storage.domain.enums import FormulaCategory, member
from jts_storage.domain.formula import Formula
from jts_storage.domain.strategy import Strategy
from jts_storage.mongo import queries
from jts_storage.mongo.documents import (
    FORMULAS,
    STRATEGIES,
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

T = TypeVar("T")

_NAMES_SHOWN: Final = 10


class MongoDBFormulaRepository:
    """The collection ``formulas``.

    :param transaction: that of a unit of work, which every operation is to be part of.
    """

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None = None) -> None:
        self._manager = manager
        self._store = VersionedStore(
            manager,
            FORMULAS,
            transaction,
            DocumentMapper(Formula, formula_to_stored, formula_from_document),
        )
        self._search = FormulaSearch(self._store)

    async def get_by_id(self, formula_id: str) -> Formula | None:
        return await self._store.get(formula_id)

    async def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        wanted = member(FormulaCategory, category, "category")
        where = queries.in_category(self._store.model, wanted)
        return await self._store.entities(where, limit, after)

    async def get_by_tag(
        self, tag: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        where = queries.tagged(self._store.model, [checks.text(tag, "tag")])
        return await self._store.entities(where, limit, after)

    async def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        # Without any tag, "every one of none" matches nothing.
        return await self._store.entities(queries.tagged(self._store.model, tags), limit, after)

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        return await self._search.find(query, queries.count(limit))

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Formula]:
        return await self._store.entities({}, limit, after, strict=strict)

    async def save(self, formula: Formula) -> Formula:
        return await self._store.save(formula)

    async def save_many(self, formulas: Iterable[Formula]) -> Sequence[Formula]:
        return await self._store.save_many(formulas)

    async def delete(self, formula_id: str, *, force: bool = False) -> bool:
        identity = queries.object_id(formula_id)
        return identity is not None and await delete_unused(self._store, identity, force=force)


class MongoDBStrategyRepository:
    """The collection ``strategies``.

    :param transaction: that of a unit of work, which every operation is to be part of.
    """

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None = None) -> None:
        self._manager = manager
        self._store: ReferringStore[StrategyDocument, Strategy] = ReferringStore(
            manager,
            STRATEGIES,
            transaction,
            DocumentMapper(Strategy, strategy_to_stored, strategy_from_document),
        )

    async def get_by_id(self, strategy_id: str) -> Strategy | None:
        return await self._store.get(strategy_id)

    async def get_by_formula(
        self, formula_id: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Strategy]:
        identity = queries.object_id(formula_id)
        if identity is None:
            return []
        return await self._store.entities(
            queries.uses_formula(self._store.model, identity), limit, after
        )

    async def list(
        self, *, limit: int = 1_000, after: str | None = None, strict: bool = False
    ) -> Sequence[Strategy]:
        return await self._store.entities({}, limit, after, strict=strict)

    async def save(self, strategy: Strategy) -> Strategy:
        checks.instance(strategy, Strategy, "strategy")
        return await self._store.guarded([strategy], lambda store: store.save(strategy))

    async def save_many(self, strategies: Iterable[Strategy]) -> Sequence[Strategy]:
        given = checks.several(strategies, Strategy, STRATEGIES)
        return await self._store.guarded(given, lambda store: store.save_many(given))

    async def delete(self, strategy_id: str) -> bool:
        identity = queries.object_id(strategy_id)
        return identity is not None and await delete_unused(self._store, identity)
