"""The contract of named subscriptions: each gets every event, at least once, in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.domain.events import DomainEvent
from jts_storage.domain.moments import Commit
from jts_storage.domain.subscriptions import MOST, SubscriptionState
from jts_storage.errors import InUse, InvalidData, StorageError
from jts_storage.ports.events import ALL_EVENTS, Subscription
from jts_storage.storage import Storage
from jts_storage.testing.contracts.samples import MANY_SUBCLASSES, examples, fresh

_LONG = 60.0
"""Seconds in which an event comes in any case."""

_SHORT = 0.05

refused: set[int] = set()
"""Numbers that `Told` refuses, as the next release of a class may."""


@dataclass(frozen=True, kw_only=True)
class Told(DomainEvent):
    number: int
    about: str = "one"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.number in refused:
            raise ValueError(f"{self.number} is refused")

    @property
    def key(self) -> str:
        return self.about


@dataclass(frozen=True, kw_only=True)
class Also(Told):
    """Another type, of the same keys."""


def _name() -> str:
    return f"subscriber {next(fresh)}"


async def _tell(storage: Storage, *numbers: int, kind: type[Told] = Told) -> Commit | None:
    async with storage.unit_of_work() as uow:
        for number in numbers:
            uow.events.add(kind(number=number))
        return (await uow.commit()).commit


async def _next(events: Subscription[Any], count: int) -> list[int]:
    """The numbers of the next events."""
    found = [await events.next(within=_LONG) for _ in range(count)]
    return [event.number for event in found if isinstance(event, Told)]


async def _nothing_comes(events: Subscription[Any]) -> bool:
    return await events.next(within=_SHORT) is None


async def _state(storage: Storage, name: str) -> SubscriptionState | None:
    return next((each for each in await storage.subscriptions() if each.name == name), None)


async def _waiting(storage: Storage, name: str) -> int | None:
    state = await _state(storage, name)
    return None if state is None else state.waiting


class SubscriptionContract:
    """Give it a fixture `storage`, open, without other writers and without handlers."""

    async def test_each_gets_every_event_in_the_order_of_the_commits(
        self, storage: Storage
    ) -> None:
        async with (
            storage.subscribe(_name(), Told) as one,
            storage.subscribe(_name(), Told, durable=False) as two,
        ):
            await _tell(storage, 1, 2)
            await _tell(storage, 3)
            assert await _next(one, 3) == await _next(two, 3) == [1, 2, 3]
            assert await _nothing_comes(one)
            assert await _nothing_comes(two)

    @pytest.mark.parametrize(
        ("types", "numbers"),
        [
            ([], [1, 2]),
            ([ALL_EVENTS], [1, 2]),
            ([Told], [1]),
            (["also"], [2]),
            ([Told, "also", "never_told"], [1, 2]),
        ],
    )
    async def test_only_events_of_its_types_come(
        self, storage: Storage, types: Sequence[Any], numbers: list[int]
    ) -> None:
        name = _name()
        async with storage.subscribe(name, *types) as events:
            await _tell(storage, 1)
            await _tell(storage, 2, kind=Also)
            assert await _waiting(storage, name) == len(numbers)
            assert await _next(events, len(numbers)) == numbers

    async def test_iterating_acknowledges_the_event_before(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told) as events:
            await _tell(storage, 1, 2, 3)
            seen = []
            async for event in events:
                seen.append(event)
                if len(seen) == 3:
                    break
        assert [event.number for event in seen] == [1, 2, 3]
        assert await _waiting(storage, name) == 1
        async with storage.subscribe(name, Told) as events:
            assert await anext(events) == seen[-1]

    async def test_a_durable_one_goes_on_where_it_was(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told) as events:
            await _tell(storage, 1, 2, 3)
            assert await _next(events, 2) == [1, 2]
            await events.acknowledge()
            assert await _waiting(storage, name) == 1
        await _tell(storage, 4)
        async with storage.subscribe(name, Told, from_="stored") as events:
            await _tell(storage, 5)
            assert await _next(events, 3) == [3, 4, 5]

    async def test_one_that_is_not_durable_ends_with_its_block(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told, durable=False) as events:
            await _tell(storage, 1)
            state = await _state(storage, name)
            assert state is not None
            assert not state.is_durable
            assert await _next(events, 1) == [1]
        assert await _state(storage, name) is None
        await _tell(storage, 2)
        async with storage.subscribe(name, Told, durable=False) as events:
            assert await _nothing_comes(events)

    async def test_several_that_are_not_durable_may_have_one_name(self, storage: Storage) -> None:
        name = _name()
        async with (
            storage.subscribe(name, Told, durable=False) as one,
            storage.subscribe(name, Told, durable=False) as two,
        ):
            await _tell(storage, 1)
            assert await _next(one, 1) == await _next(two, 1) == [1]

    async def test_it_begins_now_or_with_what_is_stored(self, storage: Storage) -> None:
        await _tell(storage, 1, 2)
        async with (
            storage.subscribe(_name(), Told) as later,
            storage.subscribe(_name(), Told, from_="stored") as all_of_them,
            storage.subscribe(_name(), Also, from_="stored") as others,
        ):
            await _tell(storage, 3)
            assert await _next(later, 1) == [3]
            assert await _next(all_of_them, 3) == [1, 2, 3]
            assert await _nothing_comes(others)

    async def test_what_handlers_had_is_not_stored(self, storage: Storage) -> None:
        heard: list[DomainEvent] = []
        storage.events.register_handler(Told, heard.append)
        await _tell(storage, 1)
        storage.events.unregister_handler(Told, heard.append)
        assert len(heard) == 1
        async with storage.subscribe(_name(), Told, from_="stored") as events:
            assert await _nothing_comes(events)

    async def test_handlers_hear_the_same_events_all_the_same(self, storage: Storage) -> None:
        heard: list[DomainEvent] = []
        async with storage.subscribe(_name(), Told) as events:
            storage.events.register_handler(Told, heard.append)
            await _tell(storage, 1)
            storage.events.unregister_handler(Told, heard.append)
            assert heard == [await anext(events)]

    async def test_a_durable_one_has_one_consumer(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told):
            with pytest.raises(InUse, match=f"'{name}' is read"):
                async with storage.subscribe(name, Told):
                    pytest.fail("two consumers")  # pragma: no cover
            with pytest.raises(InUse, match=f"'{name}' is read"):
                await storage.unsubscribe(name)
        async with storage.subscribe(name, Told) as events:
            await _tell(storage, 1)
            assert await _next(events, 1) == [1]

    async def test_one_that_is_forgotten_begins_anew(self, storage: Storage) -> None:
        name = _name()
        assert not await storage.unsubscribe(name)
        async with storage.subscribe(name, Told):
            await _tell(storage, 1)
        assert await storage.unsubscribe(name)
        assert await _state(storage, name) is None
        await _tell(storage, 2)
        async with storage.subscribe(name, Told) as events:
            await _tell(storage, 3)
            assert await _next(events, 1) == [3]

    async def test_they_are_listed_with_what_waits(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told, "also"):
            assert await _state(storage, name) == SubscriptionState(
                name, ("also", "told"), True, 0, 0, None
            )
            await _tell(storage, 1, 2)
        state = await _state(storage, name)
        assert state is not None
        assert state.oldest is not None
        assert timedelta(0) <= state.oldest < timedelta(minutes=5)
        assert (state.waiting, state.parked) == (2, 0)
        names = [each.name for each in await storage.subscriptions()]
        assert names == sorted(names)
        assert (await storage.health()).waiting_for_subscriptions >= 2

    async def test_plain_events_need_no_class(self, storage: Storage) -> None:
        async with storage.subscribe(_name(), Told) as events:
            event = Told(number=7, about="seven")
            async with storage.unit_of_work() as uow:
                uow.events.add(event)
                result = await uow.commit()
            plain = await anext(events.plain())
            assert (plain.id, plain.event_type, plain.key) == (event.id, "told", "seven")
            assert plain.class_name == f"{__name__}.Told"
            assert plain.data["number"] == 7
            assert result.commit == Commit(plain.version)
            await _tell(storage, 8)
            assert [each async for each in _first(events.plain(), 1)] == [8]

    async def test_many_may_be_taken_at_once(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told) as events:
            await _tell(storage, *range(5))
            await _tell(storage, 5, kind=Also)
            await _tell(storage, 6)
            first = await events.batch(4)
            assert [event.data["number"] for event in first] == [0, 1, 2, 3]
            assert await _waiting(storage, name) == 6
            rest = [event.data["number"] for event in await events.batch(100)]
            while rest[-1] != 6:
                rest += [event.data["number"] for event in await events.batch(100)]
            assert rest == [4, 6]
            with pytest.raises(InvalidData, match="'most'"):
                await events.batch(0)
        async with storage.subscribe(name, Told) as events:
            assert [event.data["number"] for event in await events.batch(100)][-1] == 6

    async def test_what_its_class_refuses_is_parked(
        self, storage: Storage, caplog: pytest.LogCaptureFixture
    ) -> None:
        name = _name()
        before = (await storage.health()).parked_for_subscriptions
        async with storage.subscribe(name, Told) as events:
            await _tell(storage, 1, 13, 3)
            refused.add(13)
            try:
                with caplog.at_level(logging.WARNING):
                    assert await _next(events, 2) == [1, 3]
            finally:
                refused.discard(13)
            assert "13 is refused" in caplog.text
            state = await _state(storage, name)
            assert state is not None
            assert state.parked == 1
            await events.acknowledge()
            assert await _waiting(storage, name) == 0
        assert (await storage.health()).parked_for_subscriptions == before + 1

    async def test_what_is_rolled_back_is_not_told(self, storage: Storage) -> None:
        async with storage.subscribe(_name(), Told) as events:
            async with storage.unit_of_work() as uow:
                uow.events.add(Told(number=1))
                await uow.rollback()
            await _tell(storage, 2)
            assert await _next(events, 1) == [2]

    async def test_who_waits_is_woken(self, storage: Storage) -> None:
        async with storage.subscribe(_name(), Told) as events:
            waiting = asyncio.create_task(_next(events, 2))
            await asyncio.sleep(_SHORT)
            await _tell(storage, 1)
            await asyncio.sleep(_SHORT)
            await _tell(storage, 2)
            assert await waiting == [1, 2]

    async def test_who_gave_up_waiting_misses_nothing(self, storage: Storage) -> None:
        async with storage.subscribe(_name(), Told) as events:
            for number in range(5):
                assert await events.next(within=_SHORT * number / 4) is None
            await _tell(storage, *range(20))
            found: list[int] = []
            while len(found) < 20:
                event = await events.next(within=0.0001)
                found += [event.number] if isinstance(event, Told) else []
            assert found == [*range(20)]

    async def test_a_backlog_of_several_pages_comes_in_order(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told):
            for begin in range(0, 2_500, 500):
                await _tell(storage, *range(begin, begin + 500))
        async with storage.subscribe(name, Told) as events:
            assert await _next(events, 2_500) == [*range(2_500)]
            await events.acknowledge()
            assert await _waiting(storage, name) == 0

    async def test_it_may_hear_other_types_from_then_on(self, storage: Storage) -> None:
        name = _name()
        async with storage.subscribe(name, Told):
            await _tell(storage, 1)
        async with storage.subscribe(name, Also) as events:
            await _tell(storage, 2)
            await _tell(storage, 3, kind=Also)
            assert await _next(events, 1) == [3]
            await events.acknowledge()
            assert await _waiting(storage, name) == 0

    async def test_what_is_no_name_is_refused(self, storage: Storage) -> None:
        names: list[Any] = ["", " x", "x\n", "x" * 300, None, 7, "handlers"]
        for name in names:
            with pytest.raises(InvalidData, match="'name'"):
                storage.subscribe(name, Told)
            with pytest.raises(InvalidData, match="'name'"):
                await storage.unsubscribe(name)

    async def test_what_is_no_type_is_refused(self, storage: Storage) -> None:
        types: list[Any] = [int, 7, None, "", Told(number=1)]
        for wrong in types:
            with pytest.raises(InvalidData, match="'types'"):
                storage.subscribe(_name(), wrong)

    async def test_what_is_no_beginning_is_refused(self, storage: Storage) -> None:
        with pytest.raises(InvalidData, match="'from_'"):
            storage.subscribe(_name(), Told, from_="yesterday")  # type: ignore[call-overload]

    async def test_it_is_used_once_and_within_its_block(self, storage: Storage) -> None:
        subscription = storage.subscribe(_name(), Told)
        with pytest.raises(StorageError, match="has not been entered"):
            await subscription.next(within=_SHORT)
        async with subscription as events:
            assert await _nothing_comes(events)
        with pytest.raises(StorageError, match="is over"):
            await subscription.acknowledge()
        with pytest.raises(StorageError, match="entered only once"):
            async with subscription:
                pass  # pragma: no cover

    async def test_two_tasks_cannot_read_one(self, storage: Storage) -> None:
        async with storage.subscribe(_name(), Told) as events:
            waiting = asyncio.create_task(_next(events, 1))
            await asyncio.sleep(_SHORT)
            with pytest.raises(StorageError, match="Two tasks"):
                await events.next(within=_SHORT)
            await _tell(storage, 1)
            assert await waiting == [1]

    async def test_there_are_not_too_many(self, storage: Storage) -> None:
        there = len(await storage.subscriptions())
        names = [_name() for _ in range(MOST - there)]
        for name in names:
            async with storage.subscribe(name, "never_told"):
                pass
        with pytest.raises(StorageError, match=f"{MOST} subscriptions already"):
            async with storage.subscribe(_name(), Told):
                pass  # pragma: no cover
        for name in names:
            assert await storage.unsubscribe(name)

    async def test_who_waits_hears_of_the_end_of_the_storage(self, storage: Storage) -> None:
        events = await storage.subscribe(_name(), Told).__aenter__()
        waiting = asyncio.create_task(events.next(within=_LONG))
        await asyncio.sleep(_SHORT)
        await storage.close()
        with pytest.raises(StorageError, match="closed"):
            await waiting
        with suppress(StorageError):
            await events.__aexit__(None, None, None)

    @given(
        steps=st.lists(
            st.one_of(
                st.tuples(st.just("tell"), st.integers(0, 3)),
                st.tuples(st.just("take"), st.integers(1, 3)),
                st.sampled_from([("acknowledge", 0), ("leave", 0), ("forget", 0)]),
            ),
            max_size=12,
        )
    )
    @settings(max_examples=examples(10), deadline=None, suppress_health_check=MANY_SUBCLASSES)
    async def test_it_tells_what_a_list_would(
        self, storage: Storage, steps: list[tuple[str, int]]
    ) -> None:
        """A list of what is told, with a mark for what is acknowledged, does the same."""
        name, told, had = _name(), list[int](), 0
        events = await storage.subscribe(name, Told).__aenter__()
        for step, number in steps:
            if step == "tell":
                numbers = [next(fresh) for _ in range(number)]
                await _tell(storage, *numbers)
                told += numbers
            elif step == "take":
                count = min(number, len(told) - had)
                assert await _next(events, count) == told[had : had + count]
                had += count
            elif step == "acknowledge":
                await events.acknowledge()
                told, had = told[had:], 0
                assert await _waiting(storage, name) == len(told)
            else:
                await events.__aexit__(None, None, None)
                told, had = told[max(0, had - 1) :], 0
                assert await _waiting(storage, name) == len(told)
                if step == "forget":
                    assert await storage.unsubscribe(name)
                    told = []
                events = await storage.subscribe(name, Told).__aenter__()
        await events.__aexit__(None, None, None)
        assert await storage.unsubscribe(name)


async def _first(plain: Any, count: int) -> Any:
    for _ in range(count):
        yield (await anext(plain)).data["number"]
