"""The outbox by itself: which events wait, for how long, and what becomes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import count

import pytest

from jts_storage import DomainEvent
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import MongoDBManager
from jts_storage.unit_of_work import outbox
from jts_storage.unit_of_work.outbox import EVENTS, Outbox, StoredEvent

databases = count()
LONG = timedelta(seconds=60)


@dataclass(frozen=True, kw_only=True)
class Sold(DomainEvent):
    number: int
    about: str = "one"

    @property
    def key(self) -> str:
        return self.about


@dataclass(frozen=True, kw_only=True)
class Bought(Sold):
    """Of a class below another event's."""


@pytest.fixture
async def manager(mongod: LocalMongod) -> AsyncIterator[MongoDBManager]:
    async with MongoDBManager(uri=mongod.uri, database=f"outbox{next(databases)}") as manager:
        await manager.db.create_collection(EVENTS)  # a transaction may not make it
        yield manager


@pytest.fixture
def own(manager: MongoDBManager) -> Outbox:
    return Outbox(manager)


async def store(own: Outbox, version: int, *events: DomainEvent) -> None:
    async with (
        own._manager.client.start_session() as session,
        await session.start_transaction(),
    ):
        await own.add(events, version, session)


async def due_keys(own: Outbox, *types: str) -> list[str]:
    return [key async for key in own.due_keys(types)]


async def numbers(own: Outbox, key: str, *types: str, limit: int = 100) -> list[int]:
    found = await own.waiting(key, types, limit=limit)
    return [one.event.number for one in found if isinstance(one.event, Sold)]


async def test_nothing_waits_in_an_empty_outbox(own: Outbox) -> None:
    await store(own, 1)
    assert await own.types() == []
    assert await due_keys(own, "sold") == []
    assert await own.next_due(["sold"]) is None
    assert await own.latest_version() == 0
    assert await own.waiting("one", ["sold"], limit=10) == []
    assert await own.list() == []
    assert await own.counts() == (0, 0)
    assert await own.retry() == 0


async def test_an_event_waits_as_it_was_added(own: Outbox) -> None:
    sold, bought = Sold(number=1), Bought(number=2)
    await store(own, 7, sold, bought)
    first, second = await own.waiting("one", ["sold", "bought"], limit=10)
    assert (first.event, second.event) == (sold, bought)
    assert type(second.event) is Bought
    assert (first.id, first.version, first.attempts, first.is_refused) == (sold.id, 7, 0, False)
    assert first.due_in < timedelta(0)
    listed = await own.list()
    assert listed[0] == StoredEvent(sold.id, "sold", "one", 0, False, listed[0].data)
    assert listed[0].data["number"] == 1
    assert [event.id for event in listed] == [sold.id, bought.id]
    assert [event.id for event in await own.list(limit=1)] == [sold.id]


async def test_events_wait_in_the_order_of_versions_and_then_as_added(own: Outbox) -> None:
    await store(own, 20, Sold(id="b", number=3), Sold(id="a", number=4))
    await store(own, 10, Sold(id="d", number=1), Sold(id="c", number=2))
    await store(own, 5, Sold(number=9, about="other"), Bought(number=8))
    assert await numbers(own, "one", "sold") == [1, 2, 3, 4]
    assert await numbers(own, "one", "sold", limit=3) == [1, 2, 3]
    assert await numbers(own, "one", "sold", "bought") == [8, 1, 2, 3, 4]
    assert await numbers(own, "other", "sold") == [9]
    assert await own.latest_version() == 20
    await store(own, 30, Sold(number=5, about="last"))
    assert await own.latest_version() == 30
    assert [event.data["number"] for event in await own.list()] == [9, 8, 1, 2, 3, 4, 5]


async def test_keys_are_found_each_once_page_by_page(
    own: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, key in enumerate("dcbadcba"):
        await store(own, number, Sold(number=number, about=key))
    await store(own, 99, Bought(number=99, about="e"))
    for size in (1, 2, 3, 4, 8, 9):
        monkeypatch.setattr(outbox, "_KEYS_A_PAGE", size)
        assert await due_keys(own, "sold") == ["a", "b", "c", "d"], size
    assert await due_keys(own, "bought", "sold") == ["a", "b", "c", "d", "e"]
    assert await due_keys(own, "other") == []
    assert await due_keys(own) == []


async def test_what_failed_waits_for_its_pause_and_no_longer(own: Outbox) -> None:
    event, other = Sold(number=1), Sold(number=2, about="other")
    await store(own, 1, event, other)
    await own.failed(event.id, 3, LONG, is_parked=False)
    assert await due_keys(own, "sold") == ["other"]
    [waiting] = await own.waiting("one", ["sold"], limit=10)
    assert waiting.attempts == 3
    assert LONG - timedelta(seconds=30) < waiting.due_in <= LONG
    due = await own.next_due(["sold"])
    assert due is not None
    assert due < timedelta(0), "that of the other"
    await own.delivered(other.id)
    due = await own.next_due(["sold"])
    assert due is not None
    assert LONG - timedelta(seconds=30) < due <= LONG
    await own.failed(event.id, 4, timedelta(0), is_parked=False)
    assert await due_keys(own, "sold") == ["one"]
    assert await own.next_due(["bought"]) is None


async def test_the_first_that_is_due_says_how_long(own: Outbox) -> None:
    events = [Sold(number=number, about=str(number)) for number in range(3)]
    await store(own, 1, *events)
    for event, minutes in zip(events, (5, 3, 4), strict=True):
        await own.failed(event.id, 1, timedelta(minutes=minutes), is_parked=False)
    due = await own.next_due(["sold"])
    assert due is not None
    assert timedelta(minutes=2) < due <= timedelta(minutes=3)


async def test_what_is_parked_does_not_wait_until_it_is_retried(own: Outbox) -> None:
    parked, waiting, both = (Sold(number=n) for n in range(3))
    await store(own, 1, parked, waiting, both)
    for event in (parked, both):
        await own.failed(event.id, 5, LONG, is_parked=True)
    assert await own.counts() == (1, 2)
    assert await numbers(own, "one", "sold") == [1]
    assert [(e.attempts, e.is_parked) for e in await own.list()] == [
        (5, True),
        (0, False),
        (5, True),
    ]
    assert await own.retry("unknown") == 0
    assert await own.retry(waiting.id) == 0, "it is not parked"
    assert await own.retry(parked.id) == 1
    assert await own.counts() == (2, 1)
    again, _ = await own.waiting("one", ["sold"], limit=10)
    assert (again.id, again.attempts) == (parked.id, 0)
    assert again.due_in < timedelta(0), "at once"
    assert await own.retry() == 1
    assert await own.counts() == (3, 0)


async def test_a_type_of_which_all_are_parked_does_not_wait(own: Outbox) -> None:
    sold, bought = Sold(number=1), Bought(number=2, about="two")
    await store(own, 1, sold, bought)
    assert sorted(await own.types()) == ["bought", "sold"]
    await own.failed(bought.id, 5, LONG, is_parked=True)
    assert await own.types() == ["sold"]
    assert await due_keys(own, "sold", "bought") == ["one"]
    assert await own.next_due(["bought"]) is None


async def test_what_is_delivered_is_gone_and_nothing_else(own: Outbox) -> None:
    events = [Sold(number=number) for number in range(3)]
    await store(own, 1, *events)
    await own.delivered(events[1].id)
    await own.delivered("unknown")
    assert await numbers(own, "one", "sold") == [0, 2]


async def test_what_cannot_be_read_waits_without_its_event(
    own: Outbox, manager: MongoDBManager
) -> None:
    unknown, refused, well = (Sold(number=number) for number in range(3))
    await store(own, 1, unknown, refused, well)
    for event, change in (
        (unknown, {"class": "elsewhere.Sold"}),
        (refused, {"data.number": "no number"}),
    ):
        await manager.db[EVENTS].update_one({"_id": event.id}, {"$set": change})
    found = await own.waiting("one", ["sold"], limit=10)
    assert [(one.event, one.is_refused) for one in found] == [
        (None, False),
        (None, True),
        (well, False),
    ]
