"""Formulas and strategies in MongoDB. The ports say what the methods promise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from bson import ObjectId

from jts_storage.domain import checks
from jts_storage.domain.enums import FormulaCategory, member
from jts_storage.domain.formula import Formula
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import InUse
from jts_storage.mongo import queries
from jts_storage.mongo.access import DocumentAccess
from jts_storage.mongo.documents import (
    FORMULAS,
    STRATEGIES,
    StrategyDocument,
)
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.mappers import (
    formula_from_document,
    formula_to_document,
    strategy_from_document,
    strategy_to_document,
)
from jts_storage.mongo.references import REFERENCES, References, in_use_or_deleted
from jts_storage.mongo.search import FormulaSearch
from jts_storage.mongo.store import Mapper, VersionedStore
from jts_storage.mongo.stored import ID
from jts_storage.mongo.transaction import Transaction, in_own_transaction

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
            Mapper(Formula, formula_to_document, formula_from_document),
        )
        self._strategies = DocumentAccess[StrategyDocument](manager, STRATEGIES, transaction)
        self._references = References(manager, REFERENCES, transaction)
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
        if identity is None:
            return False
        if force:
            return await self._store.delete(identity)
        if self._store.transaction is not None or not self._manager.has_transactions:
            return await self._delete_unused(identity)
        return await in_own_transaction(
            self._manager,
            f"deleting in {FORMULAS}",
            lambda own: MongoDBFormulaRepository(self._manager, own).delete(formula_id),
        )

    async def _delete_unused(self, identity: ObjectId) -> bool:
        async with self._store.turn():
            await self._refuse_if_used(identity)
            deleted = await self._store.delete(identity)
            if deleted and self._store.transaction is not None:
                await self._references.delete_formula(identity)
            return deleted

    async def _refuse_if_used(self, formula_id: ObjectId) -> None:
        model = self._strategies.model
        users = await self._strategies.find(
            queries.uses_formula(model, formula_id),
            limit=_NAMES_SHOWN + 1,
            projection=queries.only(model, "name"),
        )
        if users:
            name = model.path("name")
            names = ", ".join(repr(str(user.get(name))[:80]) for user in users[:_NAMES_SHOWN])
            more = " and others" if len(users) > _NAMES_SHOWN else ""
            raise InUse(
                f"formula {formula_id} cannot be deleted: used by {names}{more}.",
                remedy="Change those strategies first, or pass force=True.",
            )


class _StrategyStore(VersionedStore[StrategyDocument, Strategy]):
    """Strategies, whose saves keep the formulas that they begin to use from being deleted.

    :param deletions: how often those formulas had been deleted before the first attempt.
    """

    def __init__(
        self,
        manager: MongoDBManager,
        transaction: Transaction | None,
        deletions: Mapping[ObjectId, int] | None = None,
    ) -> None:
        super().__init__(
            manager,
            STRATEGIES,
            transaction,
            Mapper(Strategy, strategy_to_document, strategy_from_document),
        )
        self._references = References(manager, REFERENCES, transaction)
        self._deletions = deletions

    @property
    def state(self) -> Bson:
        return super().state | dict.fromkeys(self.model.formula_references(), 1)

    async def saving(
        self, documents: Sequence[Bson], states: Mapping[ObjectId, Mapping[str, Any]]
    ) -> None:
        if self.transaction is None:
            return
        begun: set[str] = set()
        for document in documents:
            before = states.get(document[ID])
            begun |= self.model.formulas_of(document) - self.model.formulas_of(before)
        formulas = list(map(ObjectId, begun))
        await self._references.use(formulas)
        if formulas and self._deletions is not None:
            deletions = await self._references.deletions(formulas)
            if deletions != self._deletions:
                raise in_use_or_deleted(formulas)


class MongoDBStrategyRepository:
    """The collection ``strategies``.

    :param transaction: that of a unit of work, which every operation is to be part of.
    """

    def __init__(self, manager: MongoDBManager, transaction: Transaction | None = None) -> None:
        self._manager = manager
        self._store = _StrategyStore(manager, transaction)
        self._references = References(manager, REFERENCES, transaction)

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
        return await self._guarded([strategy], lambda store: store.save(strategy))

    async def save_many(self, strategies: Iterable[Strategy]) -> Sequence[Strategy]:
        given = checks.several(strategies, Strategy, STRATEGIES)
        return await self._guarded(given, lambda store: store.save_many(given))

    async def delete(self, strategy_id: str) -> bool:
        identity = queries.object_id(strategy_id)
        return identity is not None and await self._store.delete(identity)

    async def _guarded(
        self, strategies: Sequence[Strategy], save: Callable[[_StrategyStore], Awaitable[T]]
    ) -> T:
        """Save in a transaction where a strategy begins to use a formula, else without one."""
        manager = self._manager
        if self._store.transaction is not None or not manager.has_transactions:
            return await save(self._store)
        begun = await self._begun(strategies)
        if not begun:
            return await save(self._store)
        deletions = await self._references.deletions(begun)
        return await in_own_transaction(
            manager,
            f"saving in {STRATEGIES}",
            lambda own: save(_StrategyStore(manager, own, deletions)),
        )

    async def _begun(self, strategies: Sequence[Strategy]) -> set[ObjectId]:
        """The formulas that the strategies refer to, and did not as they are stored."""
        identities = [ObjectId(each.id) for each in strategies if each.id and each.formula_ids]
        states = await self._store.states(identities)
        begun: set[str] = set()
        for each in strategies:
            stored = states.get(ObjectId(each.id)) if each.id else None
            begun |= each.formula_ids - self._store.model.formulas_of(stored)
        return set(map(ObjectId, begun))
