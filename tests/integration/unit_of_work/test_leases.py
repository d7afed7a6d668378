"""Who holds a lease, how long, and who may take it over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from jts_storage._runtime.processes import this_process
from jts_storage.domain import checks
from jts_storage.errors import ConnectionFailed
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import MongoDBManager
from jts_storage.mongo import leases as leases_module
from jts_storage.mongo.config import MongoDBConfig
from jts_storage.mongo.leases import LEASES, Leases

SHORT = timedelta(seconds=0.4)
databases = count()


@pytest.fixture
async def manager(mongod: LocalMongod) -> AsyncIterator[MongoDBManager]:
    config = MongoDBConfig(uri=mongod.uri, database=f"leases{next(databases)}")
    async with MongoDBManager(config) as manager:
        yield manager


@pytest.fixture
def leases(manager: MongoDBManager) -> Leases:
    return Leases(manager)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases_module, "DURATION", SHORT)


async def names(manager: MongoDBManager) -> list[str]:
    found: list[str] = await manager.get_collection(LEASES).distinct("_id")
    return found


async def is_free(leases: Leases, name: str = "one") -> bool:
    async with leases.taken(name) as lease:
        return lease is not None


async def test_one_holds_a_lease_and_then_nobody(leases: Leases, manager: MongoDBManager) -> None:
    async with leases.taken("one") as lease:
        assert lease is not None
        assert not await is_free(leases)
        assert not await is_free(Leases(manager)), "nor for another of this process"
        assert await is_free(leases, "other")
        assert await names(manager) == ["one"], "who got none gives none back"
    assert await names(manager) == []
    assert await is_free(leases)


async def test_a_lease_is_given_back_whatever_happens(
    leases: Leases, manager: MongoDBManager
) -> None:
    with pytest.raises(ZeroDivisionError):
        async with leases.taken("one"):
            raise ZeroDivisionError
    assert await names(manager) == []


async def test_who_is_cancelled_while_taking_a_lease_does_not_keep_it(leases: Leases) -> None:
    async def take(name: str) -> None:
        async with leases.taken(name):
            pass

    for number in range(40):
        taking = asyncio.create_task(take(f"lease {number}"))
        await asyncio.sleep(number / 10_000)
        taking.cancel()
        await asyncio.wait([taking])
        async with leases.taken(f"lease {number}") as lease:
            assert lease is not None, number


async def test_a_lease_lasts_a_minute(leases: Leases, manager: MongoDBManager) -> None:
    minute, tick = timedelta(minutes=1), timedelta(milliseconds=1)
    before = checks.now()
    async with leases.taken("one"):
        after = checks.now()
        held = await manager.db["uow_leases"].find_one({"_id": "one"})
    assert held is not None
    assert before + minute - tick <= held["until"] <= after + minute


@pytest.mark.usefixtures("short")
async def test_a_lease_that_ran_out_is_taken_over(leases: Leases, manager: MongoDBManager) -> None:
    async with AsyncExitStack() as stack:
        late = await stack.enter_async_context(leases.taken("one"))
        assert late is not None
        await asyncio.sleep(SHORT.total_seconds() + 0.05)
        async with leases.taken("one") as taken:
            assert taken is not None
            assert not await late.renewed(), "it is another's by now"
            await stack.aclose()
            assert await names(manager) == ["one"], "who was late gives back nothing of his"
    assert await names(manager) == []


@pytest.mark.usefixtures("short")
async def test_a_lease_that_is_renewed_stays(leases: Leases, manager: MongoDBManager) -> None:
    held = manager.get_collection(LEASES)
    async with leases.taken("one") as lease:
        assert lease is not None
        first = await held.find_one({"_id": "one"})
        assert await lease.renewed()
        assert await held.find_one({"_id": "one"}) == first, "most of it was left"
        await asyncio.sleep(SHORT.total_seconds() * 0.6)
        assert await lease.renewed()
        renewed = await held.find_one({"_id": "one"})
        assert first is not None and renewed is not None
        assert renewed["until"] >= first["until"] + SHORT / 2
        assert renewed["owner"] == first["owner"]
        await asyncio.sleep(SHORT.total_seconds() * 0.6)
        assert not await is_free(leases), "longer than it would have lasted"
        assert await lease.renewed()
        last = await held.find_one({"_id": "one"})
        assert last is not None and last["until"] > renewed["until"]


def owner(*, started: str | None = None, place: str | None = None) -> str:
    where, number, since = this_process().rsplit("/", 2)
    return f"x@{place or where}/{number}/{started or since}"


@pytest.mark.parametrize(
    ("holder", "seconds", "is_taken"),
    [
        (owner(), 30, False),
        (owner(), -1, True),
        (owner(started="0"), 30, True),
        (owner(place="elsewhere"), 30, False),
        (owner(place="elsewhere"), -1, True),
    ],
    ids=["alive", "late", "dead", "elsewhere", "elsewhere and late"],
)
async def test_who_gives_way(
    leases: Leases, manager: MongoDBManager, holder: str, seconds: int, is_taken: bool
) -> None:
    until = checks.now() + timedelta(seconds=seconds)
    held = manager.get_collection(LEASES)
    await held.insert_one({"_id": "one", "owner": holder, "until": until})
    async with leases.taken("one") as lease:
        assert (lease is not None) is is_taken
        found = await held.find_one({"_id": "one"})
        assert found is not None
        assert (found["owner"] != holder) is is_taken
        assert (found["until"] > checks.now() + timedelta(seconds=40)) is is_taken
    assert await names(manager) == ([] if is_taken else ["one"])


async def test_of_many_one_takes_over(leases: Leases, manager: MongoDBManager) -> None:
    until = checks.now() - timedelta(seconds=1)
    await manager.get_collection(LEASES).insert_one(
        {"_id": "one", "owner": owner(), "until": until}
    )
    at_once = 0
    most = 0
    taken = 0

    async def take() -> None:
        nonlocal at_once, most, taken
        async with leases.taken("one") as lease:
            if lease is None:
                return
            taken += 1
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.05)
            at_once -= 1

    await asyncio.gather(*(take() for _ in range(10)))
    assert most == 1
    assert taken >= 1


async def test_leases_that_ran_out_are_purged(leases: Leases, manager: MongoDBManager) -> None:
    held = manager.get_collection(LEASES)
    for name, seconds in (("old", -60), ("older", -90), ("new", 60)):
        until = checks.now() + timedelta(seconds=seconds)
        await held.insert_one({"_id": name, "owner": "x@y/1/2", "until": until})
    assert await leases.purge() == 2
    assert await names(manager) == ["new"]
    assert await leases.purge() == 0


@pytest.mark.parametrize(("age", "is_renewed"), [(0, False), (25, False), (31, True), (59, True)])
async def test_a_lease_is_renewed_once_half_of_it_is_over(
    leases: Leases, manager: MongoDBManager, age: int, is_renewed: bool
) -> None:
    held = manager.get_collection(LEASES)
    async with leases.taken("one") as lease:
        assert lease is not None
        first = await held.find_one({"_id": "one"})
        assert first is not None
        lease._renewed_at -= age
        await asyncio.sleep(0.002)
        assert await lease.renewed()
        last = await held.find_one({"_id": "one"})
        assert last is not None
        assert (last["until"] > first["until"]) is is_renewed


async def test_a_lease_of_one_name_says_nothing_of_another(
    leases: Leases, manager: MongoDBManager
) -> None:
    held = manager.get_collection(LEASES)
    async with leases.taken("one") as one, leases.taken("two") as two:
        assert one is not None and two is not None
        before = await held.find_one({"_id": "two"})
        one._renewed_at -= 59
        await asyncio.sleep(0.002)
        assert await one.renewed()
        assert await held.find_one({"_id": "two"}) == before
        await held.delete_one({"_id": "two"})
        one._renewed_at -= 59
        two._renewed_at -= 59
        assert await one.renewed()
        assert not await two.renewed()


async def test_a_lease_that_could_not_be_returned_is_free_to_the_same_process(
    leases: Leases, manager: MongoDBManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeat = manager.retries.repeat

    async def away(doing: str, *given: Any) -> Any:
        if doing == "returning a lease":
            raise ConnectionFailed("MongoDB is away")
        return await repeat(doing, *given)

    with monkeypatch.context() as patch, pytest.raises(ConnectionFailed):
        patch.setattr(manager.retries, "repeat", away)
        async with leases.taken("one") as lease:
            assert lease is not None
    assert await names(manager) == ["one"]
    assert await is_free(leases)
    assert await names(manager) == []


@pytest.mark.usefixtures("short")
async def test_who_lost_a_lease_is_told_so_every_time(
    leases: Leases, manager: MongoDBManager
) -> None:
    async with leases.taken("one") as lease:
        assert lease is not None
        await manager.get_collection(LEASES).update_one(
            {"_id": "one"}, {"$set": {"owner": "x@y/1/2"}}
        )
        await asyncio.sleep(SHORT.total_seconds() * 0.6)
        assert [await lease.renewed() for _ in range(3)] == [False] * 3
        assert await leases.holder("one") == "x@y/1/2"
    assert await leases.holder("two") is None
