"""Collections that a first commit would make otherwise, and get into the way of another one."""

from jts_storage.migrate.mongo_operations import Operations

COLLECTIONS = ("uow_outcomes", "uow_purges", "uow_history", "uow_cache")


async def up(op: Operations) -> None:
    for name in COLLECTIONS:
        await op.create_collection(name)


async def down(op: Operations) -> None:
    for name in COLLECTIONS:
        await op.drop_collection_if_empty(name)
