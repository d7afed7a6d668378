"""Purges of what candles were, over the real stores.

MongoDB notes first where the history begins, so that from then on nobody is told anything of a
moment before it; then ClickHouse erases. What a kill leaves is finished by the next purge of the
same, by the next opening, and by `recover`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from bson import Int64
from pymongo import UpdateOne

from jts_storage.clickhouse.purging import HistoryPurge
from jts_storage.domain.beginnings import Beginnings, Reach, nothing_of, shown_by
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.mongo.manager import Bson, Collection
from jts_storage.unit_of_work.at_rest import PURGES
from jts_storage.unit_of_work.moments import Moments
from jts_storage.unit_of_work.participants import Stores

_ALL: Final = "all"  # the name of a series has a slash


class StoredPurges:
    """The `Purges` of one set of stores."""

    def __init__(self, stores: Stores) -> None:
        self._stores, self._moments = stores, Moments(stores)

    async def purge(
        self, keys: Sequence[SeriesKey] | None, before: AsOf | None, *, despite_snapshots: bool
    ) -> int:
        # What earlier commits keep is there from here on, and can be erased.
        version = await self._moments.settled(before, "before")
        if unknown := await self._stores.clickhouse.run(self._erasing.unknown, keys or ()):
            raise nothing_of(unknown)
        if not despite_snapshots:
            # Those from before an earlier purge of the same show nothing of it any more.
            first = await self._began_for_every(keys)
            shown = await self._moments.snapshots.names_before(version, first)
            if shown:
                raise shown_by(shown, Commit(version))
        return await self._purge(keys, version)

    async def finish(self) -> int:
        """Finish purges that were interrupted; how many former candles they have erased."""
        unfinished = await self._find({"isUnfinished": True})
        together: dict[int, list[SeriesKey] | None] = {}
        for document in unfinished:
            of_version = together.setdefault(document["began"], [])
            if document["_id"] == _ALL:
                together[document["began"]] = None
            elif of_version is not None:
                of_version.append(_key(document))
        return sum([await self._purge(keys, version) for version, keys in together.items()])

    async def began(self, key: SeriesKey) -> int:
        found = await self._find({"_id": {"$in": [_ALL, str(key)]}})
        return max((int(each["began"]) for each in found), default=0)

    async def _began_for_every(self, keys: Sequence[SeriesKey] | None) -> int:
        names = [_ALL, *map(str, keys or ())]
        return _beginnings(await self._find({"_id": {"$in": names}})).of_every(keys)

    async def reach(self, key: SeriesKey) -> Reach:
        purged, kept = await asyncio.gather(self.began(key), self._moments.corrections_kept())
        return Reach(purged, kept)

    async def check(self, commit: Commit, is_wanted: Callable[[SeriesKey], bool]) -> None:
        later, _ = await asyncio.gather(
            self._find({"began": {"$gt": Int64(commit.version)}}),
            self._moments.check_kept(commit.version),  # may have been forgotten meanwhile, too
        )
        if later:
            _beginnings(later).check(commit, is_wanted)

    async def _purge(self, keys: Sequence[SeriesKey] | None, version: int) -> int:
        if keys is not None and not keys:
            return 0
        await self._note(keys, version)
        # A backup that has not seen the note must not miss what it is about.
        await self._stores.clock.wait_for_fence()
        rows = await self._stores.clickhouse.run(self._erasing.erase, keys, version)
        await self._note_end(keys, version)
        return rows

    async def _note(self, keys: Sequence[SeriesKey] | None, version: int) -> None:
        began = {"began": Int64(version)}
        updates = [
            UpdateOne(
                {"_id": name},
                {"$max": began, "$set": {"isUnfinished": True, **fields}},
                upsert=True,
            )
            for name, fields in _documents(keys)
        ]
        await self._repeat(lambda: self._purges.bulk_write(updates, ordered=False))

    async def _note_end(self, keys: Sequence[SeriesKey] | None, version: int) -> None:
        names = [name for name, _ in _documents(keys)]
        # Not that of a later one, which may go on.
        which: Bson = {"_id": {"$in": names}, "began": {"$lte": Int64(version)}}
        done = {"$set": {"isUnfinished": False}}
        await self._repeat(lambda: self._purges.update_many(which, done))

    @property
    def _erasing(self) -> HistoryPurge:
        return HistoryPurge(self._stores.clickhouse, self._stores.candles.tables)

    async def _find(self, where: Bson) -> list[Bson]:
        found: list[Bson] = await self._repeat(lambda: self._purges.find(where).to_list())
        return found

    async def _repeat(self, operation: Any) -> Any:
        return await self._stores.mongo.retries.repeat("asking what was purged", operation)

    @property
    def _purges(self) -> Collection:
        return self._stores.mongo.get_collection(PURGES)


def _documents(keys: Sequence[SeriesKey] | None) -> Iterable[tuple[str, Bson]]:
    if keys is None:
        yield _ALL, {}
        return
    for key in keys:
        names = {"symbol": key.symbol, "exchange": key.exchange, "timeframe": key.timeframe.value}
        yield str(key), names


def _key(document: Bson) -> SeriesKey:
    frame = Timeframe(document["timeframe"])
    return SeriesKey(document["symbol"], frame, document["exchange"])


def _beginnings(documents: Iterable[Bson]) -> Beginnings:
    of_all, of_series = 0, {}
    for each in documents:
        if each["_id"] == _ALL:
            of_all = int(each["began"])
        else:
            of_series[_key(each)] = int(each["began"])
    return Beginnings(of_all, of_series)
