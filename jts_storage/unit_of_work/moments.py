"""Moments in the order of commits: which version was the latest then, and whether that is known."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

from bson import Int64

from jts_storage.clickhouse.as_of import CandlesAsOf
from jts_storage.domain.beginnings import before_history
from jts_storage.domain.moments import AsOf, Commit, checked, in_the_future, version_at
from jts_storage.domain.revision import DocumentPurge
from jts_storage.mongo.adopting import adopt
from jts_storage.mongo.forgetting import FormerRevisions
from jts_storage.mongo.manager import Bson, Collection
from jts_storage.mongo.repositories import FormulasAsOf, StrategiesAsOf
from jts_storage.mongo.revisions import HISTORIES
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.recovery import Recovery
from jts_storage.unit_of_work.snapshots import StoredSnapshots

BEGINNINGS = "uow_history"
log = logging.getLogger(__name__)

_CANDLES = "candles"
_DOCUMENTS = "documents"
_AHEAD_SECONDS = 2.0
"""So far the clock of a host may be ahead of MongoDB's."""

_POLL_SECONDS = 0.01
_NANOSECONDS_OF_A_SECOND = 10**9
_NANOSECONDS_OF_A_DAY = 86_400 * _NANOSECONDS_OF_A_SECOND


@dataclass(frozen=True, slots=True)
class StoredView:
    """A `View` over the real stores."""

    commit: Commit
    candles: CandlesAsOf
    formulas: FormulasAsOf
    strategies: StrategiesAsOf


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far back histories reach.

    :param began: nothing is known of what was before.
    :param forgotten: of what was before only what snapshots show is kept.
    """

    began: int
    forgotten: int

    @property
    def least(self) -> int:
        """The earliest version as of which all is known."""
        return max(self.began, self.forgotten)


class Moments:
    """The moments of one set of stores.

    :param applied: when the schemas that keep a history were applied, by the name of the history.
    """

    def __init__(self, stores: Stores, applied: Mapping[str, int] | None = None) -> None:
        self._stores, self._applied = stores, applied
        self.snapshots = StoredSnapshots(stores, self._began)

    async def begin(self, *, is_kept: bool) -> None:
        """Note since when history is kept; where it is not, it ends with the first write."""
        if not is_kept:
            self._stores.clock.before_writing.action = self._end
            return
        await self._end_before_gaps()
        began = await self._beginnings_by_name()
        candles = self._stores.candles
        if not await self._stores.clickhouse.run(lambda: candles.has_history):
            await self._repeat(lambda: self._beginnings.delete_one({"_id": _CANDLES}))
        elif _CANDLES not in began:
            await self._begin_candles()
        if _DOCUMENTS not in began:
            await self._begin_documents()

    async def _end(self) -> None:
        """Forget since when history is kept: from here on there is a gap in it."""
        gone = await self._repeat(lambda: self._beginnings.delete_many({}))
        if gone.deleted_count:
            log.warning(
                "The history of candles and documents ends here, snapshots included: this process"
                " writes without one (JTS_HISTORY=false)."
            )

    async def _end_before_gaps(self) -> None:
        """Let what was kept under a schema that was taken back since count no more.

        Until it was applied again, candles and documents were changed without being kept.
        """
        if self._applied is None:
            return
        candles, documents = (
            {"_id": name, "schema": {"$ne": self._applied.get(name)}}
            for name in (_CANDLES, _DOCUMENTS)
        )
        anew = {
            "$max": {"began": Int64(await self._stores.clock.latest())},
            "$set": self._schema(_CANDLES),
        }
        await self._repeat(lambda: self._beginnings.update_one(candles, anew))
        await self._repeat(lambda: self._beginnings.delete_one(documents))

    def _schema(self, name: str) -> Bson:
        return {} if self._applied is None else {"schema": self._applied.get(name)}

    async def _begin_candles(self) -> None:
        # Nothing was there before, or what was there before is as it has been since then.
        stored = await self._stores.clickhouse.run(self._stores.candles.latest_version)
        began = await self._stores.clock.latest() if stored else 0
        new = {"began": Int64(began), **self._schema(_CANDLES)}
        await self._note(_CANDLES, {"$setOnInsert": new})

    async def _begin_documents(self) -> None:
        """Give each document its first revision, and only then say that the history has begun.

        What others write meanwhile has revisions of its own, or is adopted with the rest.
        """
        clock, which = self._stores.clock, {"_id": _DOCUMENTS}
        await clock.start()
        since = {"since": Int64(await clock.latest())}
        await self._note(_DOCUMENTS, {"$setOnInsert": since | self._schema(_DOCUMENTS)})
        noted = await self._repeat(lambda: self._beginnings.find_one(which)) or since
        is_anything_stored = await adopt(self._stores.mongo, int(noted["since"]))
        began = await clock.latest() if is_anything_stored else 0
        # Of two processes, the one that began earlier is done with what was there by then, too.
        await self._note(_DOCUMENTS, {"$max": {"began": Int64(began)}})

    async def forget(self, days: int) -> int:
        """Delete what was over longer ago than that, unless a snapshot shows it.

        Return how many former candles and revisions of documents there were. A revision that a
        backtest result names stays, too.
        """
        before = await self._stores.clock.present() - days * _NANOSECONDS_OF_A_DAY
        if await self._reach() is None:
            return 0
        # First: from here on nobody is told anything of a moment that is about to be forgotten.
        for name in (_CANDLES, _DOCUMENTS):
            await self._note(name, {"$max": {"forgotten": Int64(before)}})
        # A backup that has not seen the note must not miss what it is about.
        await self._stores.clock.wait_for_fence()
        snapshots = sorted((await self.snapshots.versions()).values())
        revisions = [
            await FormerRevisions(self._stores.mongo, name).forget(before, snapshots)
            for name in HISTORIES
        ]
        forget = self._stores.candles.forget_history
        candles: int = await self._stores.clickhouse.run(forget, before, snapshots)
        return candles + sum(revisions)

    async def purge_documents(self, asked: DocumentPurge) -> int:
        """Erase revisions that were over by a moment; see `FormulaStore.purge_history`."""
        # Snapshots that are being created, too, have a place in the clock until they are stored.
        version = await self.settled(asked.before, "before")
        snapshots = {} if asked.despite_snapshots else await self.snapshots.versions()
        former = FormerRevisions(self._stores.mongo, asked.collection)
        return await former.purge(asked.identity, version, snapshots)

    async def view(self, as_of: AsOf) -> StoredView:
        stores, version = self._stores, await self.version(as_of)
        # A view may be held until what it shows is forgotten.
        is_kept = partial(self.check_kept, version)
        return StoredView(
            Commit(version),
            stores.candles.as_of(version),
            FormulasAsOf(stores.mongo, version, is_kept),
            StrategiesAsOf(stores.mongo, version, is_kept),
        )

    async def version(self, as_of: AsOf) -> int:
        """The version that was the latest at a moment, all commits up to it being stored.

        :raises InvalidData: the moment is in the future, or before there was a history.
        :raises NotFound: there is no such snapshot.
        """
        moment = checked(as_of)
        version = await self._version_of(moment)
        await self.check_kept(version)
        await self._wait_until(version)
        return await self._stored(version)

    async def settled(self, moment: AsOf | None, field: str = "as_of") -> int:
        """As `version`, whether its history is kept or not; None is the latest commit."""
        if moment is None:
            return await self._stored(await self._stores.clock.latest())
        version = await self._version_of(checked(moment, field), field)
        await self._wait_until(version, field)
        return await self._stored(version)

    async def _version_of(self, moment: AsOf, field: str = "as_of") -> int:
        if isinstance(moment, str):
            return (await self.snapshots.get(moment)).commit.version
        return moment.version if isinstance(moment, Commit) else version_at(moment, field)

    async def check_kept(self, version: int) -> None:
        """:raises InvalidData: nobody knows any more what was then."""
        reach = await self._reach()
        if reach is None:
            raise before_history(Commit(version), None)
        if reach.began <= version < reach.forgotten:
            is_shown = version in (await self.snapshots.versions()).values()
        else:
            is_shown = version >= reach.least
        if not is_shown:
            raise before_history(Commit(version), reach.least)

    async def corrections_kept(self) -> int | None:
        """The first version since which all candles that were replaced are kept; None if none are.

        Snapshots do not count: they keep what they show, and not what came of it.
        """
        found = (await self._beginnings_by_name()).get(_CANDLES)
        if found is None:
            return None
        return max(int(found.get(name, 0)) for name in ("began", "forgotten"))

    async def _wait_until(self, version: int, field: str = "as_of") -> None:
        """Wait for a clock that is behind this host's, so that no later commit gets the version."""
        begun = monotonic()
        while (present := await self._stores.clock.present()) < version:
            is_too_far = version - present > _AHEAD_SECONDS * _NANOSECONDS_OF_A_SECOND
            if is_too_far or monotonic() - begun > _AHEAD_SECONDS:
                raise in_the_future(Commit(version).moment, field)
            await asyncio.sleep(_POLL_SECONDS)

    async def _stored(self, version: int) -> int:
        """Wait until all commits up to a version are stored."""
        await self._stores.clock.wait_for_earlier(version + 1, None)
        await self._finish(version)
        return version

    async def _finish(self, version: int) -> None:
        """Finish decided commits up to a version, whose processes are gone."""
        pending = await self._stores.journal.pending()
        earlier = [entry.id for entry in pending if entry.version <= version]
        if earlier:
            await Recovery(self._stores).recover(only=earlier)

    async def _began(self) -> int | None:
        reach = await self._reach()
        return None if reach is None else reach.began

    async def _reach(self) -> _Reach | None:
        """How far back candles and documents have a history, both of them."""
        found = (await self._beginnings_by_name()).values()
        if len(found) < len((_CANDLES, _DOCUMENTS)):
            return None
        began, forgotten = (
            max(int(each.get(name, 0)) for each in found) for name in ("began", "forgotten")
        )
        return _Reach(began, forgotten)

    async def _beginnings_by_name(self) -> dict[str, Bson]:
        where = {"began": {"$exists": True}}
        found = await self._repeat(lambda: self._beginnings.find(where).to_list())
        return {each["_id"]: each for each in found}

    async def _note(self, name: str, change: Bson) -> None:
        which = {"_id": name}
        await self._repeat(lambda: self._beginnings.update_one(which, change, upsert=True))

    async def _repeat(self, operation: Any) -> Any:
        return await self._stores.mongo.retries.repeat(
            "asking since when history is kept", operation
        )

    @property
    def _beginnings(self) -> Collection:
        return self._stores.mongo.get_collection(BEGINNINGS)
