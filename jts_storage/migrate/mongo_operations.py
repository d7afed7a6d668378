"""What MongoDB migrations are written with. Each operation may be repeated without harm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pymongo.asynchronous.client_session import AsyncClientSession

from jts_storage.mongo.manager import Database
from jts_storage.mongo.schema import shown

_TEXT_KEY: Final = "_fts"


class Operations:
    """Changes a database, or prints what would.

    :param db: the database; None to print only.
    :param session: a transaction that everything is part of.
    """

    def __init__(self, db: Database | None, session: AsyncClientSession | None = None) -> None:
        self._db = db
        self._session = session
        self.printed: list[str] = []

    @property
    def is_printing(self) -> bool:
        return self._db is None

    @property
    def db(self) -> Database:
        """The database itself, for what the methods do not offer; not there when printing."""
        if self._db is None:
            raise RuntimeError("Printing only: ask `is_printing` before using `db`.")
        return self._db

    async def create_collection(self, name: str) -> None:
        self._print(f"db.createCollection({shown(name)});")
        if self._db is not None and name not in await self._collections():
            await self._db.create_collection(name)

    async def drop_collection_if_empty(self, name: str) -> None:
        """One with documents stays: no older schema could hold them."""
        self._print(f"// if it is empty: db.getCollection({shown(name)}).drop();")
        if self._db is None or name not in await self._collections():
            return
        if await self._db.get_collection(name).find_one({}, {"_id": 1}) is None:
            await self._db.drop_collection(name)

    async def create_indexes(self, collection: str, indexes: Sequence[Mapping[str, Any]]) -> None:
        """Create indexes, each ``{"name": ..., "key": {...}, **options}``.

        One that is there under another name or with other options, and so in the way, goes.
        """
        command = {"createIndexes": collection, "indexes": [dict(index) for index in indexes]}
        self._print(f"db.runCommand({shown(command)});")
        if self._db is None:
            return
        there = await self._indexes(collection)
        for index in indexes:
            for name in [name for name, old in there.items() if _is_in_the_way(old, index)]:
                await self._db.command({"dropIndexes": collection, "index": name})
                del there[name]
        await self._db.command(command)

    async def drop_indexes(self, collection: str, names: Sequence[str]) -> None:
        for name in names:
            self._print(f"db.getCollection({shown(collection)}).dropIndex({shown(name)});")
        if self._db is None:
            return
        for name in (await self._indexes(collection)).keys() & set(names):
            await self._db.command({"dropIndexes": collection, "index": name})

    async def set_validator(self, collection: str, schema: Mapping[str, Any] | None) -> None:
        """Refuse new documents that break the schema; None refuses nothing any more.

        Documents that break it already can still be read and updated.
        """
        command = {
            "collMod": collection,
            "validator": {"$jsonSchema": dict(schema)} if schema else {},
            "validationLevel": "moderate" if schema else "strict",
            "validationAction": "error",
        }
        self._print(f"db.runCommand({shown(command)});")
        if self._db is not None and collection in await self._collections():
            await self._db.command(command)

    async def update_many(
        self, collection: str, where: Mapping[str, Any], change: Mapping[str, Any] | Sequence[Any]
    ) -> None:
        """Change documents. `where` should leave out those that are changed already."""
        self._print(
            f"db.getCollection({shown(collection)}).updateMany({shown(where)}, {shown(change)});"
        )
        if self._db is not None:
            await self._db.get_collection(collection).update_many(
                where, change, session=self._session
            )

    def _print(self, line: str) -> None:
        if self._db is None:
            self.printed.append(line)

    async def _collections(self) -> set[str]:
        return set(await self.db.list_collection_names())

    async def _indexes(self, collection: str) -> dict[str, Mapping[str, Any]]:
        cursor = await self.db.get_collection(collection).list_indexes()
        return {index["name"]: index async for index in cursor}


def _is_in_the_way(old: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    old_key, key = dict(old["key"]), dict(wanted["key"])
    if _TEXT_KEY in old_key and "text" in key.values():
        # A collection has one text index at most.
        options = ("name", "weights", "default_language", "language_override")
        return any(old.get(option) != wanted.get(option) for option in options)
    if old["name"] == wanted["name"]:
        return list(old_key.items()) != list(key.items()) or _options(old) != _options(wanted)
    return list(old_key.items()) == list(key.items())


def _options(index: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in index.items() if name not in {"v", "ns", "key", "name"}}
