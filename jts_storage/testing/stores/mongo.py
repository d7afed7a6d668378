"""A MongoDB database of the tests."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient, WriteConcern
from pymongo.database import Database
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from jts_storage import migrate
from jts_storage.mongo import MongoDBConfig, MongoDBManager
from jts_storage.settings.storage import named_migrations
from jts_storage.testing.address import Address
from jts_storage.testing.stores.base import (
    BOOKS_OF_MIGRATIONS,
    Server,
    ServerStore,
    faults_of,
    proxied,
)


class MongoStore(ServerStore):
    """A MongoDB database on a replica set."""

    def __init__(self, server: Server, database: str) -> None:
        super().__init__(server, database)
        self._client: MongoClient[dict[str, Any]] | None = None

    def prepare(self) -> None:
        asyncio.run(self._migrate())
        self._client = MongoClient(self._url, w="majority")
        self._closing.callback(self._client.close)

    def clean(self) -> None:
        assert self._client is not None, "prepare() comes first"
        db = self._client[self._database]
        # A replica set has one log: if its last entry is safe, so are all before. Shards have more.
        hasty = db if self._client.is_mongos else db.with_options(write_concern=WriteConcern(1))
        names = _with_documents(db)
        for name in names[:-1]:
            hasty[name].delete_many({})
        for name in names[-1:]:
            db[name].delete_many({})

    def break_off(self) -> None:
        assert self._client is not None, "prepare() comes first"
        try:
            self._client.admin.command("killAllSessions", [])
        except PyMongoError:
            return  # we lack the right; the server ends idle sessions later

    async def _migrate(self) -> None:
        config = MongoDBConfig(uri=self._url, database=self._database)
        async with MongoDBManager(config) as mongo:
            await migrate.up(migrate.Databases(mongo=mongo, service=named_migrations()))

    def _proxied(self) -> Address:
        parts = parse_uri(self._url)
        host, port = parts["nodelist"][0]
        alone = len(parts["nodelist"]) == 1
        secure = bool(parts["options"].get("tls"))
        user, password = parts["username"] or "", parts["password"] or ""
        proxy = proxied(host, port, self._closing, secure=secure) if alone else None
        url = self._url
        if proxy is not None:
            host, port = proxy.host, proxy.port
            credentials = f"{quote(user, '')}:{quote(password, '')}@" if user else ""
            # Directly: otherwise the replica set gives the client the address behind the proxy.
            url = f"mongodb://{credentials}{host}:{port}/?directConnection=true"
        return Address(
            url=url,
            host=host,
            port=port,
            database=self._database,
            user=user,
            password=password,
            **faults_of(proxy),
        )


def _with_documents(db: Database[dict[str, Any]]) -> list[str]:
    """Return the collections that hold documents: cheaper than deleting from empty ones."""
    listed = db.list_collections(nameOnly=True)
    ours = ("system.", *BOOKS_OF_MIGRATIONS)
    names = [
        each["name"]
        for each in listed
        if each["type"] == "collection" and not each["name"].startswith(ours)
    ]
    if not names:
        return []
    first, *rest = names
    unions = [{"$unionWith": {"coll": name, "pipeline": _one(name)}} for name in rest]
    return [found["_id"] for found in db[first].aggregate([*_one(first), *unions])]


def _one(name: str) -> list[dict[str, Any]]:
    """The name of a collection, once, if it holds anything."""
    return [{"$limit": 1}, {"$project": {"_id": {"$literal": name}}}]
