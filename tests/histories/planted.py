"""Faults to be put into the kit by name, in a worker, to show that the checker finds them.

Each replaces a function of the kit by one that is wrong, always or now and then. Where the kit no
longer has what is replaced, planting it fails loudly.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from jts_storage.clickhouse.candle_writer import ClickHouseCandleWriter
from jts_storage.clickhouse.declared import DeclaredTable
from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.clickhouse.symbols import ClickHouseSymbolStore
from jts_storage.domain.rows import SeriesRows
from jts_storage.errors import Conflict
from jts_storage.models import tables as declared
from jts_storage.models.columns import digest, rows_of
from jts_storage.mongo import MongoDBFormulaRepository, queries, saves
from jts_storage.mongo.access import CollectionAccess
from jts_storage.mongo.references import References
from jts_storage.relational import declared as records
from jts_storage.relational import staged
from jts_storage.relational.repositories import SqlCheckpointRepository
from jts_storage.unit_of_work import clock, commit, journal, outbox, unit
from jts_storage.unit_of_work import participants as stores
from jts_storage.unit_of_work.recovery import Recovery

Anything = Callable[..., Any]
_choice = random.Random()


def at_times(share: float = 0.2) -> bool:
    return _choice.random() < share


def replaced(owner: Any, name: str, make: Callable[[Anything], Anything]) -> None:
    assert name in vars(owner), f"{owner} has no {name} of its own: plant it where it stands now"
    setattr(owner, name, make(getattr(owner, name)))


def skipped(share: float = 0.2) -> Callable[[Anything], Anything]:
    def make(real: Anything) -> Anything:
        return lambda *given, **named: None if at_times(share) else real(*given, **named)

    return make


def candles_acknowledged_and_not_stored() -> None:
    replaced(ClickHouseCandleWriter, "_insert", skipped())


def symbols_acknowledged_and_not_stored() -> None:
    replaced(ClickHouseSymbolStore, "apply", skipped())


def series_left_out_of_a_commit() -> None:
    def make(real: Anything) -> Anything:
        async def store_series(*given: Any) -> None:
            if not at_times():
                await real(*given)

        return store_series

    replaced(stores.Stores, "store_series", make)


def candles_inserted_in_two_parts() -> None:
    def make(real: Anything) -> Anything:
        def apply(self: Any, changes: Any, version: int) -> None:
            real(self, changes, version)
            time.sleep(0.01)

        return apply

    def halves(real: Anything) -> Anything:
        def write_rows(self: Any, rows: Any, version: int, **named: Any) -> None:
            series = list(rows)
            for parts in (
                [one.head(len(one) // 2) for one in series],
                [one[len(one) // 2 :] for one in series],
            ):
                real(self, SeriesRows.joined(list(map(SeriesRows.of, parts))), version, **named)
                time.sleep(0.05)

        return write_rows

    replaced(ClickHouseCandleWriter, "apply", make)
    for written in ("write_rows", "replace_rows"):
        replaced(ClickHouseCandleWriter, written, halves)


def series_written_again_by_an_unfenced_recoverer() -> None:
    def make(real: Anything) -> Anything:
        async def store_series(self: Any, work: Any, version: int) -> None:
            await real(self, work, version)
            if at_times():
                asyncio.get_running_loop().call_later(0.3, again, self, work)

        def again(self: Any, work: Any) -> None:
            task = asyncio.ensure_future(late(self, work))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())

        async def late(self: Any, work: Any) -> None:
            look = await self.look(work)
            async with self.clock.place(symbols_above=look.symbols_above) as place:
                work.symbols_version = place.symbols_version
                await real(self, work, place.version)

        return store_series

    replaced(stores.Stores, "store_series", make)


def versions_from_a_hosts_clock() -> None:
    def make(real: Anything) -> Anything:
        @asynccontextmanager
        async def place(self: Any, **how: Any) -> AsyncIterator[Any]:
            async with real(self, **how) as place:
                place.version = time.time_ns()
                # Listed so, too: with another version it would wait for itself.
                own = {"running.id": place.id}
                listed = {"$set": {"running.$.version": place.version}}
                await self._clock.update_one(own, listed)
                place.symbols_version = place.symbols_version and time.time_ns()
                yield place

        return place

    replaced(clock.CommitClock, "place", make)


def deletions_that_wait_for_nobody() -> None:
    def make(real: Anything) -> Anything:
        async def wait(self: Any, work: Any, version: int) -> None:
            return None

        return wait

    def slower(real: Anything) -> Anything:
        async def store_series(self: Any, work: Any, version: int) -> None:
            await asyncio.sleep(_choice.random() * 0.1)
            await real(self, work, version)

        return store_series

    replaced(Recovery, "wait_for_earlier", make)
    replaced(Recovery, "finish_first", lambda real: _nothing)
    # Where the history of candles is kept, each writer waits for those before it, too.
    replaced(stores.Stores, "wait_for_writers", lambda real: _nothing)
    replaced(Recovery, "finish_earlier", lambda real: _nothing)
    replaced(stores.Stores, "store_series", slower)


async def _nothing(*given: Any) -> None:
    return None


def bookkeeping_replayed_without_its_id() -> None:
    """As by a recoverer that was paused while another finished the commit."""

    def make(real: Anything) -> Anything:
        async def replay(
            manager: Any, connection: Any, work: Any, commit_id: str, *rest: Any
        ) -> bool:
            return bool(await real(manager, connection, work, f"{commit_id}{time.time_ns()}"))

        return replay

    def late(real: Anything) -> Anything:
        async def done(self: Any, identity: Any) -> None:
            await asyncio.sleep(0.3)
            entry = next((one for one in await self.pending() if one.id == identity), None)
            if entry is not None and (work := await self.load(entry)) is not None:
                await _recovering[-1]._replay(entry, work)
            await real(self, identity)

        return done

    def noted(real: Anything) -> Anything:
        def init(self: Any, *given: Any, **named: Any) -> None:
            real(self, *given, **named)
            _recovering.append(self)

        return init

    replaced(staged, "replay", make)
    replaced(Recovery, "__init__", noted)
    replaced(journal.Journal, "done", late)


_recovering: list[Any] = []


def symbols_ordered_by_when_they_were_staged() -> None:
    def make(real: Anything) -> Anything:
        def apply(self: Any, rows: Any, version: int) -> None:
            for symbol in SYMBOLS.from_columns(rows):
                assert symbol.updated_at is not None
                staged_at = int(symbol.updated_at.timestamp() * 10**9)
                real(self, SYMBOLS.to_columns([symbol]), staged_at)

        return apply

    replaced(ClickHouseSymbolStore, "apply", make)


def checkpoints_dropped_by_recovery() -> None:
    def make(real: Anything) -> Anything:
        async def replay(manager: Any, connection: Any, work: Any, *rest: Any) -> bool:
            less = dataclasses.replace(work, checkpoints=[])
            return bool(await real(manager, connection, less, *rest))

        return replay

    replaced(staged, "replay", make)


def chunks_purged_early() -> None:
    """As somebody does who opens his stores with a clock that is far ahead."""
    assert journal.ABANDONED_AFTER
    journal.ABANDONED_AFTER = timedelta(hours=-20)

    def make(real: Anything) -> Anything:
        async def prepare(self: Any, *given: Any) -> Any:
            chunks = await real(self, *given)
            await self.purge()  # marks them
            await self.purge()
            return chunks

        return prepare

    replaced(journal.Journal, "prepare", make)


def checkpoints_saved_without_comparing() -> None:
    def make(real: Anything) -> Anything:
        async def apply(checkpoints: Any, change: Any) -> None:
            await real(checkpoints, dataclasses.replace(change, knows_base=False))

        return apply

    replaced(staged, "_apply_checkpoint", make)


def checkpoints_applied_twice() -> None:
    def make(real: Anything) -> Anything:
        async def replace(self: Any, name: str, change: Anything) -> Any:
            def twice(stored: Any) -> Any:
                values = list(change(stored)["appended"])
                return {"appended": values + values[-1:] * at_times()}

            return await real(self, name, twice)

        return replace

    replaced(SqlCheckpointRepository, "replace", make)


def aggregates_saved_without_comparing() -> None:
    def make(real: Anything) -> Anything:
        async def apply(bars: Any, change: Any) -> None:
            found = await bars.get(change.symbol, change.trading_day)
            version, becomes = (found.version if found else 0), change.becomes
            becomes = becomes and dataclasses.replace(becomes, version=version + 1)
            created = found.created_at if found else None
            await real(
                bars,
                dataclasses.replace(change, base=version, becomes=becomes, created_at=created),
            )

        return apply

    replaced(staged, "_apply_aggregate", make)


def versions_of_documents_not_compared() -> None:
    replaced(queries, "of_version", lambda real: lambda model, identity, version: {"_id": identity})
    saves.Save.times = property(lambda self: {})  # type: ignore[method-assign, assignment]


def use_of_formulas_not_looked_for() -> None:
    def make(real: Anything) -> Anything:
        async def delete(self: Any, formula_id: str, *, force: bool = False) -> Any:
            return await real(self, formula_id, force=True)

        return delete

    replaced(MongoDBFormulaRepository, "delete", make)


def references_not_guarded() -> None:
    replaced(References, "_count", lambda real: _nothing)


def documents_written_outside_of_the_transaction() -> None:
    def make(real: Anything) -> Anything:
        def init(self: Any, manager: Any, name: str, transaction: Any, *rest: Any) -> None:
            real(self, manager, name, None if at_times() else transaction, *rest)

        return init

    replaced(CollectionAccess, "__init__", make)


def documents_acknowledged_and_not_committed() -> None:
    def make(real: Anything) -> Anything:
        async def committed(mongo: Any, session: Any, doing: str) -> None:
            await (session.abort_transaction() if at_times() else real(mongo, session, doing))

        return committed

    replaced(commit, "commit", make)


def conflict_told_of_what_is_stored() -> None:
    def make(real: Anything) -> Anything:
        async def committed(self: Any) -> None:
            await real(self)
            if at_times():
                raise Conflict("planted")

        return committed

    replaced(unit.UnitOfWork, "commit", make)


def events_changed(change: Callable[[list[Any]], list[Any]]) -> None:
    def make(real: Anything) -> Anything:
        async def add(self: Any, events: Any, *rest: Any) -> None:
            await real(self, change(list(events)), *rest)

        return add

    replaced(outbox.Outbox, "add", make)


def events_of_a_commit_reversed() -> None:
    events_changed(lambda events: events[::-1])


def events_forgotten() -> None:
    events_changed(lambda events: events[:-1])


def events_ordered_by_a_wrong_clock() -> None:
    def make(real: Anything) -> Anything:
        async def add(self: Any, events: Any, version: int, session: Any) -> None:
            await real(self, events, version + _choice.randrange(4_000_000_000), session)

        return add

    # Those of one key pile up behind a handler that takes a while, or each would go at once.
    replaced(outbox.Outbox, "add", make)


def declared_rows_acknowledged_and_not_stored() -> None:
    replaced(DeclaredTable, "apply", skipped())


def rows_appended_again_by_a_recoverer() -> None:
    """What a commit has appended before it died is not taken back."""

    def make(real: Anything) -> Anything:
        async def forget(self: Any, changes: Any, versions: Any) -> None:
            return None

        return forget

    replaced(stores.Stores, "forget_appended", make)


def declared_records_saved_without_comparing() -> None:
    def make(real: Anything) -> Anything:
        async def apply(connection: Any, model: Any, change: Any) -> bool:
            table, names = model.table, model.schema.names
            columns = [table.c[name].label(name) for name in names]
            its_row = table.c.account == change["account"]
            found = (await connection.execute(select(*columns).where(its_row))).mappings().all()
            before = rows_of(records._read(model, names, found))[0] if found else None
            state = {declared.BASE: len(found), declared.READ: digest(before)}
            return bool(await real(connection, model, {**change, **state}))

        return apply

    replaced(records, "_apply", make)


PLANTED: dict[str, Callable[[], None]] = {
    plant.__name__: plant
    for plant in (
        candles_acknowledged_and_not_stored,
        symbols_acknowledged_and_not_stored,
        series_left_out_of_a_commit,
        candles_inserted_in_two_parts,
        series_written_again_by_an_unfenced_recoverer,
        versions_from_a_hosts_clock,
        deletions_that_wait_for_nobody,
        bookkeeping_replayed_without_its_id,
        symbols_ordered_by_when_they_were_staged,
        references_not_guarded,
        checkpoints_dropped_by_recovery,
        chunks_purged_early,
        checkpoints_saved_without_comparing,
        checkpoints_applied_twice,
        aggregates_saved_without_comparing,
        versions_of_documents_not_compared,
        use_of_formulas_not_looked_for,
        documents_written_outside_of_the_transaction,
        documents_acknowledged_and_not_committed,
        conflict_told_of_what_is_stored,
        events_of_a_commit_reversed,
        events_forgotten,
        events_ordered_by_a_wrong_clock,
        declared_rows_acknowledged_and_not_stored,
        rows_appended_again_by_a_recoverer,
        declared_records_saved_without_comparing,
    )
}
