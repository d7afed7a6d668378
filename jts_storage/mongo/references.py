"""Keeping a document from being deleted while another one that refers to it is saved.

MongoDB notices that two transactions write one document, not that one writes what the other has
looked for. So both write here, in a document of the one that is referred to: whoever comes second
has a conflict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from bson import ObjectId
from pymongo import UpdateOne

from jts_storage.errors import Conflict, InUse, StorageError
from jts_storage.mongo import queries
from jts_storage.mongo.access import CollectionAccess, DocumentAccess
from jts_storage.mongo.documents import VersionedDocument
from jts_storage.mongo.errors import ends_a_transaction
from jts_storage.mongo.manager import Bson
from jts_storage.mongo.saves import Save, VersionedEntity
from jts_storage.mongo.store import VersionedStore
from jts_storage.mongo.stored import ID, ids_at
from jts_storage.mongo.transaction import in_own_transaction

T = TypeVar("T")
V = TypeVar("V", bound=VersionedDocument)
Versioned = TypeVar("Versioned", bound=VersionedEntity)

REFERENCES: Final = "uow_references"

_DUPLICATE_KEY: Final = 11000
_NAMES_SHOWN: Final = 10


class References(CollectionAccess):
    """The collection ``uow_references``: how often each document was put to use or deleted."""

    async def use(self, identities: Iterable[ObjectId]) -> None:
        """Note that others begin to refer to the documents.

        :raises Conflict: another transaction does the same, or deletes one of them.
        """
        await self._count("uses", identities)

    async def delete(self, identity: ObjectId) -> None:
        """Note that the document is deleted.

        :raises Conflict: another transaction does the same, or begins to refer to it.
        """
        await self._count("deletions", [identity])

    async def deletions(self, identities: Iterable[ObjectId]) -> Mapping[ObjectId, int]:
        """Return how often each document was deleted, those never deleted left out."""
        where = {"_id": {"$in": list(identities)}, "deletions": {"$gt": 0}}
        collection, session = self.collection, self.session
        found = await self.repeat(
            "reading", lambda: collection.find(where, session=session).to_list()
        )
        return {each["_id"]: each["deletions"] for each in found}

    async def _count(self, what: str, identities: Iterable[ObjectId]) -> None:
        # Everybody in the same order, so that two transactions do not refuse each other.
        wanted = sorted(set(identities))
        if not wanted:
            return
        collection, session = self.collection, self.session
        updates: list[UpdateOne] = [
            UpdateOne({"_id": each}, {"$inc": {what: 1}}, upsert=True) for each in wanted
        ]
        try:
            await self.once("saving", lambda: collection.bulk_write(updates, session=session))
        except StorageError as exc:
            cause = exc.__cause__
            overtaken = isinstance(cause, Exception) and ends_a_transaction(cause)
            if isinstance(exc, Conflict) and (overtaken or exc.code == _DUPLICATE_KEY):
                raise in_use_or_deleted(wanted, exc.code) from cause
            raise


class ReferringStore(VersionedStore[V, Versioned]):
    """Documents whose saves keep those that they begin to refer to from being deleted."""

    _deletions: Mapping[ObjectId, int] | None = None

    def expecting(self, deletions: Mapping[ObjectId, int]) -> Self:
        """Refuse a save when what it begins to refer to was deleted more often than this.

        A transaction that is repeated reads anew, and would not notice what came in between.
        """
        self._deletions = deletions
        return self

    @property
    def _references(self) -> References:
        return References(self.manager, REFERENCES, self.transaction)

    @property
    def paths(self) -> Collection[str]:
        """Where documents name the ones that they refer to."""
        return self.manager.models.references_of(self.name).keys()

    @property
    def state(self) -> Bson:
        return super().state | dict.fromkeys(self.paths, 1)

    def needs_state(self, save: Save[Versioned]) -> bool:
        refers = self.transaction is not None and ids_at(save.document, self.paths)
        return bool(refers) or super().needs_state(save)

    async def saving(
        self, documents: Sequence[Bson], states: Mapping[ObjectId, Mapping[str, Any]]
    ) -> None:
        if self.transaction is None or not self.paths:
            return
        begun = self._begun(documents, states)
        if not begun:
            return
        await self._references.use(begun)
        is_known = self._deletions is not None
        if is_known and await self._references.deletions(begun) != self._deletions:
            raise in_use_or_deleted(begun)

    async def guarded(
        self,
        entities: Sequence[Versioned],
        save: Callable[[ReferringStore[V, Versioned]], Awaitable[T]],
    ) -> T:
        """Save in a transaction where a document begins to refer to others, else without one."""
        if self.transaction is not None or not self.manager.has_transactions:
            return await save(self)
        documents = [self._mapper.to_stored(each, self.model) for each in entities]
        # New documents have no id yet, so nothing is stored that they could have referred to.
        states = await self.states(ObjectId(each.id) for each in entities if each.id)
        begun = self._begun(documents, states)
        if not begun:
            return await save(self)
        deletions = await self._references.deletions(begun)
        return await in_own_transaction(
            self.manager,
            f"saving in {self.name}",
            lambda own: save(
                ReferringStore(self.manager, self.name, own, self._mapper).expecting(deletions)
            ),
        )

    def _begun(
        self, documents: Sequence[Bson], states: Mapping[ObjectId, Mapping[str, Any]]
    ) -> list[ObjectId]:
        """Return the ids that the documents refer to, and their stored forms do not."""
        paths, begun = self.paths, set[str]()
        for document in documents:
            if named := ids_at(document, paths):
                begun |= named - ids_at(states.get(document[ID]), paths)
        return [ObjectId(each) for each in begun if ObjectId.is_valid(each)]


async def delete_unused(
    store: VersionedStore[Any, Any], identity: ObjectId, *, force: bool = False
) -> bool:
    """Delete a document that no other one refers to; whether there was something to delete.

    :raises InUse: one does, and `force` is not given.
    """
    manager = store.manager
    users = manager.models.users_of(store.name)
    if force or not users:
        return await store.delete(identity)
    if store.transaction is None and manager.has_transactions:
        return await in_own_transaction(
            manager,
            f"deleting in {store.name}",
            lambda own: delete_unused(store.within(own), identity),
        )
    async with store.writing():
        for name, paths in users.items():
            await _refuse_if_used(store, identity, name, paths)
        deleted = await store.delete(identity)
        # Written down, so that a save which begins to refer to it at this moment conflicts.
        if deleted and store.transaction is not None:
            await References(manager, REFERENCES, store.transaction).delete(identity)
        return deleted


async def _refuse_if_used(
    store: VersionedStore[Any, Any], identity: ObjectId, name: str, paths: Sequence[str]
) -> None:
    others = DocumentAccess[Any](store.manager, name, store.transaction)
    its_name = others.model.path("name") if "name" in others.model.model_fields else ID
    # One more than is shown, to know whether there are others.
    users = await others.find(
        queries.names_one(paths, identity), limit=_NAMES_SHOWN + 1, projection={its_name: 1}
    )
    if not users:
        return
    names = ", ".join(_shown(user.get(its_name)) for user in users[:_NAMES_SHOWN])
    more = " and others" if len(users) > _NAMES_SHOWN else ""
    kind = store.kind.__name__.lower()
    raise InUse(
        f"{kind} {identity} cannot be deleted: used by {names}{more}.",
        remedy=f"Change those {name} first, or pass force=True.",
    )


def _shown(name: Any) -> str:
    return str(name) if isinstance(name, ObjectId) else repr(str(name)[:80])


def in_use_or_deleted(identities: Iterable[ObjectId], code: int | str | None = None) -> Conflict:
    names = ", ".join(map(str, list(identities)[:10]))
    return Conflict(
        f"A document was put to use or deleted by somebody else at the same time (one of {names}).",
        remedy="Read again and repeat.",
        code=code,
    )
