"""The stores of one `Storage` together: what a commit writes to them, and what recovery does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from bson import ObjectId
from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage._runtime.steps import Listener, listener
from jts_storage._runtime.tasks import alongside
from jts_storage._runtime.waking import Waiters
from jts_storage.clickhouse.candles import ClickHouseCandleStore
from jts_storage.clickhouse.declared import DeclaredTable
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.shards import check_shards
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.clickhouse.symbols import ClickHouseSymbolStore
from jts_storage.clickhouse.versions import paused_for_too_long
from jts_storage.domain.changes import CommitChanges, TableChange
from jts_storage.errors import Conflict, SchemaDrift
from jts_storage.models import Models, RecordModel
from jts_storage.models.document_repository import ReadOnlyDocuments
from jts_storage.models.table_repository import ReadOnly, StoredTable
from jts_storage.models.tables import AnyTable
from jts_storage.mongo import (
    MongoDBBacktestResultRepository,
    MongoDBFormulaRepository,
    MongoDBManager,
    MongoDBStrategyRepository,
)
from jts_storage.mongo.declared import DeclaredDocuments
from jts_storage.ports.models import Model
from jts_storage.relational import DatabaseManager, SqlIngestionRepository, staged
from jts_storage.relational import declared as records
from jts_storage.relational.declared import DeclaredRecords
from jts_storage.unit_of_work.announcing import NOBODY, Announcer
from jts_storage.unit_of_work.clock import CommitClock
from jts_storage.unit_of_work.clock_expressions import MOST_NAMES
from jts_storage.unit_of_work.damage import Inspection
from jts_storage.unit_of_work.deliveries import Deliveries
from jts_storage.unit_of_work.delivery import Delivery
from jts_storage.unit_of_work.journal import Journal
from jts_storage.unit_of_work.outbox import Outbox
from jts_storage.unit_of_work.outcomes import StoredOutcomes
from jts_storage.unit_of_work.place import Place, written_under
from jts_storage.unit_of_work.under_way import Commits

R = TypeVar("R")
FinishEarlier: TypeAlias = Callable[[Collection[str] | None, int], Awaitable[bool]]


class Overtaking(Conflict):
    """A decided commit, not finished yet, comes first."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at ClickHouse tells before a commit.

    :param is_one_insert: whether one insert takes all, which is there in whole or not at all.
    :param symbols_above: what the version of its symbols must be above; None if it has none. Other
        programs write symbols, too, under ClickHouse's time.
    """

    is_one_insert: bool
    symbols_above: int | None = None


@dataclass(slots=True)
class Stores:
    """The open connections and repositories of one `Storage`, with the journal and the outbox."""

    clickhouse: ClickHouseManager
    mongo: MongoDBManager
    database: DatabaseManager
    candles: ClickHouseCandleStore
    symbols: ClickHouseSymbolStore
    formulas: MongoDBFormulaRepository
    strategies: MongoDBStrategyRepository
    backtests: MongoDBBacktestResultRepository
    ingestion: SqlIngestionRepository
    clock: CommitClock
    journal: Journal
    outbox: Outbox
    deliveries: Deliveries
    outcomes: StoredOutcomes
    delivery: Delivery
    inspection: Inspection
    models: Models = field(default_factory=Models)
    history: bool = True
    """Whether former formulas and strategies are kept."""
    commits: Commits = field(default_factory=Commits)
    subscribers: Waiters = field(default_factory=Waiters)
    """The consumers of subscriptions here, who wait for events."""
    announcer: Announcer = NOBODY
    """Told of what is written to candles and symbols."""
    observed_by: Listener | None = field(default_factory=listener.get)
    """Who heard of the opening hears of what goes on later, outside of any call."""
    _declared: dict[str, DeclaredTable] = field(default_factory=dict)

    def repository(self, model: Model[R]) -> R:
        """The repository of a declared model, which reads what is committed."""
        return self.models.repository(
            model,
            documents=lambda model: ReadOnlyDocuments(DeclaredDocuments(self.mongo, model)),
            tables=lambda model: ReadOnly(self.stored(model)),
        )

    def stored(self, model: AnyTable[Any]) -> StoredTable:
        """The committed rows of a declared table."""
        if isinstance(model, RecordModel):
            return DeclaredRecords(self.database, model)
        if model is SYMBOLS:
            return self.symbols.table
        return self.declared(model.name)

    def declared(self, name: str) -> DeclaredTable:
        """The ClickHouse table of a declared model."""
        if name not in self._declared:
            model: Any = self.models.table(name)
            self._declared[name] = DeclaredTable(self.clickhouse, model)
        return self._declared[name]

    async def look(self, changes: CommitChanges) -> Look:
        """See that ClickHouse answers, before anything is stored anywhere."""
        if not changes.touches_clickhouse:
            return Look(is_one_insert=False)
        return await self.clickhouse.run(self._look, changes)

    def _look(self, changes: CommitChanges) -> Look:
        self.clickhouse.connect()
        # What is decided while a shard is away could be finished by nobody until it is back.
        check_shards(self.clickhouse)
        tables = changes.tables_in("clickhouse")
        for change in tables:
            self.declared(change.name).check()
        if tables and not changes.symbols:
            if changes.candles:
                self.candles.check_writable()
                return Look(is_one_insert=False)
            return Look(is_one_insert=len(tables) == 1 and self._is_one_part(tables[0]))
        if not changes.symbols:
            return Look(is_one_insert=self.candles.is_one_part(changes.candles))
        if changes.candles:
            self.candles.check_writable()
        codes = set(changes.symbols.column("code").to_pylist())
        above = self.symbols.version_before_now(codes)
        is_one_insert = not (changes.candles or tables) and self.symbols.table.is_one_part(
            changes.symbols
        )
        return Look(is_one_insert, symbols_above=above)

    def _is_one_part(self, change: TableChange) -> bool:
        return self.declared(change.name).is_one_part(change.rows)

    async def store_candles(
        self, changes: CommitChanges, finish_earlier: FinishEarlier
    ) -> int | None:
        """Write candles and nothing else, if one insert takes them, and return their version.

        :param finish_earlier: finishes decided commits of these series; whether none is left.
        :raises ConnectionFailed: whether they are stored is unknown.
        """
        series, begun = changes.few_series_names(MOST_NAMES), monotonic()
        # The rows are joined, ClickHouse is looked at, and the journal, while the clock is asked.
        async with (
            alongside(self.look(changes)) as looking,
            alongside(self._unfinished(series)) as asking,
            self.clock.place(series=series) as place,
        ):
            look = await looking
            if look.is_one_insert:
                await self.wait_for_writers(place, changes)
                # Where a place was taken off meanwhile, the journal may have been asked too early.
                is_settled = not (
                    await asking or place.earlier or self.clock.may_have_let_go(begun)
                )
                if not is_settled and self.candles.keeps_history:
                    is_settled = await finish_earlier(series, place.version)
                write = partial(
                    self.candles.replace_rows,
                    changes.candles.upserts,
                    written_under(place),
                    source=changes.candles.source,
                    is_settled=is_settled,
                )
                await self.clickhouse.run(write)
        if look.is_one_insert and not place.was_kept:
            raise paused_for_too_long("The commit")
        return written_under(place) if look.is_one_insert else None

    async def _unfinished(self, series: Collection[str] | None) -> list[ObjectId]:
        """Decided commits whose candles a history has to have first."""
        return await self.journal.unfinished(series) if self.candles.keeps_history else []

    async def wait_for_writers(self, place: Place, changes: CommitChanges) -> None:
        """Wait for the earlier writers of the same series: a history tells what they wrote, too."""
        if changes.candles and place.earlier and self.candles.keeps_history:
            series = changes.few_series_names(MOST_NAMES)
            await self.clock.wait_for_earlier_than(place, series)

    async def store_alone(self, changes: CommitChanges, symbols_above: int | None) -> int:
        """Write symbols or rows of one table, which are one insert, and nothing else.

        Return their version.

        :raises ConnectionFailed: whether it is stored is unknown.
        """
        async with self.clock.place(symbols_above=symbols_above) as place:
            changes.symbols_version = place.symbols_version
            await self.store_series(changes, place.version)
        return written_under(place)

    async def store_series(self, changes: CommitChanges, version: int) -> None:
        """Give ClickHouse its part; doing it twice is doing it once."""
        if changes.candles:
            await self.clickhouse.run(self.candles.apply, changes.candles, version)
        if changes.symbols:
            # An entry of an earlier release has no version of its own for them.
            its = changes.symbols_version or version + 1
            await self.clickhouse.run(self.symbols.apply, changes.symbols, its)
        for change in changes.tables_in("clickhouse"):
            if change.rows is not None:  # one that is recovered comes chunk by chunk
                apply = self.declared(change.name).apply
                await self.clickhouse.run(apply, change.rows, version + 1)

    async def forget_appended(self, changes: CommitChanges, versions: Iterable[int]) -> None:
        """Delete what was appended under versions that do not count."""
        for change in changes.tables:
            if change.mode == "append":
                for version in versions:
                    await self.clickhouse.run(self.declared(change.name).forget, version)

    @asynccontextmanager
    async def bookkeeping(
        self, changes: CommitChanges, commit: str | None = None
    ) -> AsyncIterator[AsyncConnection]:
        """A SQL transaction with the bookkeeping of `changes` in it, committed at the end.

        :param commit: its id, if recovery could have to apply it.
        :raises Conflict: something that it depends on was changed meanwhile.
        """
        async with self.database.transaction() as connection:
            await staged.apply(self.database, connection, changes, commit)
            for change in changes.tables_in("database"):
                model: Any = self.models.table(change.name)
                await records.apply(connection, model, change.rows)
            # Looked at while the rows are locked: who held them before has decided, or never will.
            awaited = await self.journal.unfinished(changes.bookkeeping_names)
            applied = SqlIngestionRepository(self.database, connection=connection)
            if await applied.lacks(map(str, awaited)):
                raise Overtaking(
                    "A commit that is decided, but not finished yet, changes the same bookkeeping.",
                    remedy="Read again and repeat.",
                )
            yield connection

    async def latest_version(self) -> int:
        """The highest version that any store holds, for a clock that is to begin above it."""
        found = [await self.journal.latest_version(), await self.outbox.latest_version()]
        declared = [self.declared(model.name).latest_version for model in self.models.tables]
        for latest_version in (
            self.candles.latest_version,
            self.symbols.latest_version,
            *declared,
        ):
            with suppress(SchemaDrift):  # a table that is not there yet, or knows no versions
                found.append(await self.clickhouse.run(latest_version))
        return max(found)
