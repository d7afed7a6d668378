"""${message}."""

from jts_storage.migrate.mongo_operations import Operations


async def up(op: Operations) -> None:
    # index = {"name": "your_collection_your_field", "key": {"yourField": 1}}
    # await op.create_indexes("your_collection", [index])
    raise NotImplementedError('Write what "${title}" changes.')


async def down(op: Operations) -> None:
    # await op.drop_indexes("your_collection", ["your_collection_your_field"])
    raise NotImplementedError('Write what takes "${title}" back.')
