"""Named subscriptions over real stores: who consumes, what is waited for, what is tidied up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest
from bson import Int64, ObjectId

from jts_storage import DomainEvent, Storage
from jts_storage._runtime.processes import this_process
from jts_storage.errors import InUse, StorageError
from jts_storage.mongo import leases
from jts_storage.ports import Subscription
from jts_storage.testing.factories import make_formula
from jts_storage.unit_of_work import subscriptions
from jts_storage.unit_of_work.clock import CLOCK
from jts_storage.unit_of_work.deliveries import CONSUMERS, DELIVERIES
from jts_storage.unit_of_work.participants import Stores
from jts_storage.unit_of_work.staged import plain_event
from jts_storage.unit_of_work.subscription import PAGE
from tests.integration.unit_of_work.interrupted import abandon

LONG = 60.0
SHORT = 0.2
DEAD = f"somebody@{this_process().rsplit('/', 1)[0]}/0"
FAR_AWAY = "somebody@another-host~1/7/1"


@dataclass(frozen=True, kw_only=True)
class Noted(DomainEvent):
    number: int


@pytest.fixture(autouse=True)
def without_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_SECONDS_BETWEEN_RECOVERIES", "_SECONDS_BETWEEN_BEGINNINGS"):
        monkeypatch.setattr(subscriptions, name, 0.01)


def stores(storage: Storage) -> Stores:
    found: Stores = storage._backend.stores  # type: ignore[attr-defined]
    return found


async def tell(storage: Storage, *numbers: int) -> None:
    async with storage.unit_of_work() as uow:
        for number in numbers:
            uow.events.add(Noted(number=number))
        await uow.commit()


async def numbers(events: Any, count: int) -> list[int]:
    return [(await events.next(within=LONG)).number for _ in range(count)]


async def subscribed(storage: Storage, name: str = "one") -> None:
    async with storage.subscribe(name, Noted):
        pass


async def hold(storage: Storage, owner: str, seconds: float, name: str = "durable one") -> None:
    """Let another process have the lease of a consumer."""
    until = leases.from_now(timedelta(seconds=seconds))
    change = [{"$set": {"owner": owner, "until": until}}]
    await storage.mongo.db[CONSUMERS].update_one({"_id": name}, change, upsert=True)


async def list_ephemeral(storage: Storage, name: str, owner: str) -> ObjectId:
    """Let another process have an ephemeral subscription."""
    identity = ObjectId()
    listed = {"id": identity, "name": name, "types": [], "isDurable": False, "isComplete": True}
    await storage.mongo.db[CLOCK].update_one({}, {"$push": {"subscriptions": listed}})
    await hold(storage, owner, 60, f"ephemeral {identity}")
    return identity


async def stored_for(storage: Storage) -> list[ObjectId]:
    found: list[ObjectId] = await storage.mongo.db[DELIVERIES].distinct("_id.waits")
    return found


class TestConsumers:
    async def test_who_holds_it_is_told_with_the_end_of_its_lease(self, storage: Storage) -> None:
        await hold(storage, FAR_AWAY, 60)
        held = await storage.mongo.db[CONSUMERS].find_one({})
        assert held is not None
        until = held["until"].isoformat(sep=" ", timespec="seconds")
        with pytest.raises(InUse) as failure:
            await subscribed(storage)
        assert f"is read by process 7 on another-host, whose lease lasts until {until}" in str(
            failure.value
        )

    @pytest.mark.parametrize(
        ("owner", "seconds"), [(DEAD, 60), (FAR_AWAY, -1)], ids=["dead", "run out"]
    )
    async def test_one_of_a_dead_consumer_is_free(
        self, storage: Storage, owner: str, seconds: float
    ) -> None:
        await subscribed(storage)
        await tell(storage, 1)
        await hold(storage, owner, seconds)
        async with storage.subscribe("one", Noted) as events:
            assert await numbers(events, 1) == [1]

    async def test_who_was_paused_for_too_long_is_told(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        short = timedelta(seconds=0.4)
        monkeypatch.setattr(leases, "DURATION", short)
        monkeypatch.setattr(subscriptions, "DURATION", short)
        async with storage.subscribe("one", Noted) as events:
            await hold(storage, FAR_AWAY, 60)
            with pytest.raises(InUse, match="ran out while this process was paused"):
                await events.next(within=LONG)

    async def test_an_ephemeral_one_of_a_dead_process_is_forgotten(self, storage: Storage) -> None:
        dead = await list_ephemeral(storage, "dead", DEAD)
        alive = await list_ephemeral(storage, "alive", FAR_AWAY)
        await tell(storage, 1)
        assert await stored_for(storage) == [dead, alive]
        await storage.recover()
        assert await stored_for(storage) == [alive]
        assert [each.name for each in await storage.subscriptions()] == ["alive"]

    async def test_what_a_commit_stores_late_is_forgotten(self, storage: Storage) -> None:
        await subscribed(storage)
        await tell(storage, 1)
        found = await storage.mongo.db[DELIVERIES].find_one({})
        assert found is not None
        late = found | {"_id": found["_id"] | {"waits": ObjectId()}}
        parked = found | {"_id": {"parked": ObjectId(), "v": 1, "n": 0}}
        await storage.mongo.db[DELIVERIES].insert_many([late, parked])
        await storage.recover()
        assert await storage.mongo.db[DELIVERIES].find().to_list() == [found]

    async def test_a_copy_that_was_interrupted_is_finished(self, storage: Storage) -> None:
        await tell(storage, 1, 2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stores(storage).deliveries, "copy", _fail, raising=False)
            with pytest.raises(StorageError, match="is away"):
                await subscribed_from_stored(storage)
        await tell(storage, 3)
        async with storage.subscribe("one", Noted) as events:
            assert await numbers(events, 3) == [1, 2, 3]

    async def test_many_types_are_left_out_by_the_consumer(self, storage: Storage) -> None:
        types = [f"a_long_name_of_a_type_{number}" for number in range(100)]
        async with storage.subscribe("one", *types, "noted") as events:
            listed = await stores(storage).clock.subscriptions.all()
            assert listed[0].types == frozenset()
            await tell(storage, 1)
            assert await numbers(events, 1) == [1]
        async with storage.subscribe("two", *types) as events:
            await tell(storage, 2)
            assert await events.next(within=SHORT) is None
            await events.acknowledge()
            states = {each.name: each.waiting for each in await storage.subscriptions()}
            assert states["two"] == 0


async def _fail(*_: object) -> None:
    raise StorageError("MongoDB is away.")


async def subscribed_from_stored(storage: Storage) -> None:
    async with storage.subscribe("one", Noted, from_="stored"):
        pytest.fail("entered")


class TestOrder:
    async def test_a_commit_under_way_holds_up_those_behind_it(self, storage: Storage) -> None:
        async with storage.subscribe("one", Noted) as events:
            async with stores(storage).clock.place(event_keys=["another key"]):
                await tell(storage, 1)
                assert await events.next(within=SHORT) is None
            assert await numbers(events, 1) == [1]

    async def test_a_commit_without_events_holds_up_nobody(self, storage: Storage) -> None:
        async with (
            storage.subscribe("one", Noted) as events,
            stores(storage).clock.place(series=["one"]),
        ):
            await tell(storage, 1)
            assert await numbers(events, 1) == [1]

    async def test_an_unfinished_commit_is_finished_before_its_event_comes(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with storage.subscribe("one", Noted) as events:
            async with storage.unit_of_work() as uow:
                await uow.ingestion.checkpoints.save("one", {"number": 1})
                uow.events.add(Noted(number=1))
                await abandon(storage, monkeypatch, uow)
            await tell(storage, 2)
            assert await numbers(events, 1) == [1]
            assert await storage.ingestion.checkpoints.get("one") is not None
            assert await numbers(events, 1) == [2]

    async def test_what_comes_late_is_told_and_not_lost(self, storage: Storage) -> None:
        """As of a server that hung with the commit of a process that has died."""
        async with storage.subscribe("one", Noted) as events:
            await tell(storage, 2)
            assert await numbers(events, 1) == [2]
            listed = (await stores(storage).clock.subscriptions.all())[0]
            await insert(storage, listed.id, [Noted(number=1)])
            await events.acknowledge()
            assert await numbers(events, 1) == [1]

    async def test_a_commit_without_events_does_not_ask_for_subscriptions(
        self, storage: Storage
    ) -> None:
        await subscribed(storage)
        clock = stores(storage).clock
        async with clock.place() as without, clock.place(event_keys=["one"]) as with_events:
            assert without.subscriptions == []
            assert [each.name for each in with_events.subscriptions] == ["one"]
        async with storage.unit_of_work() as uow:
            await uow.formulas.save(make_formula())
            await uow.commit()
        assert await stored_for(storage) == []


class TestParked:
    async def test_an_event_of_an_unknown_class_is_parked_and_tried_again(
        self, storage: Storage
    ) -> None:
        deliveries = storage.mongo.db[DELIVERIES]
        async with storage.subscribe("one", Noted) as events:
            await tell(storage, 1, 2)
            name = f"{__name__}.Noted"
            first = await deliveries.find_one({"_id.n": 0})
            assert first is not None
            await deliveries.update_one({"_id.n": 0}, {"$set": {"class": "gone.Noted"}})
            assert await numbers(events, 1) == [2]
            found = await stores(storage).deliveries.parked(
                stores(storage).clock.subscriptions, limit=10
            )
            assert [(each.id, each.subscription) for each in found] == [(first["event"], "one")]
            await deliveries.update_many({}, {"$set": {"class": name}})
            assert await stores(storage).deliveries.retry("another") == 0
            assert await stores(storage).deliveries.retry(first["event"]) == 1
            assert await numbers(events, 1) == [1]
        assert (await storage.health()).parked_for_subscriptions == 0

    async def test_plain_events_are_never_parked(self, storage: Storage) -> None:
        async with storage.subscribe("one", Noted) as events:
            await tell(storage, 1)
            await storage.mongo.db[DELIVERIES].update_many({}, {"$set": {"class": "gone.Noted"}})
            plain = await anext(events.plain())
            assert (plain.class_name, plain.data["number"]) == ("gone.Noted", 1)

    async def test_parked_events_go_with_their_subscription(self, storage: Storage) -> None:
        await subscribed(storage)
        await tell(storage, 1)
        await storage.mongo.db[DELIVERIES].update_many({}, {"$set": {"class": "gone.Noted"}})
        async with storage.subscribe("one", Noted) as events:
            assert await events.next(within=SHORT) is None
        assert await storage.unsubscribe("one")
        assert await storage.mongo.db[DELIVERIES].count_documents({}) == 0


async def insert(
    storage: Storage, subscription: ObjectId, events: Sequence[Noted], first: int = 1
) -> None:
    """Store events for a subscription as commits of these versions would have."""
    plain = [plain_event(event, 0) for event in events]
    await storage.mongo.db[DELIVERIES].insert_many(
        [
            {
                "_id": {"waits": subscription, "v": Int64(first + number), "n": 0},
                "event": each.id,
                "type": each.event_type,
                "class": each.class_name,
                "key": each.key,
                "data": each.data,
            }
            for number, each in enumerate(plain)
        ],
        ordered=False,
    )


@asynccontextmanager
async def backlog(storage: Storage, count: int) -> AsyncIterator[Subscription[Noted]]:
    await subscribed(storage)
    listed = (await stores(storage).clock.subscriptions.all())[0]
    for begin in range(0, count, 10_000):
        end = min(begin + 10_000, count)
        events = [Noted(number=number) for number in range(begin, end)]
        await insert(storage, listed.id, events, begin + 1)
    async with storage.subscribe("one", Noted) as subscription:
        yield subscription


async def read(events: Subscription[Noted], first: int, count: int) -> None:
    """Read so many events, in order, and see that only a page of them is held."""
    for number in range(first, first + count):
        event = await anext(events)
        assert isinstance(event, Noted)
        assert event.number == number
        assert len(events._page) < PAGE  # type: ignore[attr-defined]
        assert len(events._acknowledged) <= PAGE  # type: ignore[attr-defined]


async def test_of_a_long_backlog_one_page_is_held(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    async with backlog(storage, 20 * PAGE) as events:
        await read(events, 0, 20 * PAGE)
        assert await events.next(within=SHORT) is None
        assert await stored_for(storage) == []


@pytest.mark.slow
@pytest.mark.timeout(1_200)
async def test_a_backlog_of_a_million_takes_no_more_room(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    async with backlog(storage, 1_000_000) as events:
        await read(events, 0, 100_000)
        before = getrusage(RUSAGE_SELF).ru_maxrss
        await read(events, 100_000, 900_000)
        assert getrusage(RUSAGE_SELF).ru_maxrss - before < 50_000, "KiB"
        await events.acknowledge()
        assert await stored_for(storage) == []


async def test_consumers_of_other_storages_hear_by_looking(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As other processes do: nobody wakes them."""
    monkeypatch.setattr(stores(storage).subscribers, "wake", lambda **_: None)
    async with storage.subscribe("one", Noted) as events:
        waiting = asyncio.create_task(numbers(events, 2))
        for number in (1, 2):
            await asyncio.sleep(SHORT)
            await tell(storage, number)
        assert await waiting == [1, 2]
