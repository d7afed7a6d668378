"""The stores of one `Storage` together: what a commit writes to them, and what recovery does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from bson import ObjectId
from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.clickhouse.candles import ClickHouseCandleStore
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolStore
from jts_storage.clock import CommitClock
from jts_storage.delivery import Delivery
from jts_storage.errors import Conflict, SchemaDrift, StorageError
from jts_storage.journal import Entry, Journal
from jts_storage.mongo import MongoDBManager
from jts_storage.outbox import Outbox
from jts_storage.relational import DatabaseManager, SqlIngestionRepository, staged
from jts_storage.staged_work import StagedWork

_REPLAY_ATTEMPTS = 3
_RECOVERIES_AT_ONCE = 4
_PATIENCE_SECONDS = 30.0
"""How long a deletion waits for a decided commit that another process is finishing."""

_POLL_SECONDS = 0.02

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
    """The open connections and repositories of one `Storage`, with the journal and the outbox."""

    clickhouse: ClickHouseManager
    mongo: MongoDBManager
    database: DatabaseManager
    candles: ClickHouseCandleStore
    symbols: ClickHouseSymbolStore
    ingestion: SqlIngestionRepository
    clock: CommitClock
    journal: Journal
    outbox: Outbox
    delivery: Delivery
    commits: Commits = field(default_factory=Commits)

    # ---- what a commit does

    async def store_alone(self, work: StagedWork) -> None:
        """Write what is one insert into ClickHouse and nothing else."""
        while True:
            symbols_above = await self.symbols_above(work)
            async with self.clock.place(
                symbols_above=symbols_above, series=work.series_names
            ) as place:
                work.symbols_version = place.symbols_version
                await self.store_series(work, place.version)
            if place.was_kept:
                return
            # Deletions that came later have not waited for these rows: write them after those.
            log.warning("A write took longer than its lease; it is repeated as a later one.")

    async def symbols_above(self, work: StagedWork) -> int | None:
        """Return what the version of its symbols must be above, having seen that ClickHouse
        answers; None if it has none.

        Nobody but the kit writes candles; other programs write symbols, under ClickHouse's time.
        """
        if not work.touches_clickhouse:
            return None
        return await self.clickhouse.run(self._symbols_above, work)

    def _symbols_above(self, work: StagedWork) -> int | None:
        self.clickhouse.connect()
        if work.candles:
            self.candles.check_writable()
        codes = {symbol.code for symbol in work.symbols}
        return self.symbols.version_before_now(codes) if codes else None

    async def store_series(self, work: StagedWork, version: int) -> None:
        """Give ClickHouse its part; doing it twice is doing it once."""
        if work.candles:
            await self.clickhouse.run(self.candles.apply, work.candles, version)
        if work.symbols:
            # An entry of an earlier release has no version of its own for them.
            its = work.symbols_version or version + 1
            await self.clickhouse.run(self.symbols.store, work.symbols, its)

    async def finish_first(self, work: StagedWork) -> None:
        """Finish what is decided and is to write candles that `work` deletes.

        :raises Overtaking: it cannot be finished now.
        """
        earlier = await self.journal.unfinished(work.shortened_series)
        if not earlier:
            return
        try:
            await self.recover(only=earlier)
        except Unfinished as exc:
            raise Overtaking(
                f"What is to be deleted is not there yet: {exc}", remedy="Repeat once it is."
            ) from exc

    async def wait_for_earlier(self, work: StagedWork, version: int) -> None:
        """Wait until what came before a deletion is there to be deleted.

        :raises Unfinished: an earlier commit is decided and cannot be finished.
        """
        if not work.shortened_series:
            return
        await self.clock.wait_for_earlier(version, work.shortened_series)
        started = monotonic()
        while earlier := await self.journal.unfinished(work.shortened_series, before=version):
            await self.recover(only=earlier)
            if monotonic() - started > _PATIENCE_SECONDS:
                raise Unfinished(
                    f"Commit {earlier[0]} comes first, is decided and is not finished yet.",
                    remedy="Wait, or see with `jts-storage recover` what holds it up.",
                )
            await asyncio.sleep(_POLL_SECONDS)

    @asynccontextmanager
    async def bookkeeping(
        self, work: StagedWork, commit: str | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A SQL transaction with the bookkeeping of `work` in it, committed at the end.

        :param commit: its id, if recovery could have to apply it.
        :raises Conflict: something that it depends on was changed meanwhile.
        """
        async with self.database.transaction() as connection:
            await staged.apply(self.database, connection, work, commit)
            # Looked at while the rows are locked: who held them before has decided, or never will.
            awaited = await self.journal.unfinished(work.bookkeeping_names)
            applied = SqlIngestionRepository(self.database, connection=connection)
            if await applied.lacks(map(str, awaited)):
                raise Overtaking(
                    "A commit that is decided, but not finished yet, changes the same bookkeeping.",
                    remedy="Read again and repeat.",
                )
            yield connection

    # ---- recovery

    async def recover(self, *, only: Collection[ObjectId] | None = None) -> int:
        """Finish the decided commits that nobody alive is finishing; how many there were.

        :param only: leave all others alone.
        :raises Unfinished: some could not be finished; all the others are.
        """
        seen: set[ObjectId] = set()
        finished: list[ObjectId] = []
        failed: dict[ObjectId, StorageError] = {}

        async def one(entry: Entry) -> None:
            async with places:
                try:
                    if await self._recover_one(entry):
                        finished.append(entry.id)
                except StorageError as exc:
                    failed[entry.id] = exc
                    log.warning("A commit cannot be finished: %s", exc)

        places = asyncio.Semaphore(_RECOVERIES_AT_ONCE)
        while True:
            entries = [
                entry
                for entry in await self.journal.pending()
                if entry.id not in seen and (only is None or entry.id in only)
            ]
            if not entries:
                break
            seen.update(entry.id for entry in entries)
            await asyncio.gather(*map(one, entries))
        if failed:
            raise _unfinished(failed)
        return len(finished)

    async def purge(self) -> None:
        """Forget what commits and deliveries left that came to nothing, and look at the clock.

        What a store that is away would have to do is left for the next time.
        """
        for work in (
            self.clock.catch_up,
            self.clock.purge,
            self.journal.purge,
            self.delivery.purge,
            self._forget_applied,
        ):
            try:
                await work()
            except StorageError:
                log.info("What commits left is not all tidied up.", exc_info=True)

    async def _forget_applied(self) -> None:
        # What is still in the journal may have to be recognised, however old it is.
        if not await self.journal.pending():
            await self.ingestion.forget_applied()

    async def latest_version(self) -> int:
        """The highest version that any store holds, for a clock that is to begin above it."""
        found = [await self.journal.latest_version(), await self.outbox.latest_version()]
        for latest_version in (self.candles.latest_version, self.symbols.latest_version):
            with suppress(SchemaDrift):  # a table that is not there yet, or knows no versions
                found.append(await self.clickhouse.run(latest_version))
        return max(found)

    async def _recover_one(self, entry: Entry) -> bool:
        # A failure has to leave the block, which then lets go of the entry.
        async with self.journal.claimed(entry) as is_ours:
            if not is_ours:
                return False
            await self._finish(entry)
        log.warning("Finished an interrupted commit %s.", entry.id)
        return True

    async def _finish(self, entry: Entry) -> None:
        """Bring a decided commit, whose process is gone, into every store."""
        work = await self.journal.load(entry)
        if work is None:
            return
        work.symbols_version = entry.symbols_version
        if work.touches_database:
            await self._replay(entry, work)
        await self.wait_for_earlier(work, entry.version)
        await self.store_series(work, entry.version)
        async for series in self.journal.series(entry, "candles"):
            write = partial(self.candles.write, series, entry.version + 1, again=True)
            await self.clickhouse.run(write)
        await self.clock.forget([entry.id])
        await self.journal.done(entry.id)

    async def _replay(self, entry: Entry, work: StagedWork) -> None:
        for attempt in range(1, _REPLAY_ATTEMPTS + 1):
            try:
                async with self.database.transaction() as connection:
                    if await staged.replay(self.database, connection, work, str(entry.id)):
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
