"""Waiting for slots: in turn, without losing any to cancellations or to a store that is away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jts_storage import Storage
from jts_storage.domain.rate_books import Granted, Refused, SlotRequest
from jts_storage.domain.rate_limits import (
    LimitKey,
    PerDay,
    PerMinute,
    PerSecond,
    RateLimits,
)
from jts_storage.errors import ConnectionFailed, RateLimited, StorageError
from jts_storage.memory.rate_limits import InMemoryRateLimits
from jts_storage.testing.contracts.rate_limits import SetClock
from jts_storage.usecases.rate_limits import SharedRateLimiter

KEY = LimitKey("kis")
ONE = RateLimits(kis=[PerSecond(1)])
TWO = RateLimits(kis=[PerMinute(2), PerDay(1_000)])


class SlowStore(InMemoryRateLimits):
    """A store whose answers wait until they are let through, or do not come at all."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.is_away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def take(self, slot: SlotRequest, *, patience: float | None = None) -> Any:
        self.asked += 1
        self._answer()
        found = await super().take(slot)
        await self.answers.wait()
        return found

    async def leave(self, *given: Any) -> None:
        self._answer()
        await self.answers.wait()
        await super().leave(*given)

    async def forget(self, *given: Any) -> None:
        await asyncio.sleep(0)
        await super().forget(*given)

    def _answer(self) -> None:
        if self.is_away:
            raise ConnectionFailed("away")


async def test_those_who_wait_are_served_in_turn() -> None:
    limiter = SharedRateLimiter(RateLimits(kis=[PerSecond(3)]), InMemoryRateLimits())
    served: list[int] = []

    async def ask(number: int) -> None:
        async with limiter.acquire("kis", timeout=None):
            served.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(ask(number))
            await asyncio.sleep(0)
    assert served == list(range(8))


async def test_who_does_not_wait_is_refused_between_the_turns_of_others() -> None:
    limiter = SharedRateLimiter(RateLimits(kis=[PerMinute(1)]), InMemoryRateLimits())

    async def wait() -> None:
        async with limiter.acquire("kis", timeout=None):
            raise AssertionError

    async def ask() -> None:
        async with limiter.acquire("kis"):  # its turn is over, and no other has begun
            with pytest.raises(RateLimited, match="others wait before it"):
                async with asyncio.timeout(20), limiter.acquire("kis", timeout=0):
                    pass

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    waiting = [asyncio.create_task(wait()) for _ in range(2)]
    await asking
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_health_tells_of_the_accounts_that_were_asked_for_last() -> None:
    limiter = SharedRateLimiter(RateLimits(kis=[PerSecond(9)]), InMemoryRateLimits())
    for number in [*range(120), 100, 3]:
        async with limiter.acquire("kis", f"account{number}"):
            pass
    told = await limiter.told()
    assert told is not None
    assert len(told) == 50
    assert [each.account for each in told[-3:]] == ["account119", "account100", "account3"]
    assert len(limiter._queues) <= 100


async def test_only_the_first_of_a_process_asks_the_store() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(RateLimits(kis=[PerSecond(2)]), store)

    async def ask() -> None:
        async with limiter.acquire("kis", timeout=None):
            pass

    await asyncio.gather(*(ask() for _ in range(6)))
    assert store.asked <= 12


async def test_who_is_cancelled_while_the_store_answers_leaves_no_slot_taken() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(TWO, store)
    store.answers.clear()

    async def ask() -> None:
        async with limiter.acquire("kis"):
            raise AssertionError

    task = asyncio.create_task(ask())
    while not store.asked:  # noqa: ASYNC110
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    store.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    state = await limiter.state("kis")
    assert (state.in_flight, state.waiting, [each.used for each in state.limits]) == (0, 0, [0, 0])


async def test_who_is_cancelled_in_the_block_gives_the_slot_back() -> None:
    limiter = SharedRateLimiter(TWO, InMemoryRateLimits())
    entered = asyncio.Event()

    async def hold() -> None:
        async with limiter.acquire("kis"):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await limiter.state("kis")).in_flight == 0


async def test_who_is_cancelled_again_while_leaving_gives_the_slot_back() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(TWO, store)
    entered = asyncio.Event()

    async def hold() -> None:
        async with limiter.acquire("kis"):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(hold())
    await entered.wait()
    store.answers.clear()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    store.answers.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await limiter.state("kis")).in_flight == 0


async def test_cancelling_at_any_moment_loses_nothing() -> None:
    """Each step of the event loop is one at which a caller is cancelled."""
    for steps in range(40):
        limiter = SharedRateLimiter(TWO, SlowStore())
        holder = limiter.acquire("kis")
        await holder.__aenter__()

        async def ask(limiter: SharedRateLimiter = limiter) -> None:
            async with limiter.acquire("kis", timeout=None):
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(ask()) for _ in range(3)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await holder.__aexit__(None, None, None)
        state = await limiter.state("kis")
        assert (state.in_flight, state.waiting) == (0, 0)
        assert state.limits[0].used <= 2
        assert state.limits[1].used == state.limits[0].used


async def test_who_waits_in_the_queue_for_too_long_is_told() -> None:
    limiter = SharedRateLimiter(ONE, InMemoryRateLimits())
    async with limiter.acquire("kis"):

        async def first() -> None:
            async with limiter.acquire("kis", timeout=5):
                pass

        waiting = asyncio.create_task(first())
        await asyncio.sleep(0.01)
        assert (await limiter.state("kis")).waiting == 1
        with pytest.raises(RateLimited, match="1 others wait before it"):
            async with limiter.acquire("kis", timeout=0.05):
                raise AssertionError
    await waiting


async def test_without_an_answer_nothing_is_given() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(ONE, store)
    store.is_away = True
    with pytest.raises(ConnectionFailed):
        async with limiter.acquire("kis", timeout=0.3):
            raise AssertionError
    assert store.asked >= 2


async def test_who_waits_is_served_once_the_store_is_back() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(ONE, store)
    store.is_away = True

    async def come_back() -> None:
        await asyncio.sleep(0.15)
        store.is_away = False

    back = asyncio.create_task(come_back())
    async with limiter.acquire("kis", timeout=30) as slot:
        assert slot.waited > 0.1
    await back


async def test_a_slot_left_while_the_store_is_away_is_given_back_later() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(ONE, store)
    async with limiter.acquire("kis", longest=80_000):
        store.is_away = True
    assert (await limiter.state("kis")).in_flight == 1
    store.is_away = False
    while (await limiter.state("kis")).in_flight:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await limiter.close()


async def test_all_slots_left_while_the_store_is_away_are_given_back_later() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(TWO, store)
    first, second = (limiter.acquire("kis", longest=80_000) for _ in range(2))
    await first.__aenter__()
    await second.__aenter__()
    store.is_away = True
    await first.__aexit__(None, None, None)
    await second.__aexit__(None, None, None)
    store.is_away = False
    async with asyncio.timeout(20):
        while (await limiter.state("kis")).in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await limiter.close()


async def test_a_slot_whose_lease_is_over_is_given_back_no_more() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(TWO, store)
    async with limiter.acquire("kis", longest=0.01):
        store.is_away = True
    returning = limiter._returning
    assert returning is not None
    async with asyncio.timeout(20):
        await asyncio.shield(returning)
    assert not limiter._left


async def test_who_waits_keeps_its_place_however_many_accounts_are_asked_for() -> None:
    limiter = SharedRateLimiter(RateLimits(kis=[PerMinute(1)]), InMemoryRateLimits())

    async def wait() -> None:
        async with limiter.acquire("kis", "busy", timeout=None):
            raise AssertionError

    async with limiter.acquire("kis", "busy"):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        for number in range(120):
            async with limiter.acquire("kis", f"account{number}"):
                pass
        assert (await limiter.state("kis", "busy")).waiting == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_closing_does_not_wait_for_a_store_that_is_away() -> None:
    store = SlowStore()
    limiter = SharedRateLimiter(ONE, store)
    async with limiter.acquire("kis"):
        store.is_away = True
    await limiter.close()


async def test_errors_of_the_store_reach_the_caller() -> None:
    class Broken(InMemoryRateLimits):
        async def take(self, *_: Any, **__: Any) -> Any:
            raise StorageError("full")

    limiter = SharedRateLimiter(ONE, Broken())
    with pytest.raises(StorageError, match="full"):
        async with limiter.acquire("kis"):
            raise AssertionError
    assert (await limiter.state("kis")).waiting == 0


async def test_health_tells_what_counts() -> None:
    async with Storage.in_memory(rate_limits=ONE) as storage:
        assert "rate_limits" not in await storage.health()
        async with storage.rate_limits.acquire("kis", "main"):
            health = await storage.health()
        assert health["rate_limits"]
        assert [(each.name, each.account, each.in_flight) for each in health.rate_limits] == [
            ("kis", "main", 1)
        ]


async def test_health_tells_that_the_store_is_away() -> None:
    class Away(InMemoryRateLimits):
        async def state(self, *_: Any) -> Any:
            raise ConnectionFailed("away")

    limiter = SharedRateLimiter(ONE, Away())
    async with Storage(Storage.in_memory()._backend, limits=lambda _: limiter) as storage:
        async with storage.rate_limits.acquire("kis"):
            pass
        health = await storage.health()
        assert health["rate_limits"] is False
        assert not health.is_well


async def test_a_storage_that_is_not_open_has_no_limits() -> None:
    storage = Storage.in_memory(rate_limits=ONE)
    with pytest.raises(StorageError, match="not open"):
        _ = storage.rate_limits


async def test_a_storage_in_memory_without_limits_knows_no_name() -> None:
    async with Storage.in_memory() as storage:
        assert dict(storage.rate_limits.limits) == {}


async def test_a_wait_is_a_bound_and_no_promise() -> None:
    clock = SetClock()
    store = InMemoryRateLimits(clock)
    limits = ONE["kis"]
    assert isinstance(await store.take(SlotRequest(KEY, limits, "a", 1, 30)), Granted)
    clock.go_on(0.5)
    assert await store.take(SlotRequest(KEY, limits, "b", 1, 30)) == Refused(1_000_001)
    await store.forget(SlotRequest(KEY, limits, "a", 1, 1.0))
    assert isinstance(await store.take(SlotRequest(KEY, limits, "b", 1, 30)), Granted)


async def test_a_slot_whose_lease_ended_on_its_way_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a process that was stopped meanwhile: others may have got the slot since."""
    store = InMemoryRateLimits()
    limiter = SharedRateLimiter(TWO, store)
    take, now, late = store.take, 0.0, 1

    async def slow(*given: Any, **more: Any) -> Any:
        nonlocal now, late
        answer = await take(*given, **more)
        if late:
            late -= 1
            now += 31
        return answer

    monkeypatch.setattr(store, "take", slow)
    monkeypatch.setattr("jts_storage.usecases.rate_limits.monotonic", lambda: now)
    async with limiter.acquire("kis", timeout=60) as slot:
        assert slot.waited == 31
        assert (await limiter.state("kis")).in_flight == 1
    late = 100
    with pytest.raises(ConnectionFailed, match=r"later than their lease of 30 s.*longest="):
        async with limiter.acquire("kis", "another", timeout=None):
            raise AssertionError
