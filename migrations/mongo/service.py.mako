"""${message}."""

from jts_storage.migrate.mongo_operations import Operations


async def up(op: Operations) -> None:
    await op.create_indexes("orders", [{"name": "orders_state", "key": {"state": 1}}])


async def down(op: Operations) -> None:
    await op.drop_indexes("orders", ["orders_state"])
