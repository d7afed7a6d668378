"""The beginning of the history of documents: every one that is stored gets a first revision."""

from __future__ import annotations

from typing import Final

from bson import Int64

from jts_storage.mongo.documents import VersionedDocument
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.revisions import (
    DOCUMENT,
    HISTORIES,
    NUMBER,
    SINCE,
    SOURCE,
    STORED,
    VERSION,
)
from jts_storage.mongo.stored import ID

_FOUND: Final = "found"


async def adopt(manager: MongoDBManager, since: int) -> bool:
    """Write a revision of every document without one since that version.

    Doing it twice, or in two processes at once, is doing it once.

    :param since: the same each time it is repeated.
    :return: whether anything is stored, or was.
    """
    found = False
    for name, history in HISTORIES.items():
        model: type[VersionedDocument] = manager.models.of(name)
        await _merge(manager, name, history, _present(model, history, since))
        await _merge(manager, history, history, _vanished(name, since))
        found = found or await _has_any(manager, history)
    return found


def _present(model: type[VersionedDocument], history: str, since: int) -> list[Bson]:
    version = {"$ifNull": [f"${model.path('version')}", 1]}
    later = {"$match": {SINCE: {"$gte": Int64(since)}}}
    return [
        _looked_up(history, ID, DOCUMENT, [later]),
        {"$match": {_FOUND: []}},
        {"$unset": _FOUND},
        {"$replaceWith": _revision(f"${ID}", since, version, "$$ROOT")},
    ]


def _vanished(name: str, since: int) -> list[Bson]:
    """The documents that were deleted while no history was kept."""
    return [
        {"$sort": {DOCUMENT: 1, SINCE: -1, NUMBER: -1}},
        {
            "$group": {
                ID: f"${DOCUMENT}",
                VERSION: {"$first": f"${VERSION}"},
                SINCE: {"$first": f"${SINCE}"},
            }
        },
        {"$match": {VERSION: {"$ne": None}, SINCE: {"$lt": Int64(since)}}},
        _looked_up(name, ID, ID, []),
        {"$match": {_FOUND: []}},
        {"$replaceWith": _revision(f"${ID}", since, None, None)},
    ]


def _looked_up(collection: str, own: str, its: str, pipeline: list[Bson]) -> Bson:
    return {
        "$lookup": {
            "from": collection,
            "localField": own,
            "foreignField": its,
            "pipeline": [*pipeline, {"$limit": 1}, {"$project": {ID: 1}}],
            "as": _FOUND,
        }
    }


def _revision(document: str, since: int, version: Bson | None, stored: str | None) -> Bson:
    return {
        DOCUMENT: document,
        SINCE: Int64(since),
        NUMBER: {"$literal": 0},
        VERSION: version,
        SOURCE: {"$literal": ""},
        STORED: stored,
    }


async def _merge(manager: MongoDBManager, name: str, history: str, made: list[Bson]) -> None:
    into = {
        "into": history,
        "on": [DOCUMENT, SINCE, NUMBER],
        "whenMatched": "keepExisting",
        "whenNotMatched": "insert",
    }
    collection = manager.get_collection(name)
    pipeline = [*made, {"$merge": into}]

    async def merge() -> None:
        await collection.aggregate(pipeline, allowDiskUse=True)

    await manager.retries.repeat(f"beginning the history of {name}", merge)


async def _has_any(manager: MongoDBManager, history: str) -> bool:
    collection = manager.get_collection(history)
    found = await manager.retries.repeat(
        f"reading in {history}", lambda: collection.find_one({}, {ID: 1})
    )
    return found is not None
