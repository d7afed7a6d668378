"""${message}."""

from jts_storage.migrate.mongo_operations import Operations


async def up(op: Operations) -> None:
    await op.create_indexes("formulas", [{"name": "formulas_name", "key": {"name": 1}}])


async def down(op: Operations) -> None:
    await op.drop_indexes("formulas", ["formulas_name"])
