"""The stores of one `Storage` together: what a commit writes to them, and what recovery does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

from bson import ObjectId
from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.clickhouse.versions import next_version
from jts_storage.delivery import Delivery
from jts_storage.errors import Conflict, StorageError
from jts_storage.journal import Entry, Journal
from jts_storage.mongo import MongoDBManager
from jts_storage.outbox import Outbox
from jts_storage.relational import DatabaseManager, SqlIngestionRepository, staged
from jts_storage.staged_work import StagedWork

_REPLAY_ATTEMPTS = 3

log = logging.getLogger(__name__)


class Overtaking(Conflict):
    """A decided commit, not finished yet, comes first."""


class Unfinished(StorageError):
    """A decided commit cannot be finished yet."""


class Commits:
    """The commits under way, with the delivery of their events."""

    def __init__(self) -> None:
        self._under_way = 0
        self._none_left = asyncio.Event()
        self._is_over = False

    @contextmanager
    def one(self) -> Iterator[None]:
        """:raises StorageError: the stores are being closed."""
        if self._is_over:
            raise StorageError(
                "This storage was closed before the commit; nothing of it is stored.",
                remedy="Open it again and repeat.",
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._none_left.set()

    async def ended(self, seconds: float) -> None:
        """Let none begin from now on, and wait for the others for so long."""
        self._is_over = True
        if self._under_way:
            self._none_left.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._none_left.wait()


@dataclass(slots=True)
class Stores:
    """The stores of one `Storage`, and what lies between them."""

    clickhouse: ClickHouseManager
    mongo: MongoDBManager
    database: DatabaseManager
    candles: ClickHouseCandleRepository
    symbols: ClickHouseSymbolRepository
    ingestion: SqlIngestionRepository
    journal: Journal
    outbox: Outbox
    delivery: Delivery
    commits: Commits = field(default_factory=Commits)

    async def store_series(self, work: StagedWork, version: int) -> None:
        """Give ClickHouse its part; doing it twice is doing it once."""
        if work.candles:
            await self.clickhouse.run(self.candles.apply, work.candles, version)
        if work.symbols:
            await self.clickhouse.run(self.symbols.store, work.symbols, version + 1)

    async def next_version(self, work: StagedWork) -> int:
        """The first of two versions, later than those of what `work` is to replace."""
        if work.candles:
            await self.clickhouse.run(self.candles.see_versions, work.candles)
        return next_version(2)

    @asynccontextmanager
    async def bookkeeping(self, work: StagedWork) -> AsyncIterator[AsyncConnection]:
        """A SQL transaction with the bookkeeping of `work` in it, committed at the end.

        :raises Conflict: something that it depends on was changed meanwhile.
        """
        async with self.database.transaction() as connection:
            await staged.apply(self.database, connection, work)
            # Looked at while the rows are locked: who held them before has decided, or never will.
            if await self.journal.is_awaited(work.names):
                raise Overtaking(
                    "A commit that is decided, but not finished yet, changes the same bookkeeping.",
                    remedy="Read again and repeat.",
                )
            yield connection

    async def recover(self) -> int:
        """Finish the decided commits that nobody alive is finishing; how many there were.

        :raises Unfinished: some could not be finished; all the others are.
        """
        finished = 0
        failed: dict[ObjectId, StorageError] = {}
        while True:
            entry = None
            try:
                # A failure has to leave this block, which then lets go of the entry.
                async with self.journal.claimed(besides=failed) as entry:
                    if entry is None:
                        break
                    await self._finish(entry)
            except StorageError as exc:
                if entry is None:
                    raise
                failed[entry.id] = exc
                log.warning("A commit cannot be finished: %s", exc)
            else:
                finished += 1
                log.warning("Finished an interrupted commit %s.", entry.id)
        if failed:
            raise _unfinished(failed)
        return finished

    async def purge(self) -> None:
        """Forget what commits and deliveries left that came to nothing."""
        await self.journal.purge()
        await self.delivery.purge()

    async def _finish(self, entry: Entry) -> None:
        """Bring a decided commit, whose process is gone, into every store."""
        work = await self.journal.load(entry)
        if work is None:
            return
        await self.store_series(work, entry.version)
        async for series in self.journal.series(entry, "candles"):
            write = partial(self.candles.write, series, entry.version + 1, again=True)
            await self.clickhouse.run(write)
        if work.touches_database:
            await self._replay(entry, work)
        await self.journal.done(entry.id)

    async def _replay(self, entry: Entry, work: StagedWork) -> None:
        for attempt in range(1, _REPLAY_ATTEMPTS + 1):
            try:
                async with self.database.transaction() as connection:
                    await staged.replay(self.database, connection, work, entry.decided_at)
                    bars = SqlIngestionRepository(self.database, connection=connection).bars
                    async for series in self.journal.series(entry, "bars"):
                        await bars.save_many(series.key, series)
            except Conflict:
                if attempt == _REPLAY_ATTEMPTS:
                    raise
            else:
                return


def _unfinished(failed: dict[ObjectId, StorageError]) -> Unfinished:
    (identity, first), *others = failed.items()
    more = f" (and {len(others)} others)" if others else ""
    error = Unfinished(
        f"Commit {identity}{more} is decided and cannot be finished yet: {first}",
        remedy="Mend what is named, then run `jts-storage recover`.",
    )
    error.__cause__ = first
    return error
