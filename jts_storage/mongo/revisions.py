"""Keeping what formulas and strategies were: one document for each state that a commit gave one.

A revision is written in the transaction that replaces the document, so there are both or neither.
It names the version of the commit (`since`): as of a version, a document is what its last revision
up to that version says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import Int64, ObjectId
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS, RawBSONDocument
from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.mongo.documents import FORMULAS, STRATEGIES
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.stored import ID

HISTORIES: Final = {FORMULAS: "formulas_history", STRATEGIES: "strategies_history"}
"""The collections whose documents have revisions, each with the collection of these."""

DOCUMENT: Final = "document"
SINCE: Final = "since"
NUMBER: Final = "n"
"""The place among the revisions of one commit."""
VERSION: Final = "version"
STORED: Final = "stored"
"""The whole document; null for a deletion, and where it was purged."""
PURGED: Final = "purged"
"""True where a revision was erased: what the document was then, nobody knows any more."""
SOURCE: Final = "source"

_BATCH: Final = 1_000


@dataclass(slots=True)
class _Noted:
    """A change of one document.

    :param number: its place in the unit of work.
    :param stored: what it made of the document; None for a deletion, and until it is read.
    """

    collection: str
    identity: ObjectId
    number: int
    stored: RawBSONDocument | None = None


class Revisions:
    """The revisions that one unit of work makes, in their order."""

    def __init__(
        self, manager: MongoDBManager, session: AsyncClientSession, source: str = ""
    ) -> None:
        """:param source: what the unit of work says of itself."""
        self._manager, self._session, self._source = manager, session, source
        self._noted: list[_Noted] = []
        # An update keeps the fields that the kit does not know, so only MongoDB has the whole.
        self._to_read: dict[tuple[str, ObjectId], _Noted] = {}

    def __bool__(self) -> bool:
        return bool(self._noted)

    async def before(self, collection: str, identities: Iterable[ObjectId]) -> None:
        """Read what this unit of work made of documents that it is about to change once more."""
        again = [key for each in identities if (key := (collection, each)) in self._to_read]
        if again:
            await self._read([self._to_read.pop(key) for key in again])

    def changed(self, collection: str, identity: ObjectId, stored: RawBSONDocument) -> None:
        self._note(collection, identity).stored = stored

    def updated(self, collection: str, identity: ObjectId) -> None:
        """As `changed`, where the whole document is still to be read."""
        self._to_read[collection, identity] = self._note(collection, identity)

    def deleted(self, collection: str, identity: ObjectId) -> None:
        self._note(collection, identity)

    async def read(self) -> None:
        """Read what is still to be read; once nothing is written any more."""
        to_read, self._to_read = list(self._to_read.values()), {}
        await self._read(to_read)

    async def store(self, since: int) -> None:
        """Write them into the transaction.

        :param since: the version of the commit.
        """
        for collection, history in HISTORIES.items():
            made = [each for each in self._noted if each.collection == collection]
            for batch in _batches(made):
                await self._insert(history, [self._document(each, since) for each in batch])

    def _document(self, noted: _Noted, since: int) -> Bson:
        model = self._manager.models.of(noted.collection)
        stored = noted.stored
        return {
            DOCUMENT: noted.identity,
            SINCE: Int64(since),
            NUMBER: noted.number,
            VERSION: None if stored is None else stored.get(model.path("version")) or 1,
            SOURCE: self._source,
            STORED: stored,
        }

    def _note(self, collection: str, identity: ObjectId) -> _Noted:
        noted = _Noted(collection, identity, len(self._noted))
        self._noted.append(noted)
        return noted

    async def _insert(self, history: str, documents: Sequence[Bson]) -> None:
        collection = self._manager.get_collection(history)
        await self._manager.retries.once(
            f"keeping revisions in {history}",
            lambda: collection.insert_many(documents, session=self._session),
        )

    async def _read(self, noted: Sequence[_Noted]) -> None:
        for collection in HISTORIES:
            of_it = [each for each in noted if each.collection == collection]
            for batch in _batches(of_it):
                stored = await self._stored(collection, [each.identity for each in batch])
                for each in batch:
                    each.stored = stored[each.identity]

    async def _stored(
        self, name: str, identities: Sequence[ObjectId]
    ) -> dict[ObjectId, RawBSONDocument]:
        collection: Any = self._manager.get_collection(name).with_options(
            codec_options=DEFAULT_RAW_BSON_OPTIONS
        )
        where = {ID: {"$in": list(identities)}}
        found: list[RawBSONDocument] = await self._manager.retries.once(
            f"reading in {name}",
            lambda: collection.find(where, session=self._session).to_list(),
        )
        return {each[ID]: each for each in found}


def _batches(noted: Sequence[_Noted]) -> Iterator[Sequence[_Noted]]:
    return (noted[start : start + _BATCH] for start in range(0, len(noted), _BATCH))
