"""One connection of the pool, as the repositories see it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.relational.statements import Statement

ResultRows = Sequence[Sequence[Any]]


class Link(ABC):
    """A database connection: SQLAlchemy's for statements of others, the driver's for ours."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.opened_at = 0.0
        self.idle_since = 0.0

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether it may still work; False is certain."""

    @property
    @abstractmethod
    def in_transaction(self) -> bool: ...

    @abstractmethod
    async def fetch(self, statement: Statement, **values: Any) -> ResultRows:
        """Run a statement and return all rows."""

    @abstractmethod
    async def change(self, statement: Statement, **values: Any) -> int:
        """Run a statement and return how many rows it touched."""

    @abstractmethod
    async def execute(self, sql: str) -> None:
        """Run SQL without parameters or a result."""

    @abstractmethod
    async def lock(self, name: str) -> None:
        """Hold a name until the transaction ends."""

    @abstractmethod
    async def write_bars(self, key: SeriesKey, columns: Columns) -> None:
        """Upsert bars, within a transaction."""

    @abstractmethod
    async def read_bars(self, key: SeriesKey, first: int, last: int, limit: int) -> Columns:
        """The bars from millisecond `first` to `last`, at most `limit`."""

    @abstractmethod
    def moment(self, value: datetime) -> Any:
        """A time as this database takes it."""

    def moment_by_default(self, value: datetime) -> Any:
        """The same time as the database's own default may have written it."""
        return self.moment(value)

    async def break_off(self) -> None:
        """End the connection now, whatever it is doing."""
        await self.connection.invalidate()
        await self.connection.close()

    def abandon(self) -> None:
        """Drop the connection although its event loop is gone."""
        sync = self.connection.sync_connection
        if sync is not None:
            sync.detach()

    begin_statement = "BEGIN"

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """A transaction around the block, or the one that is open already, which stays so."""
        if self.in_transaction:
            yield
            return
        await self.execute(self.begin_statement)
        try:
            yield
        except Exception:
            await self.roll_back()
            raise
        await self.execute("COMMIT")

    async def roll_back(self) -> None:
        if self.is_open and self.in_transaction:
            await self.execute("ROLLBACK")

    async def close(self) -> None:
        """Close an idle connection properly."""
        await self.connection.close()
