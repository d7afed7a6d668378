"""Moments of what is in memory."""

from __future__ import annotations

from dataclasses import dataclass

from jts_storage.domain import checks
from jts_storage.domain.moments import AsOf, Commit, checked, in_the_future, version_at
from jts_storage.domain.results import Page
from jts_storage.domain.revision import DocumentPurge, nothing_of
from jts_storage.domain.snapshot import Snapshot, new_name
from jts_storage.errors import Conflict, NotFound
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.memory.documents import (
    InMemoryFormulaRepository,
    InMemoryStrategyRepository,
    known_as,
)
from jts_storage.memory.past import as_of
from jts_storage.memory.revisions import RowsAsOf, purge, refuse_pinned
from jts_storage.memory.tables import MemoryDatabase


class InMemorySnapshots:
    """A `SnapshotStore` of rows in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def create(self, name: str, *, note: str = "") -> Snapshot:
        new_name(name)
        with self._database.lock:
            if name in self._database.snapshots:
                raise Conflict(f"There is a snapshot {name!r} already.")
            commit = Commit(self._database.next_version())
            made = Snapshot(name, commit, checks.now(), checks.text(note, "note"))
            self._database.snapshots[name] = made
        return made

    async def get(self, name: str) -> Snapshot:
        return snapshot_of(self._database, checks.name(name, "name"))

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Page[Snapshot]:
        checks.whole(limit, "limit", below=2**31)
        found = sorted(self._database.snapshots.items())
        if after is not None:
            checks.name(after, "after")
        return Page.first(limit, [each for name, each in found if after is None or name > after])

    async def delete(self, name: str) -> bool:
        return self._database.snapshots.pop(checks.name(name, "name"), None) is not None


def snapshot_of(database: MemoryDatabase, name: str) -> Snapshot:
    """:raises NotFound: there is none of this name."""
    found = database.snapshots.get(name)
    if found is None:
        raise NotFound(f"There is no snapshot {name!r}.", remedy="snapshots.list() names them.")
    return found


@dataclass(frozen=True, slots=True)
class InMemoryView:
    """A `View` of rows in memory."""

    commit: Commit
    candles: InMemoryCandleRepository
    formulas: InMemoryFormulaRepository
    strategies: InMemoryStrategyRepository


def view(database: MemoryDatabase, moment: AsOf) -> InMemoryView:
    with database.lock:
        version = version_of(database, moment)
        candles = as_of(database.candles, database.past, version)
        documents = RowsAsOf(database.former, version)
    return InMemoryView(
        Commit(version),
        InMemoryCandleRepository(database, candles),
        InMemoryFormulaRepository(documents),
        InMemoryStrategyRepository(documents),
    )


def purge_documents(database: MemoryDatabase, asked: DocumentPurge) -> int:
    """Erase what documents were, as far as it was over by a moment; return how many revisions."""
    table, identity, before = asked.collection, asked.identity, asked.before
    with database.lock:
        version = database.version if before is None else version_of(database, before, "before")
        wanted = None if identity is None else known_as(identity)
        found = {
            place: revisions
            for place, revisions in database.former.items()
            if place[0] == table and wanted in (None, place[1])
        }
        if identity is not None and not found:
            raise nothing_of(table, identity)
        if not asked.despite_snapshots:
            snapshots = {name: each.commit.version for name, each in database.snapshots.items()}
            for place, revisions in found.items():
                refuse_pinned(place, revisions, version, snapshots)
        return sum(purge(revisions, version) for revisions in found.values())


def version_of(database: MemoryDatabase, moment: AsOf, field: str = "as_of") -> int:
    """
    :raises InvalidData: the moment is in the future.
    :raises NotFound: there is no such snapshot.
    """
    named = checked(moment, field)
    if isinstance(named, str):
        return snapshot_of(database, named).commit.version
    version = named.version if isinstance(named, Commit) else version_at(named, field)
    if version > database.present():
        raise in_the_future(Commit(version).moment, field)
    return version
