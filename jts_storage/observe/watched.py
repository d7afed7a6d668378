"""What is looked at: an open storage, as far as this room needs to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from jts_storage.ports.health import Health

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.mongo.manager import MongoDBManager
    from jts_storage.relational.manager import DatabaseManager


class Watched(Protocol):
    """An open `Storage`; its managers raise `StorageError` where the stores are not its own."""

    @property
    def clickhouse(self) -> ClickHouseManager: ...
    @property
    def mongo(self) -> MongoDBManager: ...
    @property
    def database(self) -> DatabaseManager: ...

    async def health(self) -> Health: ...
