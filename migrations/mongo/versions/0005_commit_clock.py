"""The commit clock, which gives each commit its place in the order of all."""

from jts_storage.migrate.mongo_operations import Operations

NAME = "uow_clock"


async def up(op: Operations) -> None:
    await op.create_collection(NAME)


async def down(op: Operations) -> None:
    # The versions it gave are in rows that stay, so it stays where it has given any.
    await op.drop_collection_if_empty(NAME)
