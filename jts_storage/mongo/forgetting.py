"""Letting go of revisions that are over: those that are too old, and those that must be erased.

A revision is over under the version of the one after it. Nothing that a reader may still be told
depends on what goes, and each batch by itself leaves a whole history, so that whatever interrupts
it, or does the same beside it, does no harm.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from bson import Int64

from jts_storage.domain.revision import nothing_of, pinned
from jts_storage.mongo import queries
from jts_storage.mongo.access import CollectionAccess
from jts_storage.mongo.documents import BACKTEST_RESULTS, STRATEGIES, BacktestDocument
from jts_storage.mongo.manager import Bson, MongoDBManager
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
from jts_storage.mongo.stored import ID

_ENDED: Final = "ended"
_BATCH: Final = 1_000


class FormerRevisions(CollectionAccess):
    """The revisions of one collection that are over.

    :param collection: whose documents they were.
    """

    def __init__(self, manager: MongoDBManager, collection: str) -> None:
        super().__init__(manager, HISTORIES[collection], None)
        self._of = collection

    async def forget(self, before: int, snapshots: Sequence[int]) -> int:
        """Delete what was over by a version; return how many there were.

        What a snapshot shows stays, and so does what a backtest result names.

        :param snapshots: their versions, ascending.
        """
        count, named = 0, None
        async for over in self._over({}, before):
            if named is None:
                named = await self._named_by_results()
            gone = [
                each[ID]
                for each in over
                if _shown(each, snapshots) is None
                and (each.get(PURGED) or _key(each[DOCUMENT], each[VERSION]) not in named)
            ]
            count += await self._delete(gone)
        return count + await self._forget_deletions(before)

    async def purge(self, identity: str | None, before: int, snapshots: Mapping[str, int]) -> int:
        """Erase what was over by a version; return how many revisions there were.

        Of each its place stays, so that nobody takes an earlier one for it.

        :param identity: of the one document; None stands for all.
        :raises InUse: a snapshot shows one.
        :raises NotFound: there neither is nor was such a document.
        """
        where: Bson = {}
        if identity is not None:
            wanted = queries.object_id(identity)
            if wanted is None or not await self._ever_was(wanted):
                raise nothing_of(self._of, identity)
            where = {DOCUMENT: wanted}
        versions = sorted(snapshots.values())
        async for over in self._over(where, before):
            for each in filter(_says_something, over):
                shown = _shown(each, versions)
                if shown is not None:
                    names = [name for name, version in snapshots.items() if version == shown]
                    raise pinned(self._of, str(each[DOCUMENT]), names)
        count = 0
        async for over in self._over(where, before):
            count += await self._erase([each[ID] for each in filter(_says_something, over)])
        return count

    async def _ever_was(self, document: Any) -> bool:
        """Whether it is there, or was; where no history is kept, only what is there is known."""
        for collection, where in (
            (self.collection, {DOCUMENT: document}),
            (self.manager.get_collection(self._of), {ID: document}),
        ):
            asked = partial(collection.find_one, where, {ID: True})
            if await self.repeat("looking for a document", asked) is not None:
                return True
        return False

    async def _forget_deletions(self, before: int) -> int:
        """Delete deletions that nothing precedes any more: no revision says the same."""
        pipeline: list[Bson] = [
            {"$match": {SINCE: {"$lte": Int64(before)}}},
            {"$sort": {DOCUMENT: 1, SINCE: 1, NUMBER: 1}},
            {"$group": {ID: f"${DOCUMENT}", "n": {"$first": f"${ID}"}, **_first(VERSION)}},
            {"$match": {VERSION: None}},
        ]
        count = 0
        async for batch in self._batches(pipeline):
            count += await self._delete([each["n"] for each in batch])
        return count

    def _over(self, where: Bson, before: int) -> AsyncIterator[list[Bson]]:
        """Revisions that were over by a version, in batches, without what was stored."""
        following = {_ENDED: {"$shift": {"output": f"${SINCE}", "by": -1}}}
        return self._batches(
            [
                {"$match": {SINCE: {"$lte": Int64(before)}, **where}},
                {"$project": dict.fromkeys((DOCUMENT, SINCE, NUMBER, VERSION, PURGED), 1)},
                {
                    "$setWindowFields": {
                        "partitionBy": f"${DOCUMENT}",
                        "sortBy": {SINCE: -1, NUMBER: -1},
                        "output": following,
                    }
                },
                # The last one up to that version has none after it, and stays.
                {"$match": {_ENDED: {"$ne": None}}},
            ]
        )

    async def _batches(self, pipeline: list[Bson]) -> AsyncIterator[list[Bson]]:
        doing, once = f"looking for former revisions in {self.name}", self.manager.retries.once
        cursor = await once(
            doing,
            lambda: self.collection.aggregate(pipeline, allowDiskUse=True, batchSize=_BATCH),
        )
        async with cursor:
            while batch := await once(doing, lambda: cursor.to_list(_BATCH)):
                yield batch

    async def _delete(self, gone: Sequence[Any]) -> int:
        if not gone:
            return 0
        where = {ID: {"$in": list(gone)}}
        result = await self.repeat("forgetting", lambda: self.collection.delete_many(where))
        return int(result.deleted_count)

    async def _erase(self, gone: Sequence[Any]) -> int:
        if not gone:
            return 0
        where = {ID: {"$in": list(gone)}}
        change = {"$set": {STORED: None, SOURCE: "", PURGED: True}}
        await self.repeat("erasing", lambda: self.collection.update_many(where, change))
        return len(gone)

    async def _named_by_results(self) -> set[tuple[str, int]]:
        """The documents and versions that backtest results say they ran with."""
        model: type[BacktestDocument] = self.manager.models.of(BACKTEST_RESULTS)
        if self._of == STRATEGIES:
            version = model.path("strategy_version")
            pipeline = _pairs(model.path("strategy_id"), version)
        else:
            inner, lists = model.nested("formula_versions"), model.path("formula_versions")
            names = (f"{lists}.{inner.path(each)}" for each in ("formula_id", "version"))
            pipeline = [{"$unwind": f"${lists}"}, *_pairs(*names)]
        results = CollectionAccess(self.manager, BACKTEST_RESULTS, None)

        async def read() -> list[Bson]:
            cursor = await results.collection.aggregate(pipeline, allowDiskUse=True)
            return await cursor.to_list()

        found = await results.repeat("reading", read)
        return {_key(each[ID][DOCUMENT], each[ID][VERSION]) for each in found}


def _says_something(revision: Bson) -> bool:
    return revision[VERSION] is not None and not revision.get(PURGED)


def _first(field: str) -> Bson:
    return {field: {"$first": f"${field}"}}


def _pairs(document: str, version: str) -> list[Bson]:
    pair = {DOCUMENT: f"${document}", VERSION: f"${version}"}
    return [{"$match": {version: {"$type": "number"}}}, {"$group": {ID: pair}}]


def _key(document: object, version: Any) -> tuple[str, int]:
    """The document, also where it is named by a string, and its version; 0 for a deletion."""
    return str(document).lower(), int(version or 0)


def _shown(revision: Bson, snapshots: Sequence[int]) -> int | None:
    """The first snapshot that shows a revision."""
    place = bisect_left(snapshots, revision[SINCE])
    if place < len(snapshots) and snapshots[place] < revision[_ENDED]:
        return snapshots[place]
    return None
