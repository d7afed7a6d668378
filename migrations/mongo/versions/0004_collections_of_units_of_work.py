"""Collections of units of work: one that is made within a transaction makes others fail."""

from typing import Any

from jts_storage.migrate.mongo_operations import Operations

INDEXES: dict[str, list[dict[str, Any]]] = {
    "uow_journal": [],
    "uow_journal_chunks": [
        {"name": "uow_journal_chunks_entry", "key": {"entry": 1, "kind": 1, "n": 1}},
    ],
    "uow_events": [
        {"name": "uow_events_key", "key": {"key": 1, "version": 1, "n": 1}},
    ],
    "uow_leases": [],
}


async def up(op: Operations) -> None:
    for collection, indexes in INDEXES.items():
        await op.create_collection(collection)
        if indexes:
            await op.create_indexes(collection, indexes)


async def down(op: Operations) -> None:
    for collection, indexes in INDEXES.items():
        await op.drop_indexes(collection, [index["name"] for index in indexes])
        # What is in them belongs to commits that are not finished yet.
        await op.drop_collection_if_empty(collection)
