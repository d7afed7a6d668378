"""What the repositories share: reading pages, and saving under optimistic locks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, Final, Generic, TypeVar

from bson import ObjectId, encode
from pymongo import InsertOne, UpdateOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from jts_storage.domain import checks
from jts_storage.domain.formula import Formula
from jts_storage.domain.ids import new_document_id
from jts_storage.domain.strategy import Strategy
from jts_storage.errors import Conflict, InvalidData
from jts_storage.mongo import queries
from jts_storage.mongo.errors import duplicate_of_id, translate
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager
from jts_storage.mongo.retries import DRIVER_ERRORS
from jts_storage.mongo.transaction import Transaction

E = TypeVar("E")
T = TypeVar("T")
Versioned = TypeVar("Versioned", Formula, Strategy)

Pages = Callable[[int, int], Awaitable[Sequence[Bson | None]]]
"""Gives documents in their order: behind the first so many, at most so many. None is one that was
deleted meanwhile."""

_LARGEST_BATCH: Final = 10_000


class CollectionAccess:
    """A collection, through the manager's retries or within a transaction.

    A transaction is repeated as a whole or not at all, so nothing in it is repeated here.
    """

    def __init__(self, manager: MongoDBManager, name: str, transaction: Transaction | None) -> None:
        self.name = name
        self.transaction = transaction
        self.session: AsyncClientSession | None = transaction.session if transaction else None
        self.manager = manager

    @property
    def collection(self) -> Collection:
        return self.manager.get_collection(self.name)

    async def repeat(
        self,
        doing: str,
        operation: Callable[[], Awaitable[T]],
        again: Callable[[], Awaitable[T]] | None = None,
    ) -> T:
        """As `Retries.repeat`, unless a transaction forbids it."""
        if self.transaction is not None:
            return await self.once(doing, operation)
        return await self.manager.retries.repeat(f"{doing} in {self.name}", operation, again)

    async def once(self, doing: str, operation: Callable[[], Awaitable[T]]) -> T:
        async with self.turn():
            return await self.manager.retries.once(f"{doing} in {self.name}", operation)

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Let no other operation of the transaction in between."""
        return nullcontext() if self.transaction is None else self.transaction.turn()

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
        skip: int = 0,
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
                skip=skip,
                batch_size=min(limit, _LARGEST_BATCH),
                session=session,
            )
            return await cursor.to_list()

        return await self.repeat("reading", read)

    async def readable(
        self,
        pages: Pages,
        read: Callable[[Mapping[str, Any]], T],
        limit: int,
        *,
        strict: bool = False,
    ) -> list[T]:
        """What `read` makes of the documents, up to `limit`; those that cannot be read left out.

        :param strict: raise for the first that cannot be read.
        """
        found: list[T] = []
        position, wanted = 0, queries.count(limit)
        while wanted:
            documents = await pages(position, wanted)
            for document in documents:
                if document is not None:
                    found += self.read_or_skip(document, read, strict=strict)
            if len(documents) < wanted or len(found) >= limit:
                break
            position += len(documents)
            # Twice as many each time: thousands in a row may be unreadable.
            wanted = min(2 * wanted, max(limit, _LARGEST_BATCH))
        return found[:limit]

    def read_or_skip(
        self, document: Bson, read: Callable[[Mapping[str, Any]], T], *, strict: bool = False
    ) -> list[T]:
        """What `read` makes of the document, or nothing and a line in the log."""
        try:
            entity = read(document)
        except InvalidData as exc:
            if strict:
                raise
            self.manager.unreadable.met(self.name, document.get("_id"), exc)
            return []
        self.manager.unreadable.mended(self.name, document.get("_id"))
        return [entity]

    def pages(self, where: Mapping[str, Any], after: str | None) -> Pages:
        """Documents by id, from behind `after`; nothing lies behind what is no id."""
        if after is not None:
            last = queries.object_id(after)
            if last is None:
                return no_pages
            where = {**where, "_id": {"$gt": last}}
        return lambda skip, limit: self.find(where, limit=limit, skip=skip)

    def check_size(self, document: Bson, what: str) -> None:
        """:raises InvalidData: it is larger than what can be updated later."""
        try:
            size = len(encode(document))
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing=f"saving in {self.name}") from exc
        checks.document_size(size, what)

    async def delete(self, identity: ObjectId) -> bool:
        # Not repeated beyond what the driver does: a second try could not tell who removed it.
        collection, session = self.collection, self.session
        result = await self.once(
            "deleting", lambda: collection.delete_one({"_id": identity}, session=session)
        )
        return result.deleted_count > 0


async def no_pages(skip: int, limit: int) -> Sequence[Bson | None]:
    return ()


@dataclass(frozen=True, slots=True)
class _Write(Generic[Versioned]):
    """One save: the entity as it will be, its document, and what it takes the place of.

    :param before: the entity as it was read; None for an insert.
    :param follows: an earlier write of the same batch made what this one takes the place of.
    """

    saved: Versioned
    document: Bson
    before: Versioned | None
    follows: bool = False

    @property
    def identity(self) -> ObjectId:
        identity: ObjectId = self.document["_id"]
        return identity

    @property
    def times(self) -> dict[str, datetime]:
        """The times of what was read, as far as they are known."""
        if self.before is None or self.follows:
            return {}
        times = {"createdAt": self.before.created_at, "updatedAt": self.before.updated_at}
        return {name: moment for name, moment in times.items() if moment is not None}

    @property
    def where(self) -> Bson:
        """The document, if it still is as it was read."""
        assert self.before is not None
        return queries.of_version(self.identity, self.before.version) | self.times

    def is_stored(self, document: Bson | None) -> bool:
        """Whether the stored document is what this very write made of it."""
        if document is None:
            return False
        # The id of an insert was made for it, so whatever is there came from it.
        return self.before is None or _shows(document, queries.known_fields(self.document))

    def replaces(self, state: Mapping[str, Any]) -> bool:
        """Whether a stored state is the one that was read."""
        assert self.before is not None
        is_of_version = _version(state) == self.before.version
        return is_of_version and all(state.get(name) == time for name, time in self.times.items())

    def request(self) -> InsertOne[Bson] | UpdateOne:
        if self.before is None:
            return InsertOne(self.document)
        return UpdateOne(self.where, queries.replacement(self.document))


class VersionedStore(CollectionAccess, Generic[Versioned]):
    """Formulas or strategies: what is saved carries a version that counts up."""

    state: ClassVar[Mapping[str, Any]] = {"version": 1, "createdAt": 1, "updatedAt": 1}
    """The fields that a save looks at."""

    def __init__(
        self,
        manager: MongoDBManager,
        name: str,
        transaction: Transaction | None,
        kind: type[Versioned],
        to_document: Callable[[Versioned], Bson],
        from_document: Callable[[Mapping[str, Any]], Versioned],
    ) -> None:
        super().__init__(manager, name, transaction)
        self._kind: type[Versioned] = kind
        self._to_document: Callable[[Versioned], Bson] = to_document
        self.from_document: Callable[[Mapping[str, Any]], Versioned] = from_document

    async def get(self, identity: str) -> Versioned | None:
        wanted = queries.object_id(identity)
        document = None if wanted is None else await self.find_one({"_id": wanted})
        return None if document is None else self.from_document(document)

    async def entities(
        self, where: Mapping[str, Any], limit: int, after: str | None, *, strict: bool = False
    ) -> list[Versioned]:
        pages = self.pages(where, after)
        return await self.readable(pages, self.from_document, limit, strict=strict)

    async def save(self, entity: Versioned) -> Versioned:
        write = self._write(entity, checks.now())
        async with self.turn():
            if write.before is None:
                await self.saving([write.document], {})
                await self._insert(write)
                return write.saved
            state = await self._update(write)
            if state is None:
                stored = await self.find_one({"_id": write.identity}, self.state)
                raise self._conflict(write, stored)
            await self.saving([write.document], {write.identity: state})
            return _created(write.saved, state.get("createdAt"))

    async def save_many(self, entities: Iterable[Versioned]) -> list[Versioned]:
        writes = self._writes(entities)
        if not writes:
            return []
        async with self.turn():
            updates = [write for write in writes if write.before is not None]
            states = await self.states(write.identity for write in updates)
            self._refuse_stale(writes, states)
            await self.saving([write.document for write in writes], states)
            await self.repeat(
                "saving several",
                lambda: self._apply(writes),
                again=lambda: self._apply_rest(writes),
            )
        return [
            write.saved
            if write.before is None
            else _created(write.saved, states[write.identity].get("createdAt"))
            for write in writes
        ]

    async def saving(
        self, documents: Sequence[Bson], states: Mapping[ObjectId, Mapping[str, Any]]
    ) -> None:
        """What else is written with the documents.

        :param states: what is stored of those that are updated: `state`, or more.
        """

    def _writes(self, entities: Iterable[Versioned]) -> list[_Write[Versioned]]:
        moment = checks.now()
        seen: set[str | None] = set()
        writes: list[_Write[Versioned]] = []
        for entity in checks.several(entities, self._kind, self.name):
            write = self._write(entity, moment)
            writes.append(replace(write, follows=entity.id in seen))
            seen.add(write.saved.id)
        return writes

    def _write(self, entity: Versioned, moment: datetime) -> _Write[Versioned]:
        checks.instance(entity, self._kind, self._kind.__name__.lower())
        if entity.id is None:
            saved = replace(
                entity, id=new_document_id(), version=1, created_at=moment, updated_at=moment
            )
            return _Write(saved, self._document(saved), None)
        saved = replace(entity, version=entity.version + 1, updated_at=moment)
        return _Write(saved, self._document(saved), entity)

    def _document(self, saved: Versioned) -> Bson:
        document = self._to_document(saved)
        self.check_size(document, f"{self._kind.__name__.lower()} {saved.name[:80]!r}")
        return document

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
        """The state before or after the update, None if what was read is not there any more."""
        change = queries.replacement(write.document)
        collection, session = self.collection, self.session

        async def update() -> Bson | None:
            found: Bson | None = await collection.find_one_and_update(
                write.where, change, projection=self.state, session=session
            )
            return found

        async def update_unless_done() -> Bson | None:
            stored = await collection.find_one({"_id": write.identity})
            return stored if write.is_stored(stored) else await update()

        return await self.repeat("saving", update, again=update_unless_done)

    async def states(self, identities: Iterable[ObjectId]) -> dict[ObjectId, Bson]:
        """What a save has to know of what is stored under the ids."""
        return await self._stored(identities, self.state)

    async def _stored(
        self, identities: Iterable[ObjectId], projection: Mapping[str, Any] | None = None
    ) -> dict[ObjectId, Bson]:
        wanted = list(set(identities))
        if not wanted:
            return {}
        found = await self.find({"_id": {"$in": wanted}}, limit=len(wanted), projection=projection)
        return {document["_id"]: document for document in found}

    def _refuse_stale(
        self, writes: list[_Write[Versioned]], states: Mapping[ObjectId, Mapping[str, Any]]
    ) -> None:
        """:raises Conflict: for the first write that could not succeed, in the order given."""
        current = dict(states)
        for write in writes:
            if write.before is None:
                continue
            state = current.get(write.identity)
            if state is None or not write.replaces(state):
                raise self._conflict(write, state)
            current[write.identity] = write.document

    async def _apply(self, writes: list[_Write[Versioned]]) -> None:
        requests = [write.request() for write in writes]
        result = await self.collection.bulk_write(requests, session=self.session)
        if result.inserted_count + result.matched_count == len(writes):
            return
        # Between the check and the write somebody was faster.
        stored = await self._stored(write.identity for write in writes)
        for write in _undone(writes, stored):
            raise self._conflict(write, stored.get(write.identity))

    async def _apply_rest(self, writes: list[_Write[Versioned]]) -> None:
        """Apply what an attempt of unknown outcome left undone."""
        stored = await self._stored(write.identity for write in writes)
        rest = _undone(writes, stored)
        self._refuse_stale(rest, stored)
        if rest:
            await self._apply(rest)

    def _conflict(self, write: _Write[Versioned], state: Mapping[str, Any] | None) -> Conflict:
        assert write.before is not None
        what = f"{self.name} {write.identity} ({write.saved.name[:80]!r})"
        if state is None:
            return Conflict(
                f"{what} cannot be updated: it is not stored.",
                remedy="It may have been deleted; save it without an id to store it anew.",
            )
        stored, read = f"version {_version(state)}", str(write.before.version)
        if _version(state) == write.before.version and not write.replaces(state):
            name = next(name for name, time in write.times.items() if state.get(name) != time)
            stored, read = f"{name} {state.get(name)}", str(write.times[name])
        return Conflict(
            f"{what} was changed by somebody else: {stored} is stored, {read} was read.",
            remedy="Read it again and repeat.",
        )


def _version(state: Mapping[str, Any]) -> Any:
    return state.get("version") or 1


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
