"""Collections and their documents, through the manager's retries or within a transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final, Generic, TypeVar

from bson import ObjectId, encode
from bson.raw_bson import RawBSONDocument
from pymongo import ASCENDING
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.domain import checks
from jts_storage.errors import InvalidData
from jts_storage.mongo import queries
from jts_storage.mongo.errors import translate
from jts_storage.mongo.manager import Bson, Collection, MongoDBManager
from jts_storage.mongo.mappers import read_stored
from jts_storage.mongo.retries import DRIVER_ERRORS, Operation
from jts_storage.mongo.stored import ID, StoredDocument
from jts_storage.mongo.transaction import Transaction

T = TypeVar("T")
D = TypeVar("D", bound=StoredDocument)

Pages = Callable[[int, int], Awaitable[Sequence[Bson | None]]]
"""``pages(skip, limit)`` gives documents in their order; None is one that was deleted meanwhile."""

_LARGEST_BATCH: Final = 10_000
_BY_ID: Final = ((ID, ASCENDING),)


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
        self, doing: str, operation: Operation[T], again: Operation[T] | None = None
    ) -> T:
        """As `Retries.repeat`, unless a transaction forbids it."""
        if self.transaction is not None:
            return await self.once(doing, operation)
        return await self.manager.retries.repeat(f"{doing} in {self.name}", operation, again)

    async def once(self, doing: str, operation: Operation[T]) -> T:
        async with self.exclusive():
            return await self.manager.retries.once(f"{doing} in {self.name}", operation)

    def exclusive(self) -> AbstractAsyncContextManager[object]:
        """Keep other operations of the transaction out of the block."""
        return nullcontext() if self.transaction is None else self.transaction.exclusive()

    def writing(self) -> AbstractAsyncContextManager[object]:
        """As `exclusive`, for a block that writes."""
        if self.transaction is not None:
            self.transaction.written.add(self.name)
        return self.exclusive()

    async def readable(
        self,
        pages: Pages,
        read: Callable[[Bson], T],
        limit: int,
        *,
        strict: bool = False,
    ) -> list[T]:
        """Return what `read` makes of up to `limit` documents, without those that cannot be read.

        :param strict: raise for the first that cannot be read.
        """
        found: list[T] = []
        position, wanted = 0, queries.count(limit)
        while wanted:
            documents = await pages(position, wanted)
            for document in documents:
                if document is None:
                    continue
                entity = self.read_or_skip(document, read, strict=strict)
                if entity is not None:
                    found.append(entity)
            if len(documents) < wanted or len(found) >= limit:
                break
            position += len(documents)
            # Twice as many each time: thousands in a row may be unreadable.
            wanted = min(2 * wanted, max(limit, _LARGEST_BATCH))
        return found[:limit]

    def read_or_skip(
        self, document: Bson, read: Callable[[Bson], T], *, strict: bool = False
    ) -> T | None:
        """Return what `read` makes of the document, or None and a line in the log."""
        unreadable = self.manager.unreadable
        try:
            entity = read(document)
        except InvalidData as exc:
            if strict:
                raise
            unreadable.met(self.name, document.get(ID), exc)
            return None
        if unreadable.count:
            unreadable.mended(self.name, document.get(ID))
        return entity


class DocumentAccess(CollectionAccess, Generic[D]):
    """The documents of a collection, by their model and the Beanie class made of it.

    Beanie makes the queries. What it finds is not validated by it: `read_stored` takes each
    document by itself, so that one that cannot be read does not hide the others.

    :param name: of the collection, and of the attribute that has its model.
    """

    @property
    def model(self) -> type[D]:
        model: type[D] = self.manager.models.of(self.name)
        return model

    async def bound(self) -> type[Any]:
        """The Beanie document class of the model."""
        return (await self.manager.documents()).of(self.name)

    async def find_one(
        self, where: Mapping[str, Any], projection: Mapping[str, Any] | None = None
    ) -> Bson | None:
        bound, form = await self.bound(), as_stored(projection)
        query = bound.find_one(where, projection_model=form, session=self.session)

        async def read() -> Bson | None:
            found: Bson | None = await query
            return found

        return await self.repeat("reading", read)

    async def find(
        self,
        where: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = _BY_ID,
        limit: int,
        skip: int = 0,
        projection: Mapping[str, Any] | None = None,
    ) -> list[Bson]:
        if not limit:  # to MongoDB 0 means no limit
            return []
        bound = await self.bound()
        query = bound.find(
            where,
            projection_model=as_stored(projection),
            sort=list(sort),
            limit=limit,
            skip=skip,
            batch_size=min(limit, _LARGEST_BATCH),
            session=self.session,
        )

        async def read() -> list[Bson]:
            cursor = await query.get_cursor()
            found: list[Bson] = await cursor.to_list()
            return found

        return await self.repeat("reading", read)

    def reading(self, from_document: Callable[[D], T]) -> Callable[[Bson], T]:
        """A function that makes entities of stored documents."""
        model = self.model
        return lambda stored: read_stored(model, from_document, stored)

    def pages(
        self,
        where: Mapping[str, Any],
        after: str | None,
        projection: Mapping[str, Any] | None = None,
    ) -> Pages:
        """Documents by id, from the one after `after`; none if that is no id."""
        if after is not None:
            last = queries.object_id(after)
            if last is None:
                return no_pages
            where = {**where, ID: {"$gt": last}}
        return lambda skip, limit: self.find(where, limit=limit, skip=skip, projection=projection)

    def encoded(self, document: Bson, what: str) -> RawBSONDocument:
        """The document as it is sent, so that the driver does not encode it once more.

        :raises InvalidData: it is larger than what can be updated later.
        """
        try:
            data = encode(document)
        except DRIVER_ERRORS as exc:
            raise translate(exc, doing=f"saving in {self.name}") from exc
        checks.document_size(len(data), what)
        return RawBSONDocument(data)

    async def insert(self, document: Bson | RawBSONDocument) -> None:
        """Insert a document as `to_stored` gives it.

        Beanie's own `insert` encodes each value once more, for ten times what that takes.
        """
        bound = await self.bound()
        await bound.get_pymongo_collection().insert_one(document, session=self.session)

    async def delete(self, identity: ObjectId) -> bool:
        # Not repeated beyond what the driver does: a second try could not tell who removed it.
        bound = await self.bound()
        deletion = bound.find_one({ID: identity}).delete(session=self.session)

        async def delete() -> int:
            result = await deletion
            return int(result.deleted_count)

        async with self.writing():
            return await self.once("deleting", delete) > 0


async def no_pages(skip: int, limit: int) -> Sequence[Bson | None]:
    return ()


def as_stored(projection: Mapping[str, Any] | None = None) -> type[Any]:
    """A projection model for Beanie that leaves documents as they are stored."""
    return _WHOLE if projection is None else _projecting(projection)


def _projecting(projection: Mapping[str, Any] | None) -> type[Any]:
    settings = type("Settings", (), {"projection": projection})
    return type("AsStored", (), {"Settings": settings, "model_validate": staticmethod(_itself)})


def _itself(document: Bson) -> Bson:
    return document


_WHOLE: Final = _projecting(None)
