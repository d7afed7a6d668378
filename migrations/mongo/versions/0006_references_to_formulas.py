"""Where saving a strategy and deleting a formula that it uses meet, so that one has a conflict."""

from jts_storage.migrate.mongo_operations import Operations

COLLECTION = "uow_references"


async def up(op: Operations) -> None:
    await op.create_collection(COLLECTION)


async def down(op: Operations) -> None:
    await op.drop_collection_if_empty(COLLECTION)
