"""Events once they are stored: in order, at least once, and none for ever in the way of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count

import pytest
from bson import ObjectId, encode

from jts_storage import DomainEvent, InMemoryEventPublisher
from jts_storage._runtime.processes import this_process
from jts_storage.domain import checks
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo import MongoDBManager
from jts_storage.mongo.config import MongoDBConfig
from jts_storage.mongo.leases import LEASES, Leases
from jts_storage.unit_of_work import delivery
from jts_storage.unit_of_work.clock import CLOCK, CommitClock
from jts_storage.unit_of_work.delivery import ATTEMPTS, Delivery
from jts_storage.unit_of_work.entries import ENTRIES
from jts_storage.unit_of_work.journal import Journal
from jts_storage.unit_of_work.other_commits import UnderWay
from jts_storage.unit_of_work.outbox import EVENTS, Outbox
from jts_storage.unit_of_work.place import Place

NEVER = timedelta(days=1)
databases = count()


@dataclass(frozen=True, kw_only=True)
class Marked(DomainEvent):
    """Another type, of the same key."""

    @property
    def key(self) -> str:
        return "one"


@dataclass(frozen=True, kw_only=True)
class Noted(DomainEvent):
    """What these tests tell."""

    number: int
    about: str = "one"

    @property
    def key(self) -> str:
        return self.about


@dataclass
class Post:
    """One outbox, and any number of deliverers of it."""

    manager: MongoDBManager
    outbox: Outbox
    deliverers: list[Delivery] = field(default_factory=list)

    @property
    def clock(self) -> CommitClock:
        return CommitClock(self.manager, nothing_stored)

    async def store(self, *events: DomainEvent, version: int) -> None:
        async with (
            self.manager.client.start_session() as session,
            await session.start_transaction(),
        ):
            await self.outbox.add(events, version, session)

    def deliverer(self, publisher: InMemoryEventPublisher) -> Delivery:
        made = Delivery(
            self.outbox, Journal(self.manager), self.clock, Leases(self.manager), publisher
        )
        self.deliverers.append(made)
        return made

    async def states(self) -> list[tuple[int, int, bool]]:
        found = await self.outbox.list()
        return [(e.data["number"], e.attempts, e.is_parked) for e in found]


async def nothing_stored() -> int:
    return 0


@pytest.fixture
async def post(mongod: LocalMongod) -> AsyncIterator[Post]:
    config = MongoDBConfig(uri=mongod.uri, database=f"delivery{next(databases)}")
    async with MongoDBManager(config) as manager:
        for name in (EVENTS, LEASES, ENTRIES):  # a transaction may not make them
            await manager.db.create_collection(name)
        post = Post(manager, Outbox(manager))
        yield post
        for deliverer in post.deliverers:
            await deliverer.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed may be tried again at once, but is not in the background."""
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", timedelta(0))
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", NEVER)


def noting(numbers: list[int]) -> InMemoryEventPublisher:
    publisher = InMemoryEventPublisher()
    publisher.register_handler(Noted, lambda event: numbers.append(event.number))
    return publisher


def failing_for(*numbers: int, seen: list[int]) -> InMemoryEventPublisher:
    publisher = InMemoryEventPublisher()

    def handler(event: Noted) -> None:
        seen.append(event.number)
        if event.number in numbers:
            raise ValueError(f"{event.number} is refused")

    publisher.register_handler(Noted, handler)
    return publisher


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    give_up = time.monotonic() + 10
    while not await condition():
        assert time.monotonic() < give_up
        await asyncio.sleep(0.01)


async def test_events_of_a_key_come_in_the_order_of_the_commits(post: Post) -> None:
    seen: list[int] = []
    await post.store(Noted(number=3), version=20)
    await post.store(Noted(number=1), Noted(number=2), version=10)
    await post.store(Noted(number=4), version=30)
    assert await post.deliverer(noting(seen)).deliver() == 4
    assert seen == [1, 2, 3, 4]
    assert await post.states() == []


@pytest.mark.parametrize("is_own", [True, False])
async def test_each_key_of_a_commit_keeps_its_order_however_slow_another_is(
    post: Post, is_own: bool
) -> None:
    events = [Noted(number=n, about="slow" if n % 2 else "quick") for n in range(6)]
    await post.store(*events, version=1)
    # The server finds them in another order than they were stored in, as it may.
    stored = post.manager.get_collection(EVENTS)
    for number in (0, 1):
        taken = await stored.find_one_and_delete({"data.number": number})
        assert taken is not None
        await stored.insert_one(taken)
    seen: list[int] = []
    publisher = InMemoryEventPublisher()

    async def note(event: Noted) -> None:
        # The first takes longest: who delivered several of a key at once would turn them round.
        await asyncio.sleep((6 - event.number) * 0.005 if event.about == "slow" else 0)
        seen.append(event.number)

    publisher.register_handler(Noted, note)
    deliverer = post.deliverer(publisher)
    assert await (deliverer.deliver_own(events) if is_own else deliverer.deliver()) == 6
    assert [number for number in seen if number % 2] == [1, 3, 5]
    assert [number for number in seen if not number % 2] == [0, 2, 4]


@pytest.mark.parametrize(
    ("keys", "are_listed"),
    [
        ([f"k{n}" for n in range(100)], True),
        ([f"k{n}" for n in range(101)], False),
        (["k" * 10_000], True),
        (["k" * 10_001], False),
        ([f"{n:03}{'k' * 300}" for n in range(50)], False),
    ],
    ids=["100 keys", "101 keys", "as long as may be", "too long", "too long together"],
)
async def test_an_event_waits_for_a_commit_of_its_key_however_many_or_long_its_keys_are(
    post: Post, keys: list[str], are_listed: bool
) -> None:
    seen: list[int] = []
    deliverer = post.deliverer(noting(seen))
    async with post.clock.place(event_keys=keys) as place:
        for number, key in enumerate((keys[0], keys[-1], "other")):
            await post.store(Noted(number=number, about=key), version=place.version + number + 1)
        await deliverer.deliver()
        assert seen == ([2] if are_listed else []), "a key that is not listed may be any"
        clock = await post.manager.get_collection(CLOCK).find_one()
        assert clock is not None
        assert len(encode(clock)) < 15_000, "every commit reads and writes it"
    await deliverer.deliver()
    assert sorted(seen) == [0, 1, 2]


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("is_late", [True, False])
async def test_an_event_of_another_type_comes_first_where_it_was_committed_first(
    post: Post, monkeypatch: pytest.MonkeyPatch, own: bool, is_late: bool
) -> None:
    seen: list[str] = []
    publisher = InMemoryEventPublisher()
    for kind in (Noted, Marked):
        publisher.register_handler(kind, lambda event: seen.append(event.event_type))
    later, earlier = Noted(number=1), Marked()
    await post.store(later, version=2)
    deliverer = post.deliverer(publisher)
    under_way = CommitClock.under_way

    async def committed_meanwhile(clock: CommitClock) -> list[UnderWay]:
        monkeypatch.setattr(CommitClock, "under_way", under_way)
        found = await under_way(clock)
        await post.store(earlier, version=1)
        return found

    if is_late:
        monkeypatch.setattr(CommitClock, "under_way", committed_meanwhile)
    else:
        await post.store(earlier, version=1)
    await (deliverer.deliver_own([later]) if own else deliverer.deliver())
    assert seen == ["marked", "noted"]


async def test_a_failure_holds_up_what_follows_of_its_key_and_nothing_else(post: Post) -> None:
    seen: list[int] = []
    await post.store(Noted(number=1), Noted(number=2), Noted(number=3, about="two"), version=1)
    assert await post.deliverer(failing_for(1, seen=seen)).deliver() == 1
    assert sorted(seen) == [1, 3]
    assert await post.states() == [(1, 1, False), (2, 0, False)]


async def test_what_keeps_failing_is_parked_and_those_behind_it_go_on(post: Post) -> None:
    seen: list[int] = []
    deliverer = post.deliverer(failing_for(1, seen=seen))
    await post.store(Noted(number=1), Noted(number=2), version=1)
    for _ in range(ATTEMPTS + 3):
        await deliverer.deliver()
    assert seen == [1] * ATTEMPTS + [2]
    assert await post.states() == [(1, ATTEMPTS, True)]
    assert await post.outbox.counts() == (0, 1)


async def test_a_parked_event_gets_another_chance(post: Post) -> None:
    seen: list[int] = []
    events = [Noted(number=number, about=str(number)) for number in range(3)]
    await post.store(*events, version=1)
    for _ in range(ATTEMPTS):
        await post.deliverer(failing_for(0, 1, 2, seen=[])).deliver()
    deliverer = post.deliverer(noting(seen))
    assert await deliverer.deliver() == 0
    assert await post.outbox.retry(events[1].id) == 1
    assert await deliverer.deliver() == 1
    assert await post.outbox.retry() == 2
    assert await deliverer.deliver() == 2
    assert sorted(seen) == [0, 1, 2]
    assert seen[0] == 1
    assert await post.outbox.retry() == 0


async def test_a_failure_is_repeated_in_the_background(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(milliseconds=10))
    calls: list[str] = []

    def third_time_lucky(event: Noted) -> None:
        calls.append(event.id)
        if len(calls) < 3:
            raise ValueError("not yet")

    publisher = InMemoryEventPublisher()
    publisher.register_handler(Noted, third_time_lucky)
    event = Noted(number=1)
    await post.store(event, version=1)
    assert await post.deliverer(publisher).deliver_own([event]) == 0

    async def is_empty() -> bool:
        return await post.outbox.counts() == (0, 0)

    await until(is_empty)
    assert calls == [event.id] * 3, "the id is the same at every delivery"


async def test_of_two_deliverers_one_has_a_key(post: Post) -> None:
    seen: list[int] = []
    entered, go_on = asyncio.Event(), asyncio.Event()
    slow = InMemoryEventPublisher()

    async def wait(event: Noted) -> None:
        entered.set()
        await go_on.wait()
        seen.append(event.number)

    slow.register_handler(Noted, wait)
    await post.store(Noted(number=1), Noted(number=2), Noted(number=9, about="other"), version=1)
    first = asyncio.create_task(post.deliverer(slow).deliver_own([Noted(number=0)]))
    await entered.wait()
    assert await post.deliverer(noting(seen)).deliver() == 1
    assert seen == [9]
    go_on.set()
    assert await first == 2
    assert seen == [9, 1, 2]


@pytest.mark.parametrize("why", ["dead", "late"])
async def test_a_lease_is_taken_over_from_the_dead_and_the_late(post: Post, why: str) -> None:
    alive = this_process()
    owner = f"x@{alive.rsplit('/', 1)[0]}/0" if why == "dead" else f"x@{alive}"
    until = checks.now() + timedelta(seconds=30 if why == "dead" else -1)
    leases = post.manager.get_collection(LEASES)
    await leases.insert_one({"_id": "one", "owner": owner, "until": until})
    await post.store(Noted(number=1), version=1)
    assert await post.deliverer(noting([])).deliver() == 1
    assert await leases.count_documents({}) == 0


async def test_a_lease_that_was_taken_over_is_no_longer_renewed(post: Post) -> None:
    leases = Leases(post.manager)
    async with leases.taken("one") as lease:
        assert lease is not None
        lease._renewed_at -= 60
        assert await lease.renewed()
        await post.manager.get_collection(LEASES).delete_many({})
        assert await lease.renewed(), "not looked at again so soon"
        lease._renewed_at -= 60
        assert not await lease.renewed()


async def test_a_backlog_is_delivered_part_by_part(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_EVENTS_AT_ONCE", 2)
    seen: list[int] = []
    for number in range(5):
        await post.store(Noted(number=number), version=number)
    deliverer = post.deliverer(noting(seen))
    own = Noted(number=5)
    await post.store(own, version=5)
    assert await deliverer.deliver_own([own]) == 2, "a commit does not wait for all of it"
    await deliverer.deliver()
    assert seen == [0, 1, 2, 3, 4, 5]


async def test_who_listens_hears_what_other_processes_commit_later(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(0))
    monkeypatch.setattr(delivery, "_PAUSE_BETWEEN_LOOKS", timedelta(milliseconds=20))
    seen: list[int] = []
    assert await post.deliverer(noting(seen)).deliver() == 0
    await post.store(Noted(number=1), version=1)

    async def heard() -> bool:
        return seen == [1]

    await until(heard)


async def test_a_closed_deliverer_plans_nothing(post: Post) -> None:
    deliverer = post.deliverer(noting([]))
    await deliverer.close()
    deliverer.deliver_soon()
    assert deliverer._timer is None


async def test_leases_that_ran_out_are_purged(post: Post) -> None:
    leases = post.manager.get_collection(LEASES)
    for name, seconds in (("old", -1), ("new", 30)):
        until = checks.now() + timedelta(seconds=seconds)
        await leases.insert_one({"_id": name, "owner": "x@y/1/2", "until": until})
    await post.deliverer(noting([])).purge()
    assert await leases.distinct("_id") == ["new"]


async def test_a_handler_that_hangs_has_failed(post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "PATIENCE", timedelta(milliseconds=50))
    publisher = InMemoryEventPublisher()

    async def hang(_: Noted) -> None:
        await asyncio.sleep(600)

    publisher.register_handler(Noted, hang)
    await post.store(Noted(number=1), version=1)
    assert await post.deliverer(publisher).deliver() == 0
    assert await post.states() == [(1, 1, False)]


async def test_a_handler_that_waits_for_what_is_cancelled_has_failed(post: Post) -> None:
    publisher = InMemoryEventPublisher()

    async def wait(_: Noted) -> None:
        task = asyncio.create_task(asyncio.sleep(600))
        task.cancel()
        await task

    publisher.register_handler(Noted, wait)
    await post.store(Noted(number=1), version=1)
    assert await post.deliverer(publisher).deliver() == 0
    assert await post.states() == [(1, 1, False)]


async def test_cancelling_a_delivery_costs_nothing_but_a_repetition(post: Post) -> None:
    entered = asyncio.Event()
    publisher = InMemoryEventPublisher()

    async def wait(_: Noted) -> None:
        entered.set()
        await asyncio.sleep(600)

    publisher.register_handler(Noted, wait)
    await post.store(Noted(number=1), version=1)
    task = asyncio.create_task(post.deliverer(publisher).deliver())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await post.states() == [(1, 0, False)]
    assert await post.deliverer(noting([])).deliver() == 1


async def test_a_publisher_that_raises_has_failed(post: Post) -> None:
    class Broken(InMemoryEventPublisher):
        def hears(self, event_type: str) -> bool:
            return True

        async def publish(self, event: DomainEvent) -> int:
            raise OSError("the broker is away")

    await post.store(Noted(number=1), version=1)
    assert await post.deliverer(Broken()).deliver() == 0
    assert await post.states() == [(1, 1, False)]


async def test_what_nobody_hears_here_waits_for_somebody_who_does(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(0))
    monkeypatch.setattr(delivery, "_PAUSE_BETWEEN_LOOKS", timedelta(milliseconds=20))
    seen: list[int] = []
    publisher = InMemoryEventPublisher()
    await post.store(Noted(number=1), version=1)
    assert await post.deliverer(publisher).deliver() == 0
    await asyncio.sleep(0.1)
    assert await post.states() == [(1, 0, False)]
    publisher.register_handler(Noted, lambda event: seen.append(event.number))

    async def is_empty() -> bool:
        return await post.outbox.counts() == (0, 0)

    await until(is_empty)
    assert seen == [1]


async def test_an_event_that_nobody_here_listens_to_waits_for_who_does(post: Post) -> None:
    event = Noted(number=1)
    seen: list[int] = []
    await post.store(event, version=1)
    await post.deliverer(InMemoryEventPublisher()).deliver_own([event])
    assert await post.states() == [(1, 0, False)]
    assert await post.deliverer(noting(seen)).deliver() == 1
    assert seen == [1]


async def test_an_event_that_its_class_refuses_is_parked_and_holds_up_nobody(post: Post) -> None:
    seen: list[int] = []
    await post.store(Noted(number=1), Noted(number=2), version=1)
    await post.manager.get_collection(EVENTS).update_one(
        {"data.number": 1}, {"$set": {"data.number": "no number"}}
    )
    deliverer = post.deliverer(noting(seen))
    for _ in range(ATTEMPTS):
        await post.manager.get_collection(EVENTS).update_many(
            {}, {"$set": {"notBefore": checks.now()}}
        )
        await deliverer.deliver()
    assert seen == [2]
    [refused] = await post.outbox.list()
    assert (refused.attempts, refused.is_parked) == (ATTEMPTS, True)


async def test_events_wait_until_every_store_has_their_commit(post: Post) -> None:
    seen: list[int] = []
    later = Noted(number=2)
    await post.store(Noted(number=1), version=1)
    await post.store(later, version=2)
    entries = post.manager.get_collection(ENTRIES)
    await entries.insert_one({"_id": ObjectId(), "version": 1})
    deliverer = post.deliverer(noting(seen))
    assert await deliverer.deliver() == 0
    assert await deliverer.deliver_own([later]) == 0, "order goes before speed"
    await entries.delete_many({})
    assert await deliverer.deliver() == 2
    assert seen == [1, 2]


@pytest.mark.parametrize("is_alive", [False, True])
async def test_events_wait_for_commits_of_the_living_and_not_of_the_dead(
    post: Post, monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    clock = post.clock
    if not is_alive:
        monkeypatch.setattr(clock, "_owner", f"{this_process().rsplit('/', 1)[0]}/0")
    await clock._enter(Place(ObjectId(), 0), 2, ["one"], [])
    await post.store(Noted(number=1), version=2**62)
    assert await post.deliverer(noting([])).deliver() == (not is_alive)


async def test_an_event_of_an_unknown_class_is_left_to_who_knows_it(post: Post) -> None:
    seen: list[int] = []
    await post.store(Noted(number=1), Noted(number=2), version=1)
    await post.manager.get_collection(EVENTS).update_one(
        {"data.number": 1}, {"$set": {"class": "elsewhere.Noted"}}
    )
    assert await post.deliverer(noting(seen)).deliver() == 1
    assert seen == [2]
    assert await post.states() == [(1, 0, False)]


def planned_in(deliverer: Delivery) -> float:
    """Seconds until the deliverer looks again."""
    assert deliverer._timer is not None
    return deliverer._timer.when() - asyncio.get_running_loop().time()


async def test_nothing_is_planned_where_nothing_is_left(post: Post) -> None:
    events = [Noted(number=number) for number in range(3)]
    await post.store(*events, version=1)
    deliverer = post.deliverer(noting([]))
    assert await deliverer.deliver_own(events) == 3
    assert deliverer._timer is None


async def test_what_is_too_much_for_once_is_planned(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_EVENTS_AT_ONCE", 2)
    events = [Noted(number=number) for number in range(2)]
    await post.store(*events, version=1)
    deliverer = post.deliverer(noting([]))
    assert await deliverer.deliver_own(events) == 2
    assert planned_in(deliverer) > 0


async def test_the_deliveries_of_all_keys_are_counted(post: Post) -> None:
    seen: list[int] = []
    events = [Noted(number=number, about=str(number % 3)) for number in range(7)]
    await post.store(*events[:4], version=1)
    deliverer = post.deliverer(noting(seen))
    assert await deliverer.deliver_own(events[:4]) == 4
    await post.store(*events[4:], version=2)
    assert await deliverer.deliver() == 3
    assert sorted(seen) == [*range(7)]


async def test_a_key_that_somebody_else_has_is_looked_at_again(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(milliseconds=10))
    event = Noted(number=1)
    seen: list[int] = []
    await post.store(event, version=1)
    async with Leases(post.manager).taken("one") as lease:
        assert lease is not None
        assert await post.deliverer(noting(seen)).deliver_own([event]) == 0

    async def heard() -> bool:
        return seen == [1]

    await until(heard)


@pytest.mark.parametrize("how", ["own", "all"])
async def test_what_is_not_due_yet_is_delivered_once_it_is(
    post: Post, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(milliseconds=1))
    monkeypatch.setattr(delivery, "_PAUSE_BETWEEN_LOOKS", NEVER)
    event = Noted(number=1)
    seen: list[int] = []
    await post.store(event, version=1)
    await post.outbox.failed(event.id, 1, timedelta(seconds=1.5), is_parked=False)
    deliverer = post.deliverer(noting(seen))
    assert await (deliverer.deliver_own([event]) if how == "own" else deliverer.deliver()) == 0
    assert seen == []

    async def heard() -> bool:
        return seen == [1]

    await until(heard)


async def test_a_commit_does_not_hold_up_its_own_events(post: Post) -> None:
    event, later = Noted(number=1), Noted(number=2)
    async with post.clock.place(event_keys={"one"}) as place:
        await post.store(event, version=place.version)
        await post.store(later, version=place.version + 1)
        assert await post.deliverer(noting([])).deliver() == 1
    assert await post.states() == [(2, 0, False)]


async def test_the_earliest_of_what_is_planned_counts(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_SHORTEST_PAUSE", timedelta(seconds=1))
    deliverer = post.deliverer(noting([]))
    deliverer._look_again(timedelta(minutes=5))
    first = deliverer._timer
    assert first is not None
    assert 290 < planned_in(deliverer) <= 300
    deliverer._look_again(timedelta(minutes=9))
    assert deliverer._timer is first
    assert not first.cancelled()
    deliverer._look_again(timedelta(0))
    assert first.cancelled()
    assert 0 < planned_in(deliverer) <= 1, "not at once"
