"""Events in the order of commits, and a backlog that holds nobody up."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from jts_storage import DomainEvent, Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.domain import checks
from jts_storage.testing.factories import make_formula
from jts_storage.unit_of_work.outbox import EVENTS
from tests.waiting import until


@dataclass(frozen=True, kw_only=True)
class Numbered(DomainEvent):
    number: int
    about: str = "one"

    @property
    def key(self) -> str:
        return self.about


async def test_events_come_in_the_order_of_commits_whatever_clocks_say(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, hours in enumerate((9, 0, -9)):
        moment = time.time_ns() + hours * 3_600 * 10**9
        with monkeypatch.context() as patch:
            patch.setattr(time, "time_ns", lambda moment=moment: moment)
            patch.setattr(checks, "now", lambda moment=moment: checks.from_ms(moment // 10**6))
            async with storage.unit_of_work() as uow:
                uow.events.add(Numbered(number=number))
                await uow.commit()
    versions = [event["version"] async for event in storage.mongo.db[EVENTS].find().sort("_id")]
    assert len(set(versions)) == 3
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))
    await storage.recover()
    await until(lambda: len(heard) >= 3)  # a look in the background may have the key
    assert heard == [0, 1, 2]


async def test_an_event_waits_for_those_of_earlier_commits_under_way(storage: Storage) -> None:
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))
    clock = storage._backend.stores.clock  # type: ignore[attr-defined]

    async def tell(number: int, about: str) -> None:
        async with storage.unit_of_work() as uow:
            uow.events.add(Numbered(number=number, about=about))
            await uow.commit()

    async with clock.place(event_keys={"one"}):
        await tell(1, "one")
        await tell(2, "other")
        assert heard == [2]
    await storage.recover()
    await until(lambda: len(heard) >= 2)
    assert heard == [2, 1]


async def test_a_backlog_of_many_keys_keeps_nobody_from_opening(
    storage: Storage, settings: StorageSettings
) -> None:
    events = storage.mongo.db[EVENTS]
    name = "k" * 1_000
    async with storage.unit_of_work() as uow:
        uow.events.add(Numbered(number=0))
        await uow.commit()
    stored = await events.find_one()
    assert stored is not None
    many = 18_000  # a list of these keys is larger than a document may be
    for start in range(0, many, 3_000):
        await events.insert_many(
            [stored | {"_id": f"e{n}", "key": f"{n:06}{name}"} for n in range(start, start + 3_000)]
        )
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))
    outbox = storage._backend.stores.outbox  # type: ignore[attr-defined]
    keys = [key async for key in outbox.due_keys(["numbered"])]
    assert len(keys) == len(set(keys)) == many + 1
    await events.delete_many({"_id": {"$gt": "e100"}})
    await storage.recover()
    assert len(heard) > 1


async def test_opening_does_not_wait_for_handlers_which_may_use_the_storage(
    storage: Storage, settings: StorageSettings
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula("read by a handler"))
        for number in range(3):
            uow.events.add(Numbered(number=number))
        await uow.commit()
    other = Storage(StoreBackend(settings))
    told: asyncio.Queue[str] = asyncio.Queue()
    calls: list[int] = []

    async def read(event: Numbered) -> None:
        calls.append(event.number)
        [formula] = await other.formulas.list()
        await told.put(f"{event.number} {formula.name}")

    other.events.register_handler(Numbered, read)
    async with other:
        assert told.empty()
        async with asyncio.timeout(20):
            heard = [await told.get() for _ in range(3)]
    assert heard == [f"{number} read by a handler" for number in range(3)]
    assert calls == [0, 1, 2], "none had to be repeated"


async def test_an_event_class_that_raises_holds_up_nobody(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(number: int, about: str) -> None:
        async with storage.unit_of_work() as uow:
            uow.events.add(Numbered(number=number, about=about))
            await uow.commit()

    await tell(1, "one")
    heard: list[int] = []
    storage.events.register_handler(Numbered, lambda event: heard.append(event.number))

    def refuse(self: Numbered) -> None:
        if self.number == 1:
            raise RuntimeError("of a later release")

    monkeypatch.setattr(Numbered, "__post_init__", refuse)
    await tell(2, "other")
    await tell(3, "one")
    await storage.recover()
    assert 2 in heard
