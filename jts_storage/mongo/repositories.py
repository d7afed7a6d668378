"""Formulas and strategies in MongoDB. The ports say what the methods promise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.domain import checks
from jts_storage.domain.enums import FormulaCategory, member
from jts_storage.domain.formula import Formula
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import InUse
from jts_storage.mongo import queries
from jts_storage.mongo.documents import FORMULAS, STRATEGIES
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.mappers import (
    formula_from_document,
    formula_to_document,
    strategy_from_document,
    strategy_to_document,
)
from jts_storage.mongo.search import FormulaSearch
from jts_storage.mongo.store import CollectionAccess, VersionedStore

_NAMES_SHOWN: Final = 10


class MongoDBFormulaRepository:
    """The collection ``formulas``.

    :param session: run every operation in the transaction of this session.
    """

    def __init__(self, manager: MongoDBManager, session: AsyncClientSession | None = None) -> None:
        self._store = VersionedStore[Formula](
            manager, FORMULAS, session, Formula, formula_to_document, formula_from_document
        )
        self._strategies = CollectionAccess(manager, STRATEGIES, session)
        self._search = FormulaSearch(self._store)

    async def get_by_id(self, formula_id: str) -> Formula | None:
        return await self._store.get(formula_id)

    async def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        value = member(FormulaCategory, category, "category").value
        return await self._store.entities({"category": value}, limit, after)

    async def get_by_tag(
        self, tag: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        return await self._store.entities({"tags": checks.text(tag, "tag")}, limit, after)

    async def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Formula]:
        # Without any tag, "every one of none" matches nothing.
        return await self._store.entities(queries.tagged(tags), limit, after)

    async def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        return await self._search.find(query, queries.count(limit))

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Formula]:
        return await self._store.entities({}, limit, after)

    async def save(self, formula: Formula) -> Formula:
        return await self._store.save(formula)

    async def save_many(self, formulas: Iterable[Formula]) -> Sequence[Formula]:
        return await self._store.save_many(formulas)

    async def delete(self, formula_id: str, *, force: bool = False) -> bool:
        identity = queries.object_id(formula_id)
        if identity is None:
            return False
        if not force:
            await self._refuse_if_used(identity)
        return await self._store.delete(identity)

    async def _refuse_if_used(self, formula_id: ObjectId) -> None:
        users = await self._strategies.find(
            queries.uses_formula(formula_id), limit=_NAMES_SHOWN + 1, projection={"name": 1}
        )
        if users:
            names = ", ".join(repr(str(user.get("name"))[:80]) for user in users[:_NAMES_SHOWN])
            more = " and others" if len(users) > _NAMES_SHOWN else ""
            raise InUse(
                f"formula {formula_id} cannot be deleted: used by {names}{more}.",
                remedy="Change those strategies first, or pass force=True.",
            )


class MongoDBStrategyRepository:
    """The collection ``strategies``.

    :param session: run every operation in the transaction of this session.
    """

    def __init__(self, manager: MongoDBManager, session: AsyncClientSession | None = None) -> None:
        self._store = VersionedStore[Strategy](
            manager, STRATEGIES, session, Strategy, strategy_to_document, strategy_from_document
        )

    async def get_by_id(self, strategy_id: str) -> Strategy | None:
        return await self._store.get(strategy_id)

    async def get_by_formula(
        self, formula_id: str, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Strategy]:
        identity = queries.object_id(formula_id)
        if identity is None:
            return []
        return await self._store.entities(queries.uses_formula(identity), limit, after)

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Strategy]:
        return await self._store.entities({}, limit, after)

    async def save(self, strategy: Strategy) -> Strategy:
        return await self._store.save(strategy)

    async def save_many(self, strategies: Iterable[Strategy]) -> Sequence[Strategy]:
        return await self._store.save_many(strategies)

    async def delete(self, strategy_id: str) -> bool:
        identity = queries.object_id(strategy_id)
        return identity is not None and await self._store.delete(identity)
