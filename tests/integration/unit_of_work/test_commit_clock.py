"""The clock of commits: always forward, whoever asks, and who is under way."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect, OperationFailure

from jts_storage._runtime.processes import this_process
from jts_storage.errors import Conflict, ConnectionFailed, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import MongoDBManager
from jts_storage.testing.fault_proxy import FaultProxy
from jts_storage.unit_of_work import clock as clocks
from jts_storage.unit_of_work import leftovers
from jts_storage.unit_of_work.clock import CLOCK, CommitClock
from jts_storage.unit_of_work.other_commits import UnderWay
from jts_storage.unit_of_work.place import DECIDES_WITHIN, Place

databases = count()
SECOND = 10**9


@pytest.fixture
async def manager(mongod: LocalMongod) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database=f"clock{next(databases)}") as manager:
        yield manager


def clock_of(manager: MongoDBManager, stored: int = 0) -> CommitClock:
    async def highest() -> int:
        return stored

    return CommitClock(manager, highest)


async def version_of(clock: CommitClock) -> int:
    async with clock.place() as place:
        return place.version


async def test_versions_of_many_askers_never_meet(manager: MongoDBManager) -> None:
    clocks = [clock_of(manager) for _ in range(4)]
    versions = await asyncio.gather(*(version_of(clock) for clock in clocks for _ in range(25)))
    assert all(later - earlier >= 2 for earlier, later in pairwise(sorted(versions)))


async def test_versions_are_nanoseconds_of_the_server(manager: MongoDBManager) -> None:
    version = await version_of(clock_of(manager))
    assert abs(version - time.time_ns()) < 60 * SECOND


async def test_the_clock_begins_above_what_is_stored(manager: MongoDBManager) -> None:
    ahead = time.time_ns() + 3_600 * SECOND
    clock = clock_of(manager, ahead)
    await clock.start()
    assert await version_of(clock) > ahead
    await clock.start()  # is there already


async def test_versions_of_symbols_do_not_follow_a_clock_that_is_ahead(
    manager: MongoDBManager,
) -> None:
    clock = clock_of(manager, stored=time.time_ns() + 3_600 * SECOND)
    given = []
    for above in (1_000, 1_000, 10, 5_000):
        async with clock.place(symbols_above=above) as place:
            given.append(place.symbols_version)
    assert given == [1_001, 1_002, 1_003, 5_001], "above the last, and above what is asked"
    async with clock.place() as place:
        assert place.symbols_version is None
    await clock.catch_up()
    async with clock.place(symbols_above=10) as place:
        assert place.symbols_version == 5_002


async def test_the_clock_does_not_go_back_when_the_servers_does(manager: MongoDBManager) -> None:
    clock = clock_of(manager)
    await clock.start()
    ahead = time.time_ns() + 3_600 * SECOND
    await manager.get_collection(CLOCK).update_one({}, {"$set": {"value": ahead}})
    assert await version_of(clock) == ahead + 1


async def test_no_version_lies_before_the_present_that_was_told(manager: MongoDBManager) -> None:
    clock = clock_of(manager)
    await clock.start()
    told = await clock.present()
    # An import takes as many versions as a millisecond has: they begin at the present, too.
    async with clock.place(versions=1_000_000) as place:
        assert place.version >= told
    assert await clock.latest() == place.version + 999_999


async def test_a_clock_that_was_removed_is_made_again(manager: MongoDBManager) -> None:
    clock = clock_of(manager, stored=time.time_ns() + 60 * SECOND)
    first = await version_of(clock)
    await manager.get_collection(CLOCK).delete_many({})
    assert await version_of(clock) > first - SECOND


async def test_commits_are_listed_while_they_run(manager: MongoDBManager) -> None:
    clock = clock_of(manager)
    async with clock.place(event_keys={"$now", "b"}) as place:
        [listed] = await clock.under_way()
        assert (listed.id, listed.version, listed.owner) == (
            place.id,
            place.version,
            this_process(),
        )
        assert listed.may_have_events_of("$now")
        assert not listed.may_have_events_of("c")
    assert place.was_kept
    assert await clock.under_way() == []
    async with clock.place(event_keys={f"k{n}" for n in range(101)}):
        [listed] = await clock.under_way()
        assert listed.may_have_events_of("any")


async def test_only_earlier_commits_are_waited_for(manager: MongoDBManager) -> None:
    clock = clock_of(manager)
    async with (
        clock.place(series=["b"]),
        clock.place(series=["a"]) as earlier,
        clock.place(series=["a"]) as own,
        clock.place(series=["a"]),
    ):
        waiting = asyncio.create_task(clock.wait_for_earlier(own.version, {"a"}))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
        await clock.forget([earlier.id])
        await asyncio.wait_for(waiting, 5)
    assert not earlier.was_kept, "it is told that others did not wait for it"


async def test_the_dead_and_the_late_are_not_waited_for(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "LANDING", timedelta(milliseconds=20))
    clock = clock_of(manager)
    dead = f"{this_process().rsplit('/', 1)[0]}/0"
    for owner, lease in ((dead, 60), ("another-host/1/1", 0.2)):
        monkeypatch.setattr(clocks, "LEASE", timedelta(seconds=lease))
        monkeypatch.setattr(clock, "_owner", owner)
        await clock._enter(Place(ObjectId(), 0), 2, None, None)
    await asyncio.wait_for(clock.wait_for_earlier(2**62, {"a"}), 10)


async def test_who_fails_is_listed_for_as_long_as_what_it_sent_may_arrive(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "LANDING", timedelta(milliseconds=300))
    clock = clock_of(manager)
    with pytest.raises(ZeroDivisionError):
        async with clock.place(series=["a"]):
            raise ZeroDivisionError
    assert len(await clock.under_way()) == 1
    await asyncio.wait_for(clock.wait_for_earlier(2**62, {"a"}), 5)


async def test_a_place_whose_lease_ended_was_not_kept_although_it_is_still_written_down(
    manager: MongoDBManager,
) -> None:
    clock = clock_of(manager)
    async with clock.place() as place:
        past = {"$set": {"running.0.until": datetime(2020, 1, 1, tzinfo=UTC)}}
        await manager.get_collection(CLOCK).update_one({}, past)
        assert await clock.under_way() == []
    assert not place.was_kept


async def test_a_place_is_renewed_while_its_commit_runs(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "LEASE", timedelta(milliseconds=400))
    clock = clock_of(manager)
    async with clock.place() as place:
        await asyncio.sleep(1.0)
        assert len(await clock.under_way()) == 1
    assert place.was_kept


async def test_a_commit_that_failed_before_its_decision_is_not_waited_for(
    manager: MongoDBManager,
) -> None:
    clock = clock_of(manager)
    with pytest.raises(ZeroDivisionError):
        async with clock.place(lands=False):
            raise ZeroDivisionError
    assert not await clock.under_way()


@asynccontextmanager
async def undecided(manager: MongoDBManager, clock: CommitClock) -> AsyncIterator[Place]:
    """A commit that fails while it decides, and may still be decided."""
    async with manager.client.start_session() as session:
        await session.start_transaction()
        await manager.db["decisions"].insert_one({"_id": 1}, session=session)
        with pytest.raises(ConnectionFailed):
            async with clock.place(lands=False) as place:
                place.decided_in = session
                raise ConnectionFailed("cut off")
        yield place
        with pytest.raises(OperationFailure, match="aborted"):
            await session.commit_transaction()


@pytest.mark.parametrize("by", ["next", "waiting", "purging"])
async def test_what_may_still_be_decided_never_is_once_its_process_looks(
    manager: MongoDBManager, by: str
) -> None:
    clock = clock_of(manager)
    await manager.db.create_collection("decisions")
    async with undecided(manager, clock) as place:
        assert [each.id for each in await clock.under_way()] == [place.id], "nobody has looked"
        if by == "next":
            async with clock.place() as later:
                assert [each.id for each in later.earlier] == []
        elif by == "waiting":
            await asyncio.wait_for(clock.wait_for_earlier(place.version + 1, None), 30)
        else:
            await clock.purge()
        assert not await clock.under_way()


async def test_what_may_still_be_decided_is_waited_for_while_that_cannot_be_asked(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of(manager)
    await manager.db.create_collection("decisions")

    async def away(*_: Any) -> None:
        raise AutoReconnect("away")

    async with undecided(manager, clock) as place:
        with monkeypatch.context() as patch:
            patch.setattr(leftovers, "end_sessions", away)
            patch.setattr(leftovers, "_AGAIN_SECONDS", 0)
            async with clock.place() as later:
                assert [each.id for each in later.earlier] == [place.id]
            assert clock._leftovers._unknown, "it is asked again"
        await clock.purge()
        assert not await clock.under_way()


async def test_who_is_cancelled_leaves_what_may_still_be_decided_to_the_next(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of(manager)
    await manager.db.create_collection("decisions")

    async def hung(*_: Any) -> None:
        await asyncio.Event().wait()

    async with undecided(manager, clock):
        with monkeypatch.context() as patch:
            patch.setattr(leftovers, "end_sessions", hung)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(clock.purge(), 0.1)
        await clock.purge()
        assert not await clock.under_way()


async def test_it_is_known_that_a_commit_has_left_since_the_journal_was_asked(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, begun = clock_of(manager), time.monotonic()
    await manager.db.create_collection("decisions")
    async with undecided(manager, clock):
        assert not clock.may_have_let_go(begun)
        async with clock.place():
            assert clock.may_have_let_go(begun)
            assert not clock.may_have_let_go(time.monotonic())
    monkeypatch.setattr(clocks, "LANDING", timedelta(0))
    assert clock.may_have_let_go(time.monotonic() - 1), "its lease may have ended meanwhile"


async def test_what_a_failed_commit_has_sent_is_waited_for_before_it_is_done_again(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "LANDING", timedelta(seconds=1))
    clock = clock_of(manager)
    with pytest.raises(ZeroDivisionError):
        async with clock.place() as failed:
            raise ZeroDivisionError
    assert await clock.under_way()
    await clock.wait_until_landed(failed.id)
    assert not await clock.under_way()
    await clock.wait_until_landed(ObjectId())


async def test_a_session_that_is_to_be_ended_is_given_to_nobody(manager: MongoDBManager) -> None:
    clock = clock_of(manager)
    await manager.db.create_collection("decisions")
    async with undecided(manager, clock):
        await clock.purge()
        async with manager.client.start_session() as session:
            ended = session.session_id
    async with manager.client.start_session() as session:
        assert session.session_id == ended, "sessions are used again"


async def test_who_waits_takes_its_own_failed_commits_off_the_list(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB was away when it was to be told, and the next commit began before it had landed."""
    monkeypatch.setattr(clocks, "LANDING", timedelta(milliseconds=300))
    clock = clock_of(manager)

    async def away(*_: Any, **__: Any) -> Any:
        raise ConnectionFailed("away")

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        async with clock.place(series=["a"]) as failed:
            patch.setattr(manager.retries, "once", away)
            raise ZeroDivisionError
    async with clock.place(series=["a"]) as later:
        assert [each.id for each in later.earlier] == [failed.id]
        await asyncio.wait_for(clock.wait_for_earlier_than(later, ["a"]), 30)
        assert [each.id for each in await clock.under_way()] == [later.id]


async def test_a_commit_that_was_paused_decides_no_more(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with clock_of(manager).place() as place:
        place.check()
        monkeypatch.setattr(place, "taken_at", place.taken_at - 61)
        with pytest.raises(Conflict, match="paused"):
            place.check()


async def test_a_place_that_was_renewed_is_kept_though_its_end_is_not_told(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "LEASE", timedelta(milliseconds=400))
    clock = clock_of(manager)

    async def cut_off(*_: Any, **__: Any) -> Any:
        raise ConnectionFailed("cut off")

    async with clock.place() as place:
        await asyncio.sleep(0.6)
        monkeypatch.setattr(manager.retries, "once", cut_off)
    assert place.was_kept


async def test_a_place_outlives_the_transaction_of_its_commit(manager: MongoDBManager) -> None:
    """What may still be committed is waited for, even if its process says nothing any more."""
    told = await manager.client.admin.command("getParameter", transactionLifetimeLimitSeconds=1)
    limit = timedelta(seconds=told["transactionLifetimeLimitSeconds"])
    # The server looks for transactions that are too old twice within the limit.
    assert DECIDES_WITHIN + limit * 1.5 <= clocks.LEASE


async def test_a_place_whose_answer_was_lost_is_given_up(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of(manager)
    tick = clock._tick

    async def lost(*given: Any) -> Any:
        await tick(*given)
        raise ConnectionFailed("the answer is lost")

    await clock.start()
    monkeypatch.setattr(clock, "_tick", lost)
    with pytest.raises(ConnectionFailed):
        await version_of(clock)
    assert await clock.under_way() == []


async def test_a_commit_that_is_done_does_not_fail_when_it_cannot_say_so(
    mongod: LocalMongod, manager: MongoDBManager
) -> None:
    with FaultProxy("127.0.0.1", mongod.port) as proxy:
        far = MongoDBManager(
            uri=f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
            "&serverSelectionTimeoutMS=300&connectTimeoutMS=300",
            database=manager.config.database,
            max_retries=0,
        )
        async with far:
            clock = clock_of(far)
            async with clock.place() as place:
                proxy.faults.refuse()
            assert place.was_kept, "its lease has not ended"
            with pytest.raises(StorageError):
                await version_of(clock)
            proxy.faults.clear()


TICKER = """
import asyncio, sys, time
time.time_ns = lambda: 10**18
time.time = lambda: 10**9
from jts_storage.unit_of_work.clock import CommitClock
from jts_storage.mongo import MongoDBManager

async def main():
    async def nothing():
        return 0
    async with MongoDBManager(uri=sys.argv[1], database=sys.argv[2]) as manager:
        async with CommitClock(manager, nothing).place() as place:
            print(place.version)

asyncio.run(main())
"""


async def test_the_clock_of_a_host_says_nothing(
    mongod: LocalMongod, manager: MongoDBManager
) -> None:
    before = await version_of(clock_of(manager))
    told = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TICKER, mongod.uri, manager.config.database),
        stdout=subprocess.PIPE,
    )
    output, _ = await told.communicate()
    assert before < int(output) < await version_of(clock_of(manager))


async def test_few_and_short_names_are_listed_and_others_stand_for_all(
    manager: MongoDBManager,
) -> None:
    clock = clock_of(manager)
    few = {f"k{n}" for n in range(100)}
    short = {f"{n:0100}" for n in range(100)}
    for names, is_listed in (
        (few, True),
        (short, True),
        (few | {"k100"}, False),
        (set(sorted(short)[1:]) | {"n" * 101}, False),
        ({"n" * 10_001}, False),
        (set[str](), True),
    ):
        async with clock.place(event_keys=names, series=names):
            [listed] = await clock.under_way()
            assert listed.may_have_events_of("any") is not is_listed
            assert listed.may_write({"any"}) is not is_listed
            assert all(map(listed.may_have_events_of, names))
            assert not names or listed.may_write({"any", *names})


async def test_who_waits_asks_less_and_less_often(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of(manager)
    asked: list[float] = []
    under_way = clock.under_way

    async def noted() -> list[UnderWay]:
        asked.append(time.monotonic())
        return await under_way()

    async with clock.place(series=["a"]) as place:
        monkeypatch.setattr(clock, "under_way", noted)
        waiting = asyncio.create_task(clock.wait_for_earlier(2**62, {"a"}))
        await asyncio.sleep(0.7)
        assert not waiting.done()
        await clock.forget([place.id])
        await asyncio.wait_for(waiting, 10)
    assert 3 <= len(asked) <= 12


async def test_the_dead_are_forgotten_and_the_living_are_not(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clocks, "LANDING", timedelta(milliseconds=100))
    clock, dead = clock_of(manager), clock_of(manager)
    monkeypatch.setattr(dead, "_owner", f"{this_process().rsplit('/', 1)[0]}/0")
    await dead._enter(Place(ObjectId(), 0), 2, None, None)
    async with clock.place() as place:
        begun = time.monotonic()
        await clock.purge()
        assert time.monotonic() - begun >= 0.09, "what it sent may still arrive until then"
        assert [one.id for one in await clock.under_way()] == [place.id]
        monkeypatch.setattr(clocks, "LANDING", timedelta(days=1))
        await asyncio.wait_for(clock.purge(), 10)  # nobody is dead, so nothing may arrive


async def test_a_place_is_left_while_others_stay(manager: MongoDBManager) -> None:
    clock = clock_of(manager)
    async with clock.place() as first, clock.place() as second:
        async with clock.place() as third:
            listed = await clock.under_way()
            assert [one.id for one in listed] == [first.id, second.id, third.id]
            assert [one.version for one in listed] == [
                first.version,
                second.version,
                third.version,
            ]
        assert [one.id for one in await clock.under_way()] == [first.id, second.id]
        await clock.forget([first.id])
        assert [one.id for one in await clock.under_way()] == [second.id]
    assert (first.was_kept, second.was_kept, third.was_kept) == (False, True, True)


async def test_a_place_has_as_many_versions_as_it_is_asked_for(manager: MongoDBManager) -> None:
    ahead = time.time_ns() + 3_600 * SECOND
    clock = clock_of(manager, stored=ahead)
    await clock.start()
    async with clock.place(versions=5) as place:
        assert place.version == ahead + 2
        [listed] = await clock.under_way()
        assert listed.version == place.version
    assert await version_of(clock) == place.version + 5


async def test_a_place_that_has_run_out_is_not_renewed(manager: MongoDBManager) -> None:
    """Others have not waited for it meanwhile, whatever it is told later."""
    clock = clock_of(manager)
    async with clock.place() as place:
        ended = [{"$set": {"running.until": {"$subtract": ["$$NOW", 1]}}}]
        await manager.get_collection(CLOCK).update_one({}, ended)
        await clock._renew(place)
    assert not place.was_kept


async def test_a_place_whose_end_is_not_told_was_kept_as_long_as_its_lease(
    manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = clock_of(manager)
    once = manager.retries.once

    async def fails(doing: str, operation: Any) -> Any:
        if doing == "ending a commit":
            raise ConnectionFailed("MongoDB is away")
        return await once(doing, operation)

    monkeypatch.setattr(manager.retries, "once", fails, raising=False)
    async with clock.place() as fresh:
        pass
    assert fresh.was_kept
    async with clock.place() as late:
        late.renewed_at -= 2 * clocks.LEASE.total_seconds()
    assert not late.was_kept
