"""When a server that fails is left alone, and for how long."""

from __future__ import annotations

import asyncio
from typing import Any

from jts_storage.redis.breaker import Breaker, State
from jts_storage.redis.errors import RedisAway
from jts_storage.redis.manager import RedisManager


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def opened() -> tuple[Breaker, Clock, list[State]]:
    told: list[State] = []
    clock = Clock()
    breaker = Breaker(told.append, clock=clock)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    return breaker, clock, told


def test_three_failures_within_five_seconds_open_it() -> None:
    breaker, _, told = opened()
    assert not breaker.allows()
    assert told == ["open"]


def test_failures_that_are_far_apart_do_not() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(9):
        breaker.failed()
        clock.now += 2.6
    assert breaker.allows()


def test_one_probe_at_a_time_and_pauses_double_up_to_the_longest() -> None:
    breaker, clock, _ = opened()
    pauses = []
    for _ in range(8):
        before = clock.now
        while not breaker.allows():
            clock.now += 0.25
        assert not breaker.allows(), "a second caller is not let through beside the probe"
        pauses.append(clock.now - before)
        breaker.failed()
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_an_answer_closes_it_and_the_next_pause_is_short_again() -> None:
    breaker, clock, told = opened()
    clock.now += 1
    assert breaker.allows()
    breaker.failed()  # so that the pause is longer than the first one
    clock.now += 2
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.state == "closed" and breaker.allows()
    assert breaker.open_seconds == 3
    for _ in range(3):
        breaker.failed()
    clock.now += 1
    assert breaker.allows()
    assert told == ["open", "probing", "open", "probing", "closed", "open", "probing"]


def test_a_probe_that_was_cancelled_is_followed_by_another() -> None:
    breaker, clock, _ = opened()
    clock.now += 1
    assert breaker.allows()
    assert not breaker.allows()
    clock.now += 1
    assert breaker.allows()


async def test_those_in_line_for_a_connection_do_not_fail_one_after_the_other() -> None:
    """With a bound each, the last of a thousand would wait for a minute."""
    asked = 0

    async def hang(_: Any) -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise TimeoutError

    breaker = Breaker()
    async with RedisManager("redis://127.0.0.1:1", pool_size=1) as manager:
        calls = (manager.run("a look", hang, breaker=breaker) for _ in range(20))
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, RedisAway) for each in found)
    assert asked == 3
