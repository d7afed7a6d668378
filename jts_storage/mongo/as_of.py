"""Formulas and strategies as they were: of a version of their own, or as of a commit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from bson import Int64, ObjectId

from jts_storage.domain import checks
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import Page
from jts_storage.domain.revision import Revision, not_kept, purged
from jts_storage.mongo import queries
from jts_storage.mongo.access import CollectionAccess, DocumentAccess, Pages, no_pages
from jts_storage.mongo.documents import VersionedDocument
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.mappers import read_stored
from jts_storage.mongo.revisions import (
    DOCUMENT,
    HISTORIES,
    NUMBER,
    PURGED,
    SINCE,
    SOURCE,
    STORED,
    VERSION,
)
from jts_storage.mongo.saves import VersionedEntity
from jts_storage.mongo.store import DocumentMapper, VersionedStore
from jts_storage.mongo.stored import ID

V = TypeVar("V", bound=VersionedDocument)
Versioned = TypeVar("Versioned", bound=VersionedEntity)

_MOST: Final = 2**31 - 1
_NEWEST_FIRST: Final = {SINCE: -1, NUMBER: -1}
_OLDEST_FIRST: Final = {SINCE: 1, NUMBER: 1}
_WAS_PURGED: Final = "_wasPurged"
"""In the place of what a document was then."""


class DocumentsAsOf(DocumentAccess[V], Generic[V, Versioned]):
    """The documents of a collection as they were after all commits up to a version."""

    def __init__(
        self,
        manager: MongoDBManager,
        name: str,
        mapper: DocumentMapper[V, Versioned],
        version: int,
        is_kept: Callable[[], Awaitable[None]],
    ) -> None:
        """:param is_kept: raises if what was then may be forgotten by now."""
        super().__init__(manager, name, None)
        self._is_kept = is_kept
        self._mapper: DocumentMapper[V, Versioned] = mapper
        self._commit = Commit(version)
        self._past = {SINCE: {"$lte": Int64(version)}}

    async def get(self, identity: str) -> Versioned | None:
        wanted = queries.object_id(identity)
        if wanted is None:
            return None
        history = CollectionAccess(self.manager, HISTORIES[self.name], None)
        found: Bson | None = await history.repeat(
            "reading",
            lambda: history.collection.find_one(
                {DOCUMENT: wanted, **self._past}, sort=list(_NEWEST_FIRST.items())
            ),
        )
        await self._is_kept()
        if found is None:
            return None
        if found.get(PURGED):
            raise purged(self.name, identity, self._commit)
        return None if found[STORED] is None else self.read(found[STORED])

    async def entities(
        self, where: Mapping[str, Any], limit: int, after: str | None, *, strict: bool = False
    ) -> list[Versioned]:
        return await self.readable(self.pages(where, after), self.read, limit, strict=strict)

    def read(self, stored: Bson) -> Versioned:
        """:raises InvalidData: the document cannot be read."""
        return read_stored(self.model, self._mapper.from_document, stored)

    def pages(
        self,
        where: Mapping[str, Any],
        after: str | None,
        projection: Mapping[str, Any] | None = None,
    ) -> Pages:
        past: Bson = dict(self._past)
        if after is not None:
            last = queries.object_id(after)
            if last is None:
                return no_pages
            past[DOCUMENT] = {"$gt": last}
        history = CollectionAccess(self.manager, HISTORIES[self.name], None)

        async def page(skip: int, limit: int) -> list[Bson]:
            if not limit:
                return []
            pipeline = _page(past, where, skip, limit)

            async def read() -> list[Bson]:
                cursor = await history.collection.aggregate(pipeline, allowDiskUse=True)
                return await cursor.to_list()

            found: list[Bson] = await history.repeat("reading", read)
            await self._is_kept()
            self._refuse_purged(found)
            return found

        return page

    def _refuse_purged(self, found: Sequence[Bson]) -> None:
        """:raises InvalidData: what a document was is not known, so neither is the list."""
        for each in found:
            if each.get(_WAS_PURGED):
                raise purged(self.name, str(each[ID]), self._commit)


def _page(past: Bson, where: Mapping[str, Any], skip: int, limit: int) -> list[Bson]:
    """Of each document the last revision of that past, if it is one that meets a condition.

    Nobody knows whether one that was purged does.
    """
    is_known = {"$ne": [f"${PURGED}", True]}
    unknown = {ID: f"${DOCUMENT}", _WAS_PURGED: True}
    return [
        {"$match": past},
        {"$sort": {DOCUMENT: 1, **_NEWEST_FIRST}},
        {
            "$group": {
                ID: f"${DOCUMENT}",
                STORED: {"$first": {"$cond": [is_known, f"${STORED}", unknown]}},
            }
        },
        {"$match": {STORED: {"$ne": None}}},
        {"$replaceWith": f"${STORED}"},
        {"$match": {"$or": [dict(where), {_WAS_PURGED: True}]}},
        {"$sort": {ID: 1}},
        {"$skip": skip},
        {"$limit": limit},
    ]


class RevisionsOf(CollectionAccess, Generic[V, Versioned]):
    """The revisions of the documents of a store."""

    def __init__(self, store: VersionedStore[V, Versioned]) -> None:
        super().__init__(store.manager, HISTORIES[store.name], None)
        self._store = store

    async def history(
        self, identity: str, limit: int, after: Revision[Versioned] | None
    ) -> Page[Revision[Versioned]]:
        """Revisions of a document, oldest first, without those that cannot be read."""
        size, wanted = queries.count(limit), queries.object_id(identity)
        where: Bson = {DOCUMENT: wanted, PURGED: {"$ne": True}}
        if after is not None:
            where |= _behind(checks.instance(after, Revision, "after"))
        if wanted is None:
            return Page()

        async def page(skip: int, limit: int) -> list[Bson]:
            return await self._find(where, limit=limit, skip=skip)

        found = await self.readable(page, self._revision, min(size + 1, _MOST))
        return Page.first(size, found)

    async def of_version(self, identity: str, version: int) -> Versioned | None:
        """The document as it was under a version of its own; None if it has not come so far.

        :raises NotFound: the version is older than what is kept.
        """
        checks.whole(version, "version", least=1)
        wanted = queries.object_id(identity)
        if wanted is None:
            return None
        found = await self._find({DOCUMENT: wanted, VERSION: version}, _NEWEST_FIRST, limit=1)
        if found and found[0].get(PURGED):
            raise not_kept(self._store.name, identity, version)
        if found:
            return self._store.read(found[0][STORED])
        # It may be of before the history, or another program wrote it.
        now = await self._store.get(identity)
        if now is not None and now.version == version:
            return now
        if (now is not None and now.version > version) or await self._has_later(wanted, version):
            raise not_kept(self._store.name, identity, version)
        return None

    async def _has_later(self, wanted: ObjectId, version: int) -> bool:
        return bool(await self._find({DOCUMENT: wanted, VERSION: {"$gt": version}}, limit=1))

    def _revision(self, found: Bson) -> Revision[Versioned]:
        """:raises InvalidData: it cannot be read."""
        stored = found[STORED]
        entity = None if stored is None else self._store.read(stored)
        version = None if entity is None else entity.version
        return Revision(entity, version, Commit(found[SINCE]), found[SOURCE])

    async def _find(
        self, where: Bson, order: Mapping[str, int] = _OLDEST_FIRST, *, limit: int, skip: int = 0
    ) -> list[Bson]:
        sort = list(order.items())
        return await self.repeat(
            "reading",
            lambda: self.collection.find(where, sort=sort, limit=limit, skip=skip).to_list(),
        )


def _behind(last: Revision[Any]) -> Bson:
    """Those that follow a revision of the same document."""
    since = Int64(last.commit.version)
    if last.version is None:  # nothing follows a deletion within its commit
        return {SINCE: {"$gt": since}}
    within = [{SINCE: since, VERSION: each} for each in ({"$gt": last.version}, None)]
    return {"$or": [{SINCE: {"$gt": since}}, *within]}
