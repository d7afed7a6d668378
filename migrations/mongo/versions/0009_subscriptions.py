"""Events stored for named subscriptions, and the leases of those who consume them."""

from jts_storage.migrate.mongo_operations import Operations

COLLECTIONS = ("uow_deliveries", "uow_consumers")


async def up(op: Operations) -> None:
    for name in COLLECTIONS:
        await op.create_collection(name)


async def down(op: Operations) -> None:
    for name in COLLECTIONS:
        await op.drop_collection_if_empty(name)
