"""Who gets a connection of the pool, when, and that none is ever lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from jts_storage._runtime.pools import PoolStatus
from jts_storage.errors import ConnectionFailed, PoolTimeout, StorageError
from jts_storage.relational import pool as pool_module
from jts_storage.relational.pool import ConnectionPool

TURNS = 5
"""More turns of the event loop than anything here needs to settle."""


class Line:
    """A connection as the pool sees it. What is behind a real one is no matter of the pool's."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_open = True
        self.opened_at = self.idle_since = -1.0
        self.broken_off = 0
        self.abandoned = 0
        self.on_break_off: Callable[[], Awaitable[None]] | None = None

    def __repr__(self) -> str:
        return f"Line({self.number})"

    async def break_off(self) -> None:
        if self.on_break_off is not None:
            await self.on_break_off()
        self.broken_off += 1

    def abandon(self) -> None:
        self.abandoned += 1


class Lines:
    """Opens lines as told, and knows all of them."""

    def __init__(self) -> None:
        self.opened: list[Line] = []
        self.refusals = 0
        self.may_open = asyncio.Event()
        self.may_open.set()

    async def connect(self) -> Line:
        await self.may_open.wait()
        if self.refusals:
            self.refusals -= 1
            raise ConnectionFailed("refused")
        self.opened.append(Line(len(self.opened)))
        return self.opened[-1]


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pool_module, "monotonic", clock)
    return clock


@pytest.fixture
async def lines() -> Lines:
    return Lines()


Make = Callable[..., "ConnectionPool[Any]"]


@pytest.fixture
async def make(lines: Lines, clock: Clock) -> AsyncIterator[Make]:
    made: list[ConnectionPool[Any]] = []

    def make_pool(size: int = 1, *, timeout: float = 30, recycle: float = 600) -> Any:
        connect: Any = lines.connect
        made.append(
            ConnectionPool(
                connect,
                max_connections=size,
                connection_timeout=timeout,
                recycle=recycle,
                target="postgresql://db/books",
            )
        )
        return made[-1]

    yield make_pool
    for pool in made:
        await pool.close(0.01)


async def settle() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


async def ended(task: asyncio.Task[Any]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await task


def figures(pool: ConnectionPool[Any]) -> tuple[int, int, int]:
    return pool.active_connections, pool.available_connections, pool.open_connections


# Figures


async def test_figures_follow_what_is_taken_and_given_back(make: Make, lines: Lines) -> None:
    pool = make(3, timeout=7)
    assert (pool.max_connections, pool.connection_timeout, pool.is_closed) == (3, 7, False)
    assert pool.loop is asyncio.get_running_loop()
    assert figures(pool) == (0, 3, 0)
    first, second = await pool.acquire(), await pool.acquire()
    assert first is not second
    assert figures(pool) == (2, 1, 2)
    assert repr(pool) == (
        "ConnectionPool('postgresql://db/books', max_connections=3, active_connections=2, "
        "available_connections=1)"
    )
    pool.release(first)
    assert figures(pool) == (1, 2, 2)
    assert await pool.acquire() is first
    pool.release(first)
    pool.release(second)
    assert figures(pool) == (0, 3, 2)
    assert len(lines.opened) == 2


async def test_a_connection_being_opened_counts(make: Make, lines: Lines) -> None:
    pool = make(2)
    lines.may_open.clear()
    opening = asyncio.create_task(pool.acquire())
    await settle()
    assert figures(pool) == (1, 1, 1)
    lines.may_open.set()
    pool.release(await opening)
    assert figures(pool) == (0, 2, 1)


async def test_nobody_opens_more_than_the_maximum(make: Make, lines: Lines) -> None:
    pool = make(2)
    lines.may_open.clear()
    callers = [asyncio.create_task(pool.acquire()) for _ in range(5)]
    await settle()
    lines.may_open.set()
    await settle()
    assert len(lines.opened) == 2
    assert [caller.done() for caller in callers] == [True, True, False, False, False]
    pool.release(callers[0].result())
    assert await callers[2] is callers[0].result()
    for caller in callers[3:]:
        caller.cancel()
        await ended(caller)


async def test_a_free_connection_is_taken_at_once_or_not_at_all(make: Make) -> None:
    pool = make(2)
    assert pool.take_idle() is None
    line = await pool.acquire()
    assert pool.take_idle() is None
    pool.release(line)
    assert pool.take_idle() is line
    assert pool.active_connections == 1


async def test_the_times_of_opening_and_of_giving_back_are_noted(make: Make, clock: Clock) -> None:
    pool = make()
    clock.now = 5.0
    line = await pool.acquire()
    assert (line.opened_at, line.idle_since) == (5.0, 5.0)
    clock.now = 9.0
    pool.release(line)
    assert (line.opened_at, line.idle_since) == (5.0, 9.0)


# Waiting


async def test_those_who_wait_are_served_in_their_order(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    served: list[int] = []

    async def work(number: int) -> None:
        taken = await pool.acquire()
        served.append(number)
        assert figures(pool) == (1, 0, 1)
        pool.release(taken)

    waiting = [asyncio.create_task(work(number)) for number in range(4)]
    await settle()
    pool.release(line)
    await asyncio.gather(*waiting)
    assert served == [0, 1, 2, 3]


async def test_waiting_ends_with_what_to_do(make: Make) -> None:
    pool = make(timeout=0.02)
    line = await pool.acquire()
    with pytest.raises(PoolTimeout) as caught:
        await pool.acquire()
    assert str(caught.value) == (
        "No free database connection within 0.02 s: all 1 to postgresql://db/books stayed busy. "
        "Raise pool_size or pool_timeout, or hold connections for less long."
    )
    assert pool.status == PoolStatus(1, 1, 1, waiting=0, timeouts=1)
    assert not pool._waiting, "or those who gave up would pile up for as long as all are busy"
    pool.release(line)
    assert pool.take_idle() is line, "not handed to the one who gave up"


async def test_only_the_one_whose_time_is_up_gives_up(make: Make) -> None:
    pool = make(timeout=0.05)
    line = await pool.acquire()
    early = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0.03)
    late = asyncio.create_task(pool.acquire())
    await settle()
    assert pool.status.waiting >= 1
    with pytest.raises(PoolTimeout):
        await early
    assert not late.done()
    pool.release(line)
    assert await late is line


async def test_who_was_served_gets_no_timeout_later(make: Make) -> None:
    pool = make(timeout=0.01)
    line = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settle()
    pool.release(line)
    assert await waiting is line
    await asyncio.sleep(0.03)
    assert pool.active_connections == 1


# Cancelled callers


async def test_a_connection_handed_to_a_cancelled_caller_is_free_again(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settle()
    pool.release(line)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert figures(pool) == (0, 1, 1)
    assert pool.take_idle() is line


async def test_a_connection_handed_to_a_cancelled_caller_goes_to_the_next(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    cancelled, next_one = (asyncio.create_task(pool.acquire()) for _ in range(2))
    await settle()
    pool.release(line)
    cancelled.cancel()
    await ended(cancelled)
    assert await asyncio.wait_for(next_one, 1) is line


async def test_a_place_handed_to_a_cancelled_caller_is_free_again(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settle()

    async def cancel_as_the_place_is_given() -> None:
        asyncio.get_running_loop().call_soon(waiting.cancel)

    line.on_break_off = cancel_as_the_place_is_given
    pool.discard(line)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await settle()
    assert figures(pool) == (0, 1, 0)
    assert await asyncio.wait_for(pool.acquire(), 1) is not line


async def test_who_is_cancelled_while_waiting_is_passed_over(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    gone, patient = (asyncio.create_task(pool.acquire()) for _ in range(2))
    await settle()
    gone.cancel()
    await ended(gone)
    pool.release(line)
    assert await asyncio.wait_for(patient, 1) is line


async def test_who_is_cancelled_and_timed_out_at_once_leaves_nothing(make: Make) -> None:
    pool = make(timeout=0.01)
    line = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settle()
    [waiter] = pool._waiting
    pool._expire(waiter)
    waiting.cancel()
    await ended(waiting)
    pool.release(line)
    assert figures(pool) == (0, 1, 1)


async def test_an_opening_that_is_cancelled_gives_its_place_back(make: Make, lines: Lines) -> None:
    pool = make()
    lines.may_open.clear()
    opening = asyncio.create_task(pool.acquire())
    await settle()
    waiting = asyncio.create_task(pool.acquire())
    await settle()
    opening.cancel()
    await ended(opening)
    lines.may_open.set()
    pool.release(await asyncio.wait_for(waiting, 1))
    assert figures(pool) == (0, 1, 1)


async def test_an_opening_that_fails_gives_its_place_back(make: Make, lines: Lines) -> None:
    pool = make()
    lines.refusals = 2
    for _ in range(2):
        with pytest.raises(ConnectionFailed, match="refused"):
            await pool.acquire()
        assert figures(pool) == (0, 1, 0)
    await pool.acquire()
    assert figures(pool) == (1, 0, 1)


# Connections that serve no longer


async def test_a_connection_is_replaced_when_it_is_old(
    make: Make, lines: Lines, clock: Clock
) -> None:
    pool = make(recycle=600)
    line = await pool.acquire()
    pool.release(line)
    clock.now += 599.9
    assert await pool.acquire() is line
    pool.release(line)
    clock.now += 0.1
    fresh = await pool.acquire()
    assert fresh is not line
    await settle()
    assert (line.broken_off, fresh.broken_off) == (1, 0)
    assert fresh.opened_at == clock.now
    assert figures(pool) == (1, 0, 1)


async def test_an_old_connection_is_replaced_although_somebody_waits(
    make: Make, lines: Lines, clock: Clock
) -> None:
    pool = make(recycle=600)
    line = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settle()
    clock.now += 600
    pool.release(line)
    fresh = await asyncio.wait_for(waiting, 1)
    assert fresh is not line
    assert line.broken_off == 1
    assert figures(pool) == (1, 0, 1)


async def test_what_is_no_longer_open_is_replaced(make: Make, lines: Lines) -> None:
    pool = make(2)
    one, other = await pool.acquire(), await pool.acquire()
    pool.release(one)
    pool.release(other)
    other.is_open = False
    assert [pool.take_idle()] == [one]
    await settle()
    assert (one.broken_off, other.broken_off) == (0, 1)
    assert figures(pool) == (1, 1, 1)


async def test_what_comes_back_broken_goes_to_nobody(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await settle()
    line.is_open = False
    pool.release(line)
    assert (await asyncio.wait_for(waiting, 1)) is not line
    assert line.broken_off == 1


async def test_what_is_given_up_counts_until_it_has_ended(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    may_end = asyncio.Event()

    async def end() -> None:
        await may_end.wait()

    line.on_break_off = end
    pool.discard(line)
    await settle()
    assert figures(pool) == (1, 0, 1)
    waiting = asyncio.create_task(pool.acquire())
    await settle()
    assert not waiting.done()
    may_end.set()
    assert await asyncio.wait_for(waiting, 1) is not line
    assert not pool._endings, "or they would pile up"
    assert figures(pool) == (1, 0, 1)


async def test_an_ending_that_fails_gives_its_place_back(make: Make) -> None:
    pool = make()
    line = await pool.acquire()

    async def fail() -> None:
        raise ConnectionResetError

    line.on_break_off = fail
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    pool.discard(line)
    assert await asyncio.wait_for(pool.acquire(), 1) is not line
    assert figures(pool) == (1, 0, 1)


# Closing


async def test_closing_ends_what_is_idle_and_refuses_who_comes(make: Make) -> None:
    pool = make(2)
    lines = [await pool.acquire(), await pool.acquire()]
    for line in lines:
        pool.release(line)
    assert await pool.close(1) is True
    assert pool.is_closed
    assert [line.broken_off for line in lines] == [1, 1]
    assert figures(pool) == (0, 2, 0)
    assert pool.take_idle() is None
    with pytest.raises(StorageError) as caught:
        await pool.acquire()
    assert str(caught.value) == (
        "The pool of postgresql://db/books is closed. Open it again before using it."
    )


async def test_closing_refuses_those_who_wait(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
    await settle()
    closing = asyncio.create_task(pool.close(1))
    for each in waiting:
        with pytest.raises(StorageError, match="is closed"):
            await asyncio.wait_for(each, 0.5)
    assert not closing.done()
    pool.release(line)
    assert await closing is True


async def test_closing_waits_for_all_that_is_in_use(make: Make) -> None:
    pool = make(2)
    one, other = await pool.acquire(), await pool.acquire()
    closing = asyncio.create_task(pool.close(5))
    await settle()
    pool.release(one)
    await settle()
    assert not closing.done()
    pool.release(other)
    assert await asyncio.wait_for(closing, 1) is True
    assert (one.broken_off, other.broken_off) == (1, 1)
    assert figures(pool) == (0, 2, 0)


async def test_closing_breaks_off_what_does_not_end(make: Make) -> None:
    pool = make(2)
    stuck, idle = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    assert await asyncio.wait_for(pool.close(0.02), 1) is False
    assert (stuck.broken_off, idle.broken_off) == (1, 1)
    assert pool.active_connections == 0


async def test_closing_waits_for_no_ending_for_ever(make: Make) -> None:
    pool = make()
    line = await pool.acquire()
    pool.release(line)
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    line.on_break_off = hang
    await asyncio.wait_for(pool.close(0.02), 1)
    assert line.broken_off == 0
    never.set()
    await settle()


async def test_a_pool_that_was_never_used_closes_at_once(make: Make) -> None:
    assert await asyncio.wait_for(make().close(30), 0.5) is True


async def test_letting_go_touches_every_connection_and_ends_none(make: Make) -> None:
    pool = make(2)
    busy, idle = await pool.acquire(), await pool.acquire()
    pool.release(idle)
    pool.abandon()
    assert pool.is_closed
    assert [(line.abandoned, line.broken_off) for line in (busy, idle)] == [(1, 0), (1, 0)]
    assert figures(pool) == (0, 2, 0)
    assert pool.take_idle() is None
