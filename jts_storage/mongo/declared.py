"""The documents of declared models, committed or in the transaction of a unit of work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from jts_storage.models.document_repository import Condition
from jts_storage.mongo import queries
from jts_storage.mongo.manager import MongoDBManager
from jts_storage.mongo.model import DocumentModel
from jts_storage.mongo.references import ReferringStore, delete_unused
from jts_storage.mongo.store import DocumentMapper
from jts_storage.mongo.transaction import Transaction

E = TypeVar("E")


class DeclaredDocuments(Generic[E]):
    """A `DocumentSource` over MongoDB."""

    def __init__(
        self,
        manager: MongoDBManager,
        model: DocumentModel[E, Any],
        transaction: Transaction | None = None,
    ) -> None:
        mapper: DocumentMapper[Any, Any] = DocumentMapper(
            model.entity, model.to_stored, model.from_document
        )
        self._store = ReferringStore[Any, Any](manager, model.name, transaction, mapper)

    async def get(self, identity: str) -> E | None:
        found: E | None = await self._store.get(identity)
        return found

    async def page(
        self, where: Condition, limit: int, after: str | None, *, strict: bool
    ) -> Sequence[E]:
        return await self._store.entities(where, limit, after, strict=strict)

    async def save_many(self, entities: Sequence[E]) -> Sequence[E]:
        if len(entities) == 1:  # one round trip less than several at once
            return [await self._store.save(entities[0])]
        return await self._store.save_many(entities)

    async def delete(self, identity: str, *, force: bool) -> bool:
        wanted = queries.object_id(identity)
        return wanted is not None and await delete_unused(self._store, wanted, force=force)
