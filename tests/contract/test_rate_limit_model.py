"""Every store of rate limits against a model that keeps all that ever happened and adds it up."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from jts_storage.domain.rate_books import Exhausted, Granted, Refused, SlotRequest
from jts_storage.domain.rate_limits import Limit, LimitKey, PerDay, PerMinute, PerSecond
from jts_storage.local_servers.redis import LocalRedis
from jts_storage.memory.rate_limits import InMemoryRateLimits
from jts_storage.ports.rate_limits import RateLimitStore
from jts_storage.redis.rate_limits import RedisRateLimits, manager_for
from jts_storage.relational.rate_limits import SqliteRateLimits
from jts_storage.settings.redis import RedisConfig
from jts_storage.testing.contracts.rate_limits import SetClock

KEY = LimitKey("kis", "main")
LIMITS: tuple[Limit, ...] = (
    PerSecond(3),
    PerMinute(7, counts="entering", margin=0.5),
    PerDay(12, timezone="America/New_York"),
)
SECOND = timedelta(seconds=1)
AN_HOUR_BEFORE_CLOCKS_GO_BACK = datetime(2026, 11, 1, 3, 59, 58, tzinfo=UTC)


@dataclass
class Asked:
    """A slot as the model knows it, for good."""

    cost: int
    entered: datetime
    lease: timedelta
    left: datetime | None = None

    def until(self, now: datetime) -> datetime:
        """When it left, or was taken to have; now, if it has not."""
        return self.left or min(now, self.entered + self.lease)

    def is_in_flight(self, now: datetime) -> bool:
        return self.left is None and self.entered + self.lease > now


class Model:
    def __init__(self) -> None:
        self.asked: dict[str, Asked] = {}

    def in_a_second(self, now: datetime) -> int:
        return sum(
            each.cost
            for each in self.asked.values()
            if each.is_in_flight(now) or each.until(now) + SECOND >= now
        )

    def in_a_minute(self, now: datetime) -> int:
        span = 60.5 * SECOND
        return sum(each.cost for each in self.asked.values() if each.entered + span >= now)

    def in_a_day(self, now: datetime) -> int:
        zone = ZoneInfo("America/New_York")
        today = now.astimezone(zone).date()
        begins = datetime(today.year, today.month, today.day, tzinfo=zone).astimezone(UTC)
        return sum(
            each.cost
            for each in self.asked.values()
            if each.entered >= begins or (each.left or each.entered + each.lease) > begins
        )

    def used(self, now: datetime) -> list[int]:
        return [self.in_a_second(now), self.in_a_minute(now), self.in_a_day(now)]


def machine(make: Callable[[SetClock], RateLimitStore]) -> type[RuleBasedStateMachine]:
    class Machine(RuleBasedStateMachine):
        slots: Any = Bundle("slots")

        def __init__(self) -> None:
            super().__init__()
            self.runner = asyncio.Runner()
            self.clock = SetClock(AN_HOUR_BEFORE_CLOCKS_GO_BACK)
            self.now = AN_HOUR_BEFORE_CLOCKS_GO_BACK
            self.store = make(self.clock)
            self.call(self.store.reset())
            self.model = Model()
            self.number = 0

        def call(self, work: Any) -> Any:
            return self.runner.run(work)

        def teardown(self) -> None:
            self.call(self.store.close())
            self.runner.close()

        @rule(target=slots, cost=st.integers(1, 3), lease=st.sampled_from([0.4, 2.0, 90.0]))
        def take(self, cost: int, lease: float) -> Any:
            self.number += 1
            slot = f"s{self.number}"
            used = self.model.used(self.now)
            answer = self.call(self.store.take(SlotRequest(KEY, LIMITS, slot, cost, lease)))
            second, minute, day = (
                each.limit - cost - one for each, one in zip(LIMITS, used, strict=True)
            )
            if day < 0:
                assert isinstance(answer, Exhausted)
            elif second < 0 or minute < 0:
                assert isinstance(answer, Refused)
                assert answer.wait > 0
            else:
                assert isinstance(answer, Granted)
                assert answer.remaining == min(second, minute, day)
                self.model.asked[slot] = Asked(cost, self.now, lease * SECOND)
            return slot

        @rule(slot=consumes(slots))
        def leave(self, slot: str) -> None:
            asked = self.model.asked.get(slot)
            if asked is not None and asked.is_in_flight(self.now):
                self.call(self.store.leave(SlotRequest(KEY, LIMITS, slot, asked.cost, 1.0)))
                asked.left = self.now

        @rule(slot=consumes(slots))
        def forget(self, slot: str) -> None:
            asked = self.model.asked.get(slot)
            if asked is not None and asked.is_in_flight(self.now):
                self.call(self.store.forget(SlotRequest(KEY, LIMITS, slot, 1, 1.0)))
                del self.model.asked[slot]

        @rule(
            seconds=st.sampled_from([0.000_001, 0.3, 0.999_999, 1.0, 1.000_001, 60.5, 3_600.0]),
            times=st.integers(1, 8),
        )
        def time_passes(self, seconds: float, times: int) -> None:
            self.clock.go_on(seconds * times)
            self.now += timedelta(microseconds=round(seconds * times * 1_000_000))

        @rule()
        def midnight(self) -> None:
            """The clock stands just before the next one in New York."""
            zone = ZoneInfo("America/New_York")
            date = (self.now.astimezone(zone) + timedelta(hours=24)).date()
            begins = datetime(date.year, date.month, date.day, tzinfo=zone).astimezone(UTC)
            self.now = max(self.now, begins - timedelta(microseconds=1))
            self.clock.set(self.now)

        @rule(cost=st.integers(1, 3))
        def waiting_as_long_as_told_is_not_too_long(self, cost: int) -> None:
            """A microsecond less, and none would have been free."""
            answer = self.call(self.store.take(SlotRequest(KEY, LIMITS, "probe", cost, 1.0)))
            if isinstance(answer, Granted):
                self.call(self.store.forget(SlotRequest(KEY, LIMITS, "probe", 1, 1.0)))
            elif isinstance(answer, Refused) and answer.wait > 1:
                before = self.now + timedelta(microseconds=answer.wait - 1)
                second, minute, _ = self.model.used(before)
                assert second + cost > LIMITS[0].limit or minute + cost > LIMITS[1].limit

        @invariant()
        def as_much_counts_as_happened(self) -> None:
            state = self.call(self.store.state(KEY, LIMITS))
            assert [each.used for each in state.limits] == self.model.used(self.now)
            in_flight = [a.cost for a in self.model.asked.values() if a.is_in_flight(self.now)]
            assert state.in_flight == sum(in_flight)

    return Machine


def run(make: Callable[[SetClock], RateLimitStore], examples: int) -> None:
    run_state_machine_as_test(
        machine(make),
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(scope="module")
def redis_url() -> Iterator[str]:
    server = LocalRedis.start()
    yield server.url
    server.stop()


def test_memory_counts_as_the_model() -> None:
    run(InMemoryRateLimits, 40)


def test_sqlite_counts_as_the_model(tmp_path: Path) -> None:
    def make(clock: SetClock) -> RateLimitStore:
        return SqliteRateLimits(Path(tempfile.mkdtemp(dir=tmp_path)) / "limits.db", clock)

    run(make, 8)


def test_redis_counts_as_the_model(redis_url: str) -> None:
    def make(clock: SetClock) -> RateLimitStore:
        return RedisRateLimits(manager_for(RedisConfig(redis_url, timeout=10)), clock=clock.wall)

    run(make, 10)


@pytest.mark.slow
def test_stores_count_as_the_model_for_long(tmp_path: Path, redis_url: str) -> None:
    def of_sqlite(clock: SetClock) -> RateLimitStore:
        return SqliteRateLimits(Path(tempfile.mkdtemp(dir=tmp_path)) / "limits.db", clock)

    def of_redis(clock: SetClock) -> RateLimitStore:
        config = RedisConfig(redis_url, timeout=10)
        return RedisRateLimits(manager_for(config), clock=clock.wall)

    run(InMemoryRateLimits, 500)
    run(of_sqlite, 100)
    run(of_redis, 100)
