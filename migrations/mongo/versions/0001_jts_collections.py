"""The collections of JTS, as its own services filled them: without rules."""

from jts_storage.migrate.mongo_operations import Operations

COLLECTIONS = ("formulas", "strategies", "backtest_results")


async def up(op: Operations) -> None:
    for name in COLLECTIONS:
        await op.create_collection(name)


async def down(op: Operations) -> None:
    for name in reversed(COLLECTIONS):
        await op.drop_collection_if_empty(name)
