"""The commit clock: versions that grow with the order of commits, whatever the hosts' clocks say.

It is one document in MongoDB. A commit takes its version there once it holds every lock it needs,
so of two commits that change the same thing the later one has the higher version in every store.
The document also lists the commits under way: a deletion waits for the writes that came before it,
and an event for the events that did.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

from bson import Int64, ObjectId
from pymongo import ReturnDocument

from jts_storage._runtime.processes import this_process
from jts_storage.errors import StorageError
from jts_storage.mongo.ending import end_sessions
from jts_storage.mongo.leases import from_now, renewing
from jts_storage.mongo.manager import Bson, MongoDBManager
from jts_storage.mongo.manager import Collection as MongoCollection
from jts_storage.unit_of_work.clock_expressions import (
    NO_FENCE,
    NOT_EXPIRED,
    is_place,
    lasts,
    listed,
    now,
    without,
)
from jts_storage.unit_of_work.first_write import BeforeWriting
from jts_storage.unit_of_work.leftovers import Leftovers
from jts_storage.unit_of_work.listed import (
    CLOCK_ID,
    CLOCK_NAME,
    LISTED,
    Listed,
    ListedSubscriptions,
)
from jts_storage.unit_of_work.other_commits import UnderWay, tell_abandoned
from jts_storage.unit_of_work.place import Place

CLOCK = CLOCK_NAME
LEASE = timedelta(seconds=180)
"""How long others wait for a commit after its last renewal; less if its process is dead.

It is longer than `DECIDES_WITHIN` and the minute that MongoDB gives a transaction, together.
"""

LANDING = timedelta(seconds=5)
"""How long an insert may still be on its way to ClickHouse after its writer failed or died."""

VERSIONS = 2
"""Versions a commit takes: one for what it deletes, and a later one for what it writes."""

_POLL_SECONDS = 0.005
_LONGEST_POLL_SECONDS = 0.25
_FENCE_POLL_SECONDS = 0.002
_TICKS = 5
"""Attempts at a place: the clock may have to be made, and a fence may rise just before each."""

log = logging.getLogger(__name__)


class CommitClock:
    """The clock of one database.

    :param stored: the highest version that any store holds, asked when the clock is made.
    :param symbols_decided: the highest version of symbols that are decided and not stored yet.
    """

    def __init__(
        self,
        manager: MongoDBManager,
        stored: Callable[[], Awaitable[int]],
        symbols_decided: Callable[[], Awaitable[int]] | None = None,
    ) -> None:
        self._manager = manager
        self.subscriptions = ListedSubscriptions(manager)
        self._stored = stored
        self._symbols_decided = symbols_decided
        self._owner = this_process()
        self._leftovers = Leftovers(manager)
        self.before_writing = BeforeWriting()
        self.before_candles = BeforeWriting()

    async def begin_writing(self, *, candles: bool) -> None:
        """:param candles: whether candles are written; others need not wait for ClickHouse."""
        await self.before_writing.all()
        if candles:
            await self.before_candles.all()

    async def start(self) -> None:
        """Make the clock if there is none yet, ahead of every version that is stored."""
        if await self._find({"_id": 1}) is None:
            await self.catch_up()

    async def catch_up(self) -> None:
        """Set the clock ahead of every version that is stored, whoever wrote it."""
        stored = await self._stored()
        symbols = await self._symbols_decided() if self._symbols_decided else 0
        change = [
            {
                "$set": {
                    "value": {"$max": [Int64(stored + 1), "$value", now()]},
                    "symbols": {"$max": [Int64(symbols), "$symbols"]},
                    "running": {"$ifNull": ["$running", []]},
                }
            }
        ]
        await self._manager.retries.repeat(
            "setting the commit clock",
            lambda: self._clock.update_one({"_id": CLOCK_ID}, change, upsert=True),
        )

    @asynccontextmanager
    async def place(
        self,
        *,
        symbols_above: int | None = None,
        versions: int = VERSIONS,
        event_keys: Collection[str] = (),
        series: Collection[str] | None = (),
        identity: ObjectId | None = None,
        lands: bool = True,
        unit: Bson | None = None,
        behind: Callable[[Coroutine[Any, Any, object]], None] | None = None,
    ) -> AsyncIterator[Place]:
        """Take the next place in the order of commits and be listed until the block ends.

        :param symbols_above: what the version of its symbols must be above. They are counted apart:
            other programs write them under ClickHouse's time, which the clock may be far ahead of.
        :param versions: how many the place has, from its `version` on.
        :param series: the names of those that it writes; None if they are too many to name.
        :param lands: whether what was sent may still arrive when the block fails.
        :param behind: runs what takes the place off the list, so that the block ends before it
            has. Whether the place was kept is then not known.
        """
        await self.begin_writing(candles=series is None or bool(series))
        await self._leftovers.settle()
        place = Place(identity or ObjectId(), 0, unit=unit, lands=lands)
        try:
            await self._enter(place, versions, listed(event_keys), listed(series), symbols_above)
        except BaseException:
            await self._give_up(place, lands=False)
            raise
        async with renewing(LEASE, lambda: self._renew(place)):
            try:
                yield place
            except BaseException:
                if place.decided_in is None:
                    await self._give_up(place, lands=place.lands)
                else:  # it is waited for until that session is ended, or its lease
                    self._leftovers.doubt(place.id, place.decided_in, LEASE.total_seconds())
                raise
            if behind is None:
                place.was_kept = await self._leave(place)
            else:
                behind(self._leave(place))

    async def under_way(self) -> list[UnderWay]:
        """The commits under way, the oldest version first."""
        return (await self.look())[1]

    async def look(self) -> tuple[int, list[UnderWay]]:
        """The highest version that any commit has taken, and the commits that are under way."""
        found = await self._find({"value": 1, "running": NOT_EXPIRED}) or {}
        running = [UnderWay.of(one) for one in found.get("running", ())]
        return int(found.get("value", 0)), running

    async def latest(self) -> int:
        """The highest version that any commit has taken."""
        found = await self._find({"value": 1}) or {}
        return int(found.get("value", 0))

    async def present(self) -> int:
        """The lowest version that a later commit may get."""
        found = await self._find({"next": {"$max": [{"$add": ["$value", 1]}, now()]}}) or {}
        return int(found.get("next", 0))

    async def wait_for_fence(self) -> bool:
        """Wait until no fence is up (see `fence`), and return whether one was.

        What takes no place has to ask before it changes anything.
        """
        was_up = False
        while await self._find({"_id": 1}, {"$expr": {"$not": [NO_FENCE]}}):
            was_up = True
            await asyncio.sleep(_FENCE_POLL_SECONDS)
        return was_up

    async def wait_for_earlier_than(self, place: Place, series: Collection[str] | None) -> None:
        """As `wait_for_earlier`, without a question where none was under way."""
        if any(one.may_write(series) for one in place.earlier):
            await self.wait_for_earlier(place.version, series)

    async def wait_for_earlier(self, version: int, series: Collection[str] | None) -> None:
        """Wait until no commit under way that may write these series has a lower version.

        Each of them ends, dies or loses its lease, so this does, too.

        :param series: None waits for the writers of any.
        """
        # A commit usually takes some milliseconds, so look soon, and then less often.
        pause = _POLL_SECONDS
        while earlier := [
            one for one in await self.under_way() if one.version < version and one.may_write(series)
        ]:
            await self.purge_own()
            if any(one.may_be_alive for one in earlier):
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_POLL_SECONDS)
            else:
                await self.purge()

    def may_have_let_go(self, since: float) -> bool:
        """Whether a commit that was under way since may be off the list, decided and unfinished.

        :param since: a time of `monotonic`, from which on the journal was looked at.
        """
        is_late = monotonic() - since > LANDING.total_seconds()
        return is_late or self._leftovers.let_go_at >= since

    async def wait_until_landed(self, commit: ObjectId) -> None:
        """Wait as long as what a commit has sent may arrive after its process gave it up."""
        end = monotonic() + LANDING.total_seconds()
        while monotonic() < end:
            running = await self.under_way()
            if not any(one.id == commit and one.may_be_alive for one in running):
                return
            await asyncio.sleep(_LONGEST_POLL_SECONDS)

    async def forget(self, commits: Collection[ObjectId]) -> set[ObjectId]:
        """Take commits off the list that are finished or never will be; return which were on it."""
        gone = {"$pull": {"running": {"id": {"$in": list(commits)}}}}
        before = await self._manager.retries.repeat(
            "ending commits of others",
            lambda: self._clock.find_one_and_update(
                {"_id": CLOCK_ID}, gone, projection={"running.id": 1}
            ),
        )
        return {one["id"] for one in (before or {}).get("running", ())} & set(commits)

    async def purge(self) -> None:
        """Forget the commits of processes that are known to be dead, and those left by this one."""
        await self.purge_own()
        dead = [one for one in await self.under_way() if not one.may_be_alive]
        if dead:
            # Once it is forgotten, nobody could end its session, and its outcome stayed open.
            await end_sessions(self._manager, [one.session for one in dead if one.session])
            # A deletion that waits for them must find their last insert.
            await asyncio.sleep(LANDING.total_seconds())
            gone = await self.forget([one.id for one in dead])
            await tell_abandoned(self._manager, gone)

    async def purge_own(self) -> None:
        """Forget the commits that this process has left on the list; mostly there are none."""
        await self._leftovers.settle()
        if due := self._leftovers.due:
            await self.forget(due)
            self._leftovers.are_gone(due)

    async def _enter(
        self,
        place: Place,
        versions: int,
        event_keys: Sequence[str] | None,
        series: Sequence[str] | None,
        symbols_above: int | None = None,
    ) -> None:
        gone, one = self._leftovers.due, self._entry(place, versions, event_keys, series)
        # All of them lie behind whatever `present` said before, to this millisecond.
        lowest = {"$max": [{"$add": ["$value", 1]}, now()]}
        value = {"$add": [lowest, versions - 1]}
        change: list[Bson] = [
            {"$set": {"value": value}},
            {"$set": {"running": {"$concatArrays": [without(gone), [one]]}}},
        ]
        if symbols_above is not None:
            symbols = {"$max": [{"$add": ["$symbols", 1]}, Int64(symbols_above + 1)]}
            change.append({"$set": {"symbols": symbols}})
        # Without a count of symbols (a clock of an earlier release) nothing is found here:
        # `catch_up` begins one, above all symbols that are decided.
        there: Bson = {} if symbols_above is None else {"symbols": {"$exists": True}}
        wanted = {LISTED: 1} if event_keys is None or event_keys else {}
        found = await self._tick(change, there, wanted)
        for _ in range(_TICKS):
            if found is not None:
                break
            if not await self.wait_for_fence():
                await self.catch_up()
            found = await self._tick(change, there, wanted)
        if found is None:
            raise StorageError(
                f"The commit clock in {CLOCK} was removed while it was in use.", remedy="Repeat."
            )
        self._leftovers.are_gone(gone)
        place.version = int(found["value"]) - versions + 1
        running = map(UnderWay.of, found["running"])
        place.earlier = [one for one in running if one.version < place.version]
        place.subscriptions = [Listed.of(each) for each in found.get(LISTED, ())]
        if symbols_above is not None:
            place.symbols_version = int(found["symbols"])

    def _entry(
        self,
        place: Place,
        versions: int,
        event_keys: Sequence[str] | None,
        series: Sequence[str] | None,
    ) -> Bson:
        """The place as the clock lists it, for the stage behind the one that sets `value`."""
        entry: Bson = {
            "id": place.id,
            "version": {"$subtract": ["$value", versions - 1]},  # `value` is the highest of them
            "owner": {"$literal": self._owner},
            "until": from_now(LEASE),
            "eventKeys": {"$literal": event_keys},
            "series": {"$literal": series},
        }
        unit: Bson = {} if place.unit is None else {"unit": {"$literal": place.unit}}
        return entry | unit

    async def _tick(self, change: Sequence[Bson], there: Bson, wanted: Bson) -> Bson | None:
        # Not repeated: a place that was taken without our knowledge would hold others up.
        found: Bson | None = await self._manager.retries.once(
            "asking the commit clock",
            lambda: self._clock.find_one_and_update(
                {"_id": CLOCK_ID, "$expr": NO_FENCE} | there,
                change,
                projection={"value": 1, "symbols": 1, "running": 1} | wanted,
                return_document=ReturnDocument.AFTER,
            ),
        )
        return found

    async def _leave(self, place: Place) -> bool:
        gone = {"$pull": {"running": {"id": place.id}}}
        kept = {"running": {"$filter": {"input": "$running", "cond": lasts(place.id)}}}
        try:
            # The document as it was before: a place that had expired by then was not waited for.
            found = await self._manager.retries.once(
                "ending a commit",
                lambda: self._clock.find_one_and_update({"_id": CLOCK_ID}, gone, projection=kept),
            )
        except StorageError:
            log.info("A commit is listed until the next one.", exc_info=True)
            self._leftovers.abandon(place.id)
            return monotonic() - place.renewed_at < LEASE.total_seconds()
        return bool(found and found.get("running"))

    async def _give_up(self, place: Place, *, lands: bool) -> None:
        """Take a failed place off the list, or keep it only until what it sent has arrived."""
        try:
            if lands:
                await self._set_end(LANDING, is_place(place.id))
            else:
                await self.forget([place.id])
        except BaseException as exc:
            self._leftovers.abandon(place.id, LANDING.total_seconds() if lands else 0)
            if not isinstance(exc, StorageError):
                raise
            log.info("A commit that failed is listed until the next one.", exc_info=True)

    async def _renew(self, place: Place) -> None:
        begun = monotonic()
        if await self._set_end(LEASE, lasts(place.id)):
            place.renewed_at = begun

    async def _set_end(self, lease: timedelta, which: Bson) -> int:
        """Let the lease of a place end that much later than now; return how many were changed."""
        later = {"$mergeObjects": ["$$this", {"until": from_now(lease)}]}
        each = {"$map": {"input": "$running", "in": {"$cond": [which, later, "$$this"]}}}
        result = await self._manager.retries.once(
            "setting the end of a commit's lease",
            lambda: self._clock.update_one({"_id": CLOCK_ID}, [{"$set": {"running": each}}]),
        )
        return result.modified_count

    async def _find(self, projection: Bson, which: Bson | None = None) -> Bson | None:
        wanted = {"_id": CLOCK_ID} | (which or {})
        found: Bson | None = await self._manager.retries.repeat(
            "reading the commit clock", lambda: self._clock.find_one(wanted, projection)
        )
        return found

    @property
    def _clock(self) -> MongoCollection:
        return self._manager.get_collection(CLOCK)
