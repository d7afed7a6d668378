"""Purges of what candles in memory were."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jts_storage.domain.beginnings import Reach, nothing_of, shown_by
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.memory.moments import version_of
from jts_storage.memory.tables import MemoryDatabase


class InMemoryPurges:
    """The purges of one database."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def purge(
        self, keys: Sequence[SeriesKey] | None, before: AsOf | None, *, despite_snapshots: bool
    ) -> int:
        database = self._database
        with database.lock:
            version = database.version if before is None else version_of(database, before, "before")
            kept = database.candles.keys() | database.past.keys()
            if unknown := [key for key in keys or () if key not in kept]:
                raise nothing_of(unknown)
            first = database.beginnings.of_every(keys)
            shown = [
                name
                for name, each in database.snapshots.items()
                if first <= each.commit.version < version
            ]
            if shown and not despite_snapshots:
                raise shown_by(sorted(shown), Commit(version))
            database.beginnings = database.beginnings.later(keys, version)
            chosen = list(database.past) if keys is None else keys
            of_them = [database.past[key] for key in chosen if key in database.past]
            return sum(past.purge(version) for past in of_them)

    async def began(self, key: SeriesKey) -> int:
        return self._database.beginnings.of(key)

    async def reach(self, key: SeriesKey) -> Reach:
        return Reach(self._database.beginnings.of(key))

    async def check(self, commit: Commit, is_wanted: Callable[[SeriesKey], bool]) -> None:
        self._database.beginnings.check(commit, is_wanted)
