"""The journal by itself: what it keeps of a commit, whose it is to finish, and what it drops."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import date, timedelta
from itertools import count
from typing import Any

import pytest
from bson import ObjectId

from jts_storage import SeriesKey, Timeframe
from jts_storage._runtime.processes import this_process
from jts_storage.domain import checks
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.changes import AggregateChange, CheckpointChange, CommitChanges
from jts_storage.domain.rows import SeriesRows
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import MongoDBManager
from jts_storage.testing.factories import make_candles
from jts_storage.unit_of_work import journal
from jts_storage.unit_of_work import journal_format as staged_work
from jts_storage.unit_of_work.entries import CHUNKS, ENTRIES, Entry
from jts_storage.unit_of_work.journal import LEASE, Journal

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
OTHER = SeriesKey("A", Timeframe.M5)
DAY = date(2024, 1, 2)
GONE = f"{this_process().rsplit('/', 1)[0]}/0"
databases = count()


@pytest.fixture
async def manager(mongod: LocalMongod) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database=f"journal{next(databases)}") as manager:
        for name in (ENTRIES, CHUNKS):  # a transaction may not make them
            await manager.db.create_collection(name)
        yield manager
    journal._in_hand.clear()


@pytest.fixture
def own(manager: MongoDBManager) -> Journal:
    return Journal(manager)


def work_of(rows: int = 20) -> CommitChanges:
    candles, bars = CandleChanges(), CandleChanges()
    candles.save(SeriesRows.of(make_candles(KEY, rows)))
    bars.save(SeriesRows.of(make_candles(OTHER, rows)))
    return CommitChanges(
        candles=candles,
        bars=bars,
        aggregates=[AggregateChange("A", DAY, 0, None)],
        checkpoints=[CheckpointChange("x", {"n": 1}, None)],
    )


async def decide(
    own: Journal, version: int, *names: str, work: CommitChanges | None = None
) -> ObjectId:
    identity = ObjectId()
    chunks = await own.prepare(identity, work or work_of())
    async with (
        own._manager.client.start_session() as session,
        await session.start_transaction(),
    ):
        await own.decide(identity, version, chunks, set(names), session)
    return identity


async def orphan(manager: MongoDBManager) -> None:
    await manager.db[ENTRIES].update_many({}, {"$set": {"owner": GONE}})


async def only(own: Journal) -> Entry:
    [entry] = await own.pending()
    return entry


async def test_an_entry_says_what_it_is(own: Journal, manager: MongoDBManager) -> None:
    before = checks.now()
    later = await decide(own, 20)
    earlier = await decide(own, 10)
    await asyncio.sleep(0.02)
    first, second = await own.pending()
    after = checks.now()
    assert (first.id, first.version, second.id, second.version) == (earlier, 10, later, 20)
    tick = timedelta(milliseconds=1)
    for entry in (first, second):
        assert entry.chunks == await manager.db[CHUNKS].count_documents({"entry": entry.id}) == 3
        assert entry.owner == this_process()
        assert before - tick <= entry.decided_at <= after
        assert timedelta(milliseconds=20) <= entry.age <= after - before + tick
        assert entry.lease_until - entry.decided_at == LEASE == timedelta(minutes=1)
        assert not entry.has_run_out
    past = {"leaseUntil": checks.now() - tick}
    await manager.db[ENTRIES].update_one({"_id": later}, {"$set": past})
    assert [entry.has_run_out for entry in await own.pending()] == [False, True]


async def test_what_was_decided_is_read_again(
    own: Journal, manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staged_work, "CHUNK_BYTES", 100)
    monkeypatch.setattr(staged_work, "CHUNK_ROWS", 6)
    monkeypatch.setattr(journal, "_CHUNKS_AT_ONCE", 3)
    work = work_of()
    identity = await decide(own, 7, work=work)
    stored = await manager.db[CHUNKS].find({"entry": identity}).sort("n").to_list()
    entry = await only(own)
    assert [chunk["n"] for chunk in stored] == [*range(1, entry.chunks + 1)]
    assert entry.chunks > 6
    found = await own.load(entry)
    assert found is not None
    assert (found.aggregates, found.checkpoints) == (work.aggregates, work.checkpoints)
    assert [*found.candles.keys, *found.bars.keys] == [KEY, OTHER]
    for kind, key in (("candles", KEY), ("bars", OTHER)):
        read = [series async for rows in own.rows(entry, kind) for series in rows]  # type: ignore[arg-type]
        assert [(series.key, len(series)) for series in read] == [(key, n) for n in (6, 6, 6, 2)]
        assert [row for series in read for row in series] == list(make_candles(key, 20))


async def test_small_chunks_are_written_together_and_large_ones_alone(
    own: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [staged_work.Chunk("work", b"x" * size) for size in (1, 2, 3, 50, 1, 60, 1)]
    monkeypatch.setattr(journal, "_CHUNKS_AT_ONCE", 3)
    monkeypatch.setattr(journal, "CHUNK_BYTES", 50)
    together, each = [], iter(chunks)
    while some := journal._next_of(each):
        together.append([len(chunk.data) for chunk in some])
    assert together == [[1, 2, 3], [50], [1, 60], [1]]


async def test_an_entry_is_decided_until_it_is_done(own: Journal, manager: MongoDBManager) -> None:
    identity, other = await decide(own, 7, "a"), await decide(own, 9, "a")
    assert await own.is_decided(identity)
    assert not await own.is_decided(ObjectId())
    assert await own.unfinished_versions() == {7, 9}
    assert await own.latest_version() == 9
    await own.done(identity)
    assert not await own.is_decided(identity)
    assert await manager.db[CHUNKS].distinct("entry") == [other]
    await own.done(other)
    assert await own.unfinished_versions() == set()
    assert await own.latest_version() == 0
    assert await manager.db[CHUNKS].count_documents({}) == 0


async def test_what_is_not_decided_is_discarded(own: Journal, manager: MongoDBManager) -> None:
    kept, dropped = await decide(own, 7), ObjectId()
    assert await own.prepare(dropped, work_of()) == 3
    await own.discard(dropped)
    assert await manager.db[CHUNKS].distinct("entry") == [kept]


async def test_the_unfinished_are_found_by_what_they_touch(
    own: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = await decide(own, 9, "a", "$b")
    earlier = await decide(own, 5, "a")
    assert await own.unfinished({"a", "x"}) == [earlier, later]
    assert await own.unfinished({"$b"}) == [later]
    assert await own.unfinished({"a"}, before=9) == [earlier]
    assert await own.unfinished({"a"}, before=5) == []
    assert await own.unfinished({"x"}) == []
    assert await own.unfinished(set()) == []
    monkeypatch.setattr(journal, "_MOST_NAMES", 2)
    assert await own.unfinished({"x", "y"}) == [], "as many as may be asked for"
    assert await own.unfinished({"x", "y", "z"}) == [earlier, later], "too many to be asked for"


async def test_who_touches_too_much_to_be_listed_touches_everything(
    own: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_MOST_NAMES", 2)
    await decide(own, 5, "a", "b")
    assert await own.unfinished({"x"}) == []
    everything = await decide(own, 6, "a", "b", "c")
    nothing = await decide(own, 7)
    assert await own.unfinished({"x"}) == [everything]
    assert nothing not in await own.unfinished({"x", "y", "z"})


async def test_what_this_process_has_in_hand_is_nobody_elses(
    own: Journal, manager: MongoDBManager
) -> None:
    await decide(own, 5)
    entry = await only(own)
    async with own.claimed(entry) as first:
        assert first is True
        async with Journal(manager).claimed(entry) as second:
            assert second is False
        async with own.claimed(await only(own)) as third:
            assert third is False, "who did not get it does not let go of it"
    async with own.claimed(await only(own)) as again:
        assert again is True
    async with own.held(entry.id), own.claimed(entry) as other:
        assert other is False


@pytest.mark.parametrize(
    ("owner", "seconds", "is_taken"),
    [
        (GONE, 30, True),
        ("elsewhere/1/1", 30, False),
        ("elsewhere/1/1", -1, True),
        (this_process(), 30, True),
    ],
    ids=["dead", "elsewhere", "elsewhere and late", "own"],
)
async def test_whose_entry_may_be_taken(
    own: Journal, manager: MongoDBManager, owner: str, seconds: int, is_taken: bool
) -> None:
    await decide(own, 5)
    until = checks.now() + timedelta(seconds=seconds)
    held = {"owner": owner, "leaseUntil": until}
    await manager.db[ENTRIES].update_many({}, {"$set": held})
    async with own.claimed(await only(own)) as is_ours:
        assert is_ours is is_taken
        entry = await only(own)
        assert (entry.owner == this_process()) is (is_taken or owner == this_process())
        assert (entry.lease_until > checks.now() + timedelta(seconds=40)) is is_taken


async def test_an_entry_that_somebody_took_meanwhile_is_left_to_him(
    own: Journal, manager: MongoDBManager
) -> None:
    await decide(own, 5)
    await orphan(manager)
    seen = await only(own)
    for change in (
        {"owner": "elsewhere/1/1"},
        {"owner": GONE, "leaseUntil": checks.now() + timedelta(seconds=99)},
    ):
        await manager.db[ENTRIES].update_many({}, {"$set": change})
        async with own.claimed(seen) as is_ours:
            assert is_ours is False
    await own.done(seen.id)
    async with own.claimed(seen) as is_ours:
        assert is_ours is False
    assert seen.id not in journal._in_hand


async def test_a_claim_that_fails_is_no_claim(
    own: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    await decide(own, 5)
    entry = await only(own)

    async def fail(_: Entry) -> bool:
        raise ConnectionFailed("MongoDB is away")

    with monkeypatch.context() as patch:
        patch.setattr(own, "_take", fail)
        with pytest.raises(ConnectionFailed):
            async with own.claimed(entry):
                pytest.fail("It was not claimed.")
    async with own.claimed(entry) as is_ours:
        assert is_ours


@pytest.mark.parametrize("failure", [StorageError("no"), asyncio.CancelledError()])
async def test_the_lease_of_what_fails_is_given_back_at_once(
    own: Journal, manager: MongoDBManager, failure: BaseException
) -> None:
    identity, other = await decide(own, 5), await decide(own, 6)
    with pytest.raises(type(failure)):
        async with own.held(identity):
            raise failure
    assert [entry.has_run_out for entry in await own.pending()] == [True, False]
    assert identity not in journal._in_hand
    assert (await own.pending())[1].id == other
    async with own.claimed((await own.pending())[0]) as is_ours:
        assert is_ours


async def test_who_lost_an_entry_neither_renews_nor_releases_it(
    own: Journal, manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LEASE", timedelta(milliseconds=150))
    identity = await decide(own, 5)
    until = checks.now() + timedelta(seconds=30)
    with pytest.raises(StorageError, match="mine"):
        async with own.held(identity):
            taken = {"owner": "elsewhere/1/1", "leaseUntil": until}
            await manager.db[ENTRIES].update_many({}, {"$set": taken})
            await asyncio.sleep(0.12)
            raise StorageError("mine")
    entry = await only(own)
    assert entry.owner == "elsewhere/1/1"
    assert not entry.has_run_out


async def test_only_what_is_held_is_renewed(
    own: Journal, manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, other = await decide(own, 5), await decide(own, 6)
    before = {entry.id: entry.lease_until for entry in await own.pending()}
    monkeypatch.setattr(journal, "LEASE", timedelta(seconds=0.15))
    attempts = count(1)
    renewed = asyncio.Event()
    once = manager.retries.once

    async def fails_first(doing: str, what: Any) -> Any:
        if doing == "renewing a lease" and next(attempts) == 1:
            raise ConnectionFailed("MongoDB is away for a moment")
        await once(doing, what)
        renewed.set()

    monkeypatch.setattr(type(manager.retries), "once", lambda _, *given: fails_first(*given))
    async with own.held(held):
        await asyncio.wait_for(renewed.wait(), 10)
        after = {entry.id: entry.lease_until for entry in await own.pending()}
    assert after[held] != before[held]
    assert after[other] == before[other]


async def test_letting_go_takes_no_longer_than_it_may(
    own: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = await decide(own, 5)
    monkeypatch.setattr(journal, "_RELEASE_SECONDS", 0.05)

    async def hang(*_: object) -> None:
        await asyncio.sleep(600)

    monkeypatch.setattr(type(own._manager.retries), "once", hang)
    begun = time.monotonic()
    with pytest.raises(StorageError, match="mine"):
        async with own.held(identity):
            raise StorageError("mine")
    assert time.monotonic() - begun < 60


async def test_an_entry_of_which_chunks_are_gone_says_so(
    own: Journal, manager: MongoDBManager
) -> None:
    identity = await decide(own, 5)
    await decide(own, 6)
    entry = (await own.pending())[0]
    await manager.db[CHUNKS].delete_one({"entry": identity, "n": 2})
    with pytest.raises(StorageError, match=f"{identity}.*of its 3 chunks in {CHUNKS}, 2 are"):
        await own.load(entry)
    await own.done(identity)
    assert await own.load(entry) is None, "somebody else has finished it"


async def test_chunks_are_dropped_if_they_were_seen_undecided_long_ago(
    own: Journal, manager: MongoDBManager
) -> None:
    chunks = manager.db[CHUNKS]
    decided, old, new = await decide(own, 5), ObjectId(), ObjectId()
    await own.prepare(old, work_of())
    assert await own.purge() == 0
    marked = await chunks.find({"seenAt": {"$exists": True}}).distinct("entry")
    assert marked == [old]
    first = await chunks.find_one({"entry": old})
    assert first is not None
    assert abs(first["seenAt"] - checks.now()) < timedelta(seconds=30)
    await own.prepare(new, work_of())
    assert await own.purge() == 0
    assert await chunks.find_one({"_id": first["_id"]}) == first, "when it was seen first counts"
    hour, minute = timedelta(hours=1), timedelta(minutes=1)
    for age, dropped in ((hour - minute, 0), (hour + minute, 3)):
        seen = {"$set": {"seenAt": checks.now() - age}}
        await chunks.update_many({"entry": {"$in": [old, decided]}}, seen)
        assert await own.purge() == dropped
    assert set(await chunks.distinct("entry")) == {decided, new}
