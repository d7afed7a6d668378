"""Finishing what is decided: after a crash, and before what must come later."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Any

import pyarrow as pa
from bson import ObjectId

from jts_storage._runtime.steps import RECOVERY, Ended, of_commit, tell
from jts_storage.domain.changes import CommitChanges
from jts_storage.errors import Conflict, ConnectionFailed, StorageError
from jts_storage.relational import SqlIngestionRepository, staged
from jts_storage.relational import declared as records
from jts_storage.unit_of_work.entries import Entry, check
from jts_storage.unit_of_work.participants import Overtaking, Stores

# Of a replay that meets another writer of the same rows.
_REPLAY_ATTEMPTS = 3
_RECOVERIES_AT_ONCE = 4
_PATIENCE_SECONDS = 30.0
"""How long a deletion waits for a decided commit that another process is finishing."""

_POLL_SECONDS = 0.02

log = logging.getLogger(__name__)


class Unfinished(StorageError):
    """A decided commit cannot be finished yet."""


@dataclass(slots=True)
class Recovered:
    """What a recovery has done, as far as it came.

    :param finished: how many commits it has finished; None if some could not be.
    :param forgotten: how many former candles and revisions, older than is kept, it has deleted.
    :param not_forgotten: what kept it from deleting them.
    """

    finished: int | None = None
    forgotten: int = 0
    not_forgotten: StorageError | None = None


class Recovery:
    """Finishes the decided commits of one set of stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def finish_first(self, changes: CommitChanges) -> None:
        """Finish decided commits that are still to write candles which `changes` delete.

        :raises Overtaking: one cannot be finished now.
        """
        earlier = await self._stores.journal.unfinished(changes.shortened_series)
        if not earlier:
            return
        try:
            await self.recover(only=earlier)
        except Unfinished as exc:
            raise Overtaking(
                f"An earlier commit has not stored yet what is to be deleted: {exc}",
                remedy="Repeat once it is finished.",
            ) from exc

    async def wait_for_earlier(self, changes: CommitChanges, version: int) -> None:
        """Wait until the earlier commits of the series that are deleted from are stored.

        :raises Unfinished: an earlier commit is decided and cannot be finished.
        """
        if not changes.shortened_series:
            return
        await self._stores.clock.wait_for_earlier(version, changes.shortened_series)
        await self._finish_earlier(changes.shortened_series, version)

    async def finish_earlier(self, series: Collection[str] | None, version: int) -> bool:
        """Finish the earlier commits of series that candles are about to be written to.

        What is replaced is kept with the history, so what they wrote must be there. One that cannot
        be finished holds nobody up, and neither does a journal that cannot be asked: the commit
        that waits may be decided already. Return whether none is left.

        :param series: None stands for all.
        """
        try:
            await self._finish_earlier(series, version)
        except (Unfinished, ConnectionFailed) as exc:
            log.warning("The history of candles may miss what a commit wrote: %s", exc)
            return False
        return True

    async def _finish_earlier(self, series: Collection[str] | None, version: int) -> None:
        """:raises Unfinished: one cannot be finished, or another process takes too long."""
        started = monotonic()
        while earlier := await self._stores.journal.unfinished(series, before=version):
            await self.recover(only=earlier)
            if monotonic() - started > _PATIENCE_SECONDS:
                raise Unfinished(
                    f"Commit {earlier[0]} comes first, is decided and is not finished yet.",
                    remedy="Wait, or see with `jts-storage recover` what holds it up.",
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def recover(self, *, only: Collection[ObjectId] | None = None) -> int:
        """Finish the decided commits that no living process is finishing; return how many.

        :param only: leave all others alone.
        :raises Unfinished: some could not be finished; all the others are.
        """
        seen: set[ObjectId] = set()
        finished: list[ObjectId] = []
        failed: dict[ObjectId, StorageError] = {}

        async def one(entry: Entry) -> None:
            async with places:
                with of_commit(entry.id):
                    await look_at(entry)

        async def look_at(entry: Entry) -> None:
            about = {"commit_id": str(entry.id)}
            begun = perf_counter()
            try:
                if await self._recover_one(entry):
                    finished.append(entry.id)
                    tell(Ended(RECOVERY, "finished", seconds=perf_counter() - begun))
                    log.warning("Finished an interrupted commit %s.", entry.id, extra=about)
            except StorageError as exc:
                failed[entry.id] = exc
                tell(Ended(RECOVERY, "failed", seconds=perf_counter() - begun))
                log.warning("A commit cannot be finished: %s", exc, extra=about)

        places = asyncio.Semaphore(_RECOVERIES_AT_ONCE)
        while True:
            entries = [
                entry
                for entry in await self._stores.journal.pending()
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
        """Remove what failed commits and deliveries left, and set the clock above all versions.

        Where a store is away, its part is left for the next time.
        """
        for work in (
            self._stores.clock.catch_up,
            self._stores.clock.purge,
            self._stores.journal.purge,
            self._stores.delivery.purge,
            self._stores.outcomes.purge,
            partial(self._stores.deliveries.purge, self._stores.clock.subscriptions),
            self._forget_applied,
        ):
            try:
                await work()
            except StorageError:
                log.info("What commits left is not all tidied up.", exc_info=True)

    async def _forget_applied(self) -> None:
        # While the journal has an entry, recovery may have to find its id there, however old.
        if not await self._stores.journal.pending():
            await self._stores.ingestion.forget_applied()

    async def _recover_one(self, entry: Entry) -> bool:
        check(entry)
        # A failure has to leave the block: that is what gives the lease of the entry back.
        async with self._stores.journal.claimed(entry) as is_ours:
            if not is_ours:
                return False
            await self._finish(entry)
        return True

    async def _finish(self, entry: Entry) -> None:
        """Bring a decided commit, whose process is gone, into every store."""
        changes = await self._stores.journal.load(entry)
        if changes is None:
            return
        of_candles = entry.series is None or bool(entry.series)
        await self._stores.clock.begin_writing(candles=of_candles)
        changes.symbols_version = entry.symbols_version
        self._check_models(entry)
        # Bookkeeping before ClickHouse, as in the commit itself.
        if changes.touches_database:
            await self._replay(entry, changes)
        await self.wait_for_earlier(changes, entry.version)
        if self._stores.candles.keeps_history:
            await self.finish_earlier(entry.series, entry.version)
        async with self._stores.announcer.writing(
            entry.series, symbols=bool(changes.symbols), is_decided=True
        ):
            await self._store(entry, changes)
        # The entry goes last: a crash before that only means that all of this is done again.
        await self._stores.clock.forget([entry.id])
        await self._stores.journal.done(entry.id)

    async def _store(self, entry: Entry, changes: CommitChanges) -> None:
        """Give ClickHouse its part."""
        await self._stores.store_series(changes, entry.version)
        async for rows in self._stores.journal.rows(entry, "candles"):
            write = partial(
                self._stores.candles.write_rows,
                rows,
                entry.version + 1,
                again=True,
                source=changes.candles.source,
            )
            await self._stores.clickhouse.run(write)
        await self._store_tables(entry, changes)

    def _check_models(self, entry: Entry) -> None:
        """:raises Unfinished: this storage does not know a table that the entry writes."""
        unknown = [name for name in entry.models if name not in self._stores.models]
        if unknown:
            raise Unfinished(
                f"Commit {entry.id} writes {', '.join(unknown)}, of which this storage has no"
                " model.",
                remedy="Open a storage with that model; the commit waits for it.",
            )

    def _check_columns(self, entry: Entry, name: str, rows: pa.Table) -> None:
        """:raises Unfinished: the model has columns that the entry knows nothing of."""
        model: Any = self._stores.models.table(name)
        missing = set(model.schema.names) - set(rows.column_names)
        if missing:
            raise Unfinished(
                f"Commit {entry.id} writes {name} without {', '.join(sorted(missing))}.",
                remedy="Open a storage with the model that it was written with.",
            )

    async def _store_tables(self, entry: Entry, changes: CommitChanges) -> None:
        """Write the rows of declared tables in ClickHouse, chunk by chunk."""
        stores = self._stores
        modes = {change.name: change.mode for change in changes.tables_in("clickhouse")}
        if "append" in modes.values():
            # Or its own rows would come once more, behind those that are deleted here.
            await stores.clock.wait_until_landed(entry.id)
            # Under a version of our own, noted first: whoever takes over deletes what it wrote.
            async with stores.clock.place() as place:
                before = await stores.journal.appends_as(entry, place.version)
                await stores.forget_appended(changes, before)
                await self._write_tables(entry, modes, place.version)
        elif modes:
            await self._write_tables(entry, modes, entry.version + 1)

    async def _write_tables(self, entry: Entry, modes: Mapping[str, str], appended_as: int) -> None:
        stores = self._stores
        offsets: Counter[str] = Counter()
        async for name, rows in stores.journal.tables(entry):
            if name not in modes:
                continue
            self._check_columns(entry, name, rows)
            table = stores.declared(name)
            if modes[name] == "append":
                await stores.clickhouse.run(table.write, rows, appended_as, offsets[name])
                offsets[name] += rows.num_rows
            else:
                await stores.clickhouse.run(table.apply, rows, entry.version + 1)

    async def _replay(self, entry: Entry, changes: CommitChanges) -> None:
        for attempt in range(1, _REPLAY_ATTEMPTS + 1):
            try:
                await self._replay_once(entry, changes)
            except Conflict:
                if attempt == _REPLAY_ATTEMPTS:
                    raise
            else:
                return

    async def _replay_once(self, entry: Entry, changes: CommitChanges) -> None:
        database, journal = self._stores.database, self._stores.journal
        async with database.transaction() as connection:
            # False if the database has the commit: its id is stored in the same transaction.
            if await staged.replay(database, connection, changes, str(entry.id)):
                bars = SqlIngestionRepository(database, connection=connection).bars
                async for rows in journal.rows(entry, "bars"):
                    for series in rows:
                        await bars.save_many(series.key, series)
                async for name, table in journal.tables(entry):
                    model: Any = self._stores.models.table(name)
                    if model.store == "database":
                        self._check_columns(entry, name, table)
                        await records.replay(connection, model, table)


def _unfinished(failed: dict[ObjectId, StorageError]) -> Unfinished:
    (identity, first), *others = failed.items()
    more = f" (and {len(others)} others)" if others else ""
    error = Unfinished(
        f"Commit {identity}{more} is decided and cannot be finished yet: {first}",
        remedy="Mend what is named, then run `jts-storage recover`.",
    )
    error.__cause__ = first
    return error
