"""What the repositories share: reading pages, and saving under optimistic locks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from bson import ObjectId
from pymongo import InsertOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from jts_storage.domain import checks
from jts_storage.domain.formula import Formula
from jts_storage.domain.ids import new_document_id
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import Conflict
from jts_storage.mongo import queries
from jts_storage.mongo.errors import duplicate_of_id
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager

E = TypeVar("E")
T = TypeVar("T")
Versioned = TypeVar("Versioned", Formula, Strategy)

_STATE: Final = {"version": 1, "createdAt": 1, "updatedAt": 1}
_LARGEST_BATCH: Final = 10_000


class CollectionAccess:
    """A collection, through the manager's retries or within the transaction of a session.

    A transaction is repeated as a whole or not at all, so nothing in it is repeated here.
    """

    def __init__(
        self, manager: MongoDBManager, name: str, session: AsyncClientSession | None
    ) -> None:
        self.name = name
        self.session = session
        self._manager = manager

    @property
    def collection(self) -> Collection:
        return self._manager.get_collection(self.name)

    async def repeat(
        self,
        doing: str,
        operation: Callable[[], Awaitable[T]],
        again: Callable[[], Awaitable[T]] | None = None,
    ) -> T:
        """As `Retries.repeat`, unless a session forbids it."""
        if self.session is not None:
            return await self.once(doing, operation)
        return await self._manager.retries.repeat(f"{doing} in {self.name}", operation, again)

    async def once(self, doing: str, operation: Callable[[], Awaitable[T]]) -> T:
        return await self._manager.retries.once(f"{doing} in {self.name}", operation)

    async def find_one(
        self, where: Mapping[str, Any], projection: Mapping[str, Any] | None = None
    ) -> Bson | None:
        collection, session = self.collection, self.session
        return await self.repeat(
            "reading", lambda: collection.find_one(where, projection, session=session)
        )

    async def find(
        self,
        where: Mapping[str, Any],
        *,
        sort: Iterable[tuple[str, int]] = (("_id", 1),),
        limit: int,
        projection: Mapping[str, Any] | None = None,
    ) -> list[Bson]:
        if not limit:
            return []
        collection, session = self.collection, self.session

        async def read() -> list[Bson]:
            cursor = collection.find(
                where,
                projection,
                sort=list(sort),
                limit=limit,
                batch_size=min(limit, _LARGEST_BATCH),
                session=session,
            )
            return await cursor.to_list()

        return await self.repeat("reading", read)

    async def page(self, where: Mapping[str, Any], limit: int, after: str | None) -> list[Bson]:
        """Documents by id, from behind `after`; nothing lies behind what is no id."""
        queries.count(limit)
        if after is None:
            return await self.find(where, limit=limit)
        last = queries.object_id(after)
        if last is None:
            return []
        return await self.find({**where, "_id": {"$gt": last}}, limit=limit)

    async def delete(self, identity: ObjectId) -> bool:
        # Not repeated beyond what the driver does: a second try could not tell who removed it.
        collection, session = self.collection, self.session
        result = await self.once(
            "deleting", lambda: collection.delete_one({"_id": identity}, session=session)
        )
        return result.deleted_count > 0


@dataclass(frozen=True, slots=True)
class _Write(Generic[Versioned]):
    """One save: the entity as it will be, its document, and the version it takes the place of."""

    saved: Versioned
    document: Bson
    expected: int | None

    @property
    def identity(self) -> ObjectId:
        identity: ObjectId = self.document["_id"]
        return identity

    def is_stored(self, document: Bson | None) -> bool:
        """Whether the stored document is what this very write made of it."""
        if document is None:
            return False
        # The id of an insert was made for it, so whatever is there came from it.
        return self.expected is None or _shows(document, queries.known_fields(self.document))

    def request(self) -> InsertOne[Bson] | UpdateOne:
        if self.expected is None:
            return InsertOne(self.document)
        where = queries.of_version(self.identity, self.expected)
        return UpdateOne(where, queries.replacement(self.document))


class VersionedStore(CollectionAccess, Generic[Versioned]):
    """Formulas or strategies: what is saved carries a version that counts up."""

    def __init__(
        self,
        manager: MongoDBManager,
        name: str,
        session: AsyncClientSession | None,
        kind: type[Versioned],
        to_document: Callable[[Versioned], Bson],
        from_document: Callable[[Mapping[str, Any]], Versioned],
    ) -> None:
        super().__init__(manager, name, session)
        self._kind: type[Versioned] = kind
        self._to_document: Callable[[Versioned], Bson] = to_document
        self.from_document: Callable[[Mapping[str, Any]], Versioned] = from_document

    async def get(self, identity: str) -> Versioned | None:
        wanted = queries.object_id(identity)
        document = None if wanted is None else await self.find_one({"_id": wanted})
        return None if document is None else self.from_document(document)

    async def entities(
        self, where: Mapping[str, Any], limit: int, after: str | None
    ) -> list[Versioned]:
        return list(map(self.from_document, await self.page(where, limit, after)))

    async def save(self, entity: Versioned) -> Versioned:
        write = self._write(entity, checks.now())
        if write.expected is None:
            await self._insert(write)
            return write.saved
        state = await self._update(write)
        if state is None:
            raise self._conflict(write, await self.find_one({"_id": write.identity}, _STATE))
        return _created(write.saved, state.get("createdAt"))

    async def save_many(self, entities: Iterable[Versioned]) -> list[Versioned]:
        moment = checks.now()
        given = checks.several(entities, self._kind, self.name)
        writes = [self._write(entity, moment) for entity in given]
        if not writes:
            return []
        updates = [write for write in writes if write.expected is not None]
        states = await self._stored(updates, _STATE)
        self._refuse_stale(writes, states)
        await self.repeat(
            "saving several",
            lambda: self._apply(writes),
            again=lambda: self._apply_rest(writes),
        )
        return [
            write.saved
            if write.expected is None
            else _created(write.saved, states[write.identity].get("createdAt"))
            for write in writes
        ]

    def _write(self, entity: Versioned, moment: datetime) -> _Write[Versioned]:
        checks.instance(entity, self._kind, self._kind.__name__.lower())
        if entity.id is None:
            saved = replace(
                entity, id=new_document_id(), version=1, created_at=moment, updated_at=moment
            )
            return _Write(saved, self._to_document(saved), None)
        saved = replace(entity, version=entity.version + 1, updated_at=moment)
        return _Write(saved, self._to_document(saved), entity.version)

    async def _insert(self, write: _Write[Versioned]) -> None:
        collection, session = self.collection, self.session

        async def insert() -> None:
            await collection.insert_one(write.document, session=session)

        async def insert_unless_done() -> None:
            try:
                await insert()
            except DuplicateKeyError as exc:
                # The id was made for this write alone: the attempt before had arrived.
                if not duplicate_of_id(exc):
                    raise

        await self.repeat("saving", insert, again=insert_unless_done)

    async def _update(self, write: _Write[Versioned]) -> Bson | None:
        """The state before or after the update, None if the expected version is not there."""
        assert write.expected is not None
        where = queries.of_version(write.identity, write.expected)
        change = queries.replacement(write.document)
        collection, session = self.collection, self.session

        async def update() -> Bson | None:
            found: Bson | None = await collection.find_one_and_update(
                where, change, projection={"createdAt": 1}, session=session
            )
            return found

        async def update_unless_done() -> Bson | None:
            stored = await collection.find_one({"_id": write.identity})
            return stored if write.is_stored(stored) else await update()

        return await self.repeat("saving", update, again=update_unless_done)

    async def _stored(
        self, writes: list[_Write[Versioned]], projection: Mapping[str, Any] | None = None
    ) -> dict[ObjectId, Bson]:
        """What is stored under the ids of the writes."""
        if not writes:
            return {}
        identities = list({write.identity for write in writes})
        where = {"_id": {"$in": identities}}
        found = await self.find(where, limit=len(identities), projection=projection)
        return {document["_id"]: document for document in found}

    def _refuse_stale(
        self, writes: list[_Write[Versioned]], states: Mapping[ObjectId, Bson]
    ) -> None:
        """:raises Conflict: for the first write that could not succeed, in the order given."""
        versions = {identity: state.get("version") or 1 for identity, state in states.items()}
        for write in writes:
            if write.expected is None:
                continue
            if versions.get(write.identity) != write.expected:
                stored = states.get(write.identity)
                known = stored and stored | {"version": versions[write.identity]}
                raise self._conflict(write, known)
            versions[write.identity] = write.saved.version

    async def _apply(self, writes: list[_Write[Versioned]]) -> None:
        requests = [write.request() for write in writes]
        result = await self.collection.bulk_write(requests, session=self.session)
        if result.inserted_count + result.matched_count == len(writes):
            return
        # Between the check and the write somebody was faster.
        stored = await self._stored(writes)
        for write in _undone(writes, stored):
            raise self._conflict(write, stored.get(write.identity))

    async def _apply_rest(self, writes: list[_Write[Versioned]]) -> None:
        """Apply what an attempt of unknown outcome left undone."""
        stored = await self._stored(writes)
        rest = _undone(writes, stored)
        self._refuse_stale(rest, stored)
        if rest:
            await self._apply(rest)

    def _conflict(self, write: _Write[Versioned], state: Bson | None) -> Conflict:
        what = f"{self.name} {write.identity} ({write.saved.name[:80]!r})"
        if state is None:
            return Conflict(
                f"{what} cannot be updated: it is not stored.",
                remedy="It may have been deleted; save it without an id to store it anew.",
            )
        return Conflict(
            f"{what} was changed by somebody else: version {state.get('version') or 1} is"
            f" stored, {write.expected} was read.",
            remedy="Read it again and repeat.",
        )


def _created(saved: Versioned, created_at: datetime | None) -> Versioned:
    """With the time that is stored, which a caller cannot change."""
    return saved if saved.created_at == created_at else replace(saved, created_at=created_at)


def _undone(
    writes: list[_Write[Versioned]], stored: Mapping[ObjectId, Bson]
) -> list[_Write[Versioned]]:
    """The writes that neither are what is stored nor lie beneath one of them that is."""
    reached: dict[ObjectId, int] = {}
    for write in writes:
        if write.is_stored(stored.get(write.identity)):
            reached[write.identity] = write.saved.version
    return [write for write in writes if write.saved.version > reached.get(write.identity, 0)]


def _shows(stored: Any, written: Any) -> bool:
    """Whether `stored` holds everything of `written`, whatever else it holds."""
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
