"""What only Redis has: eviction, a mirror of the day, a clock of its own, a beginning anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from jts_storage import Storage
from jts_storage.domain.rate_books import Exhausted, Granted, Refused, SlotRequest
from jts_storage.domain.rate_limits import LimitKey, PerDay, PerMinute, PerSecond, RateLimits
from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.redis import rate_limits
from jts_storage.redis.rate_limits import MIRROR_EVERY, RedisRateLimits, manager_for
from jts_storage.settings.redis import RedisConfig
from jts_storage.testing.contracts.rate_limits import NOON_IN_SEOUL, SetClock
from jts_storage.usecases.rate_limit_mirror import CheckpointMirror

KEY = LimitKey("kis", "main")
DAY = (PerDay(1_000, timezone="Asia/Seoul"),)


@pytest.fixture
def server(restarted_redis: Any) -> Any:
    return restarted_redis()


@pytest.fixture
async def mirror() -> AsyncIterator[CheckpointMirror]:
    async with Storage.in_memory() as storage:
        yield CheckpointMirror(storage)


def store_at(url: str, **options: Any) -> RedisRateLimits:
    return RedisRateLimits(manager_for(RedisConfig(url, timeout=10)), **options)


async def test_a_new_redis_gives_nothing_before_a_window_has_passed(server: Any) -> None:
    clock = SetClock()
    store = store_at(server.url, clock=clock.wall, settling=0.5)
    limits = (PerSecond(3), PerMinute(9, counts="entering", margin=1))
    assert await store.take(SlotRequest(KEY, limits, "a", 1, 30)) == Refused(61_500_001)
    clock.go_on(61.5)
    assert await store.take(SlotRequest(KEY, limits, "a", 1, 30)) == Refused(1)
    clock.go_on(0.000_001)
    assert isinstance(await store.take(SlotRequest(KEY, limits, "a", 1, 30)), Granted)
    assert isinstance(await store.take(SlotRequest(LimitKey("new"), limits, "a", 1, 30)), Granted)
    await store.close()


async def test_a_clock_that_is_set_back_makes_nobody_wait_until_it_has_come_again(
    server: Any,
) -> None:
    clock = SetClock()
    store = store_at(server.url, clock=clock.wall)
    limits = (PerSecond(3),)
    assert await store.take(SlotRequest(KEY, limits, "a", 1, 30)) == Refused(2_000_001)
    clock.go_on(-3_600)
    assert await store.take(SlotRequest(KEY, limits, "a", 1, 30)) == Refused(2_000_001)
    clock.go_on(2.000_001)
    assert isinstance(await store.take(SlotRequest(KEY, limits, "a", 1, 30)), Granted)
    await store.close()


async def test_a_redis_that_has_kept_its_file_gives_nothing_before_a_window_has_passed(
    restarted_redis: Any,
) -> None:
    """Its file may lack what was counted last."""
    clock = SetClock()
    server = restarted_redis(keeps=True)
    store = store_at(server.url, clock=clock.wall)
    await store.reset()
    limits = (PerSecond(3), PerDay(9))
    assert isinstance(await store.take(SlotRequest(KEY, limits, "a", 1, 30)), Granted)
    await store.leave(SlotRequest(KEY, limits, "a", 1, 30))
    server.kill()
    server.start()
    await store.close()
    clock.go_on(60)
    assert await store.take(SlotRequest(KEY, limits, "b", 1, 30)) == Refused(2_000_001)
    clock.go_on(2.000_001)
    assert isinstance(await store.take(SlotRequest(KEY, limits, "b", 1, 30)), Granted)
    await store.close()


async def test_an_instance_that_evicts_is_refused(server: Any) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "50mb")
        client.config_set("maxmemory-policy", "volatile-lru")
        for op in ("take", "state"):
            store = store_at(server.url)
            with pytest.raises(InvalidConfiguration, match=r"volatile-lru.*JTS_RATE_LIMITS_URL"):
                if op == "take":
                    await store.take(SlotRequest(KEY, DAY, "a", 1, 30))
                else:
                    await store.state(KEY, DAY)
            await store.close()
        asked = store_at(server.url, allow_eviction=True)
        assert isinstance(await asked.take(SlotRequest(KEY, DAY, "a", 1, 30)), Granted)
        await asked.close()
        client.config_set("maxmemory-policy", "noeviction")
        kept = store_at(server.url)
        assert isinstance(await kept.take(SlotRequest(KEY, DAY, "b", 1, 30)), Granted)
        await kept.close()


async def test_an_instance_that_evicts_from_now_on_is_refused(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rate_limits, "_CHECK_SECONDS", 0.0, raising=False)
    store = store_at(server.url)
    assert isinstance(await store.take(SlotRequest(KEY, DAY, "a", 1, 30)), Granted)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "50mb")
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(InvalidConfiguration, match="allkeys-lru"):
        await store.take(SlotRequest(KEY, DAY, "b", 1, 30))
    await store.close()


async def test_a_primary_without_replicas_is_waited_for(server: Any) -> None:
    """As one that a failover has left behind, if Redis is set to refuse then."""
    store = store_at(server.url)
    assert isinstance(await store.take(SlotRequest(KEY, DAY, "a", 1, 30)), Granted)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("min-replicas-to-write", 1)
        with pytest.raises(ConnectionFailed, match="NOREPLICAS"):
            await store.take(SlotRequest(KEY, DAY, "b", 1, 30))
        client.config_set("min-replicas-to-write", 0)
    assert isinstance(await store.take(SlotRequest(KEY, DAY, "b", 1, 30)), Granted)
    assert (await store.state(KEY, DAY)).limits[0].used == 2
    await store.close()


async def test_a_full_redis_gives_nothing(server: Any) -> None:
    store = store_at(server.url)
    assert isinstance(await store.take(SlotRequest(KEY, DAY, "a", 1, 30)), Granted)
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", 1)
        client.config_set("maxmemory-policy", "noeviction")
    with pytest.raises(StorageError, match=r"full|OOM|memory"):
        await store.take(SlotRequest(KEY, DAY, "b", 1, 30))
    await store.close()


async def test_what_was_used_of_a_day_is_known_after_redis_has_lost_it(
    server: Any, mirror: CheckpointMirror
) -> None:
    clock = SetClock()
    store = store_at(server.url, clock=clock.wall, mirror=mirror)
    for number in range(2 * MIRROR_EVERY + 10):
        assert isinstance(await store.take(SlotRequest(KEY, DAY, f"s{number}", 1, 30)), Granted)
    (start, noted) = (await mirror.read(KEY))["Asia/Seoul"]
    assert start == DAY[0].day(clock.wall()).start
    assert noted == 2 * MIRROR_EVERY
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    other = store_at(server.url, clock=clock.wall, mirror=mirror)
    state = await other.state(KEY, DAY)
    assert state.limits[0].used == noted + MIRROR_EVERY
    granted = await other.take(SlotRequest(KEY, DAY, "a", 1_000 - noted - MIRROR_EVERY, 30))
    assert granted == Granted(0, DAY[0].day(clock.wall()).end)
    assert isinstance(await store.take(SlotRequest(KEY, DAY, "b", 1, 30)), Exhausted)
    clock.set(NOON_IN_SEOUL + timedelta(days=1))
    assert isinstance(await store.take(SlotRequest(KEY, DAY, "b", 1, 30)), Granted)
    await store.close()
    await other.close()


async def test_a_mirror_of_yesterday_counts_nothing(server: Any, mirror: CheckpointMirror) -> None:
    clock = SetClock(NOON_IN_SEOUL - timedelta(days=1))
    await mirror.write(KEY, {"Asia/Seoul": (DAY[0].day(clock.wall()).start, 900)})
    clock.set(NOON_IN_SEOUL)
    store = store_at(server.url, clock=clock.wall, mirror=mirror)
    assert (await store.state(KEY, DAY)).limits[0].used == 0
    await store.close()


class HungMirror:
    """Of a bookkeeping that does not answer."""

    def __init__(self) -> None:
        self.asked = 0

    async def read(self, key: LimitKey) -> dict[str, tuple[int, int]]:
        self.asked += 1
        await asyncio.sleep(600)
        raise AssertionError

    async def write(self, key: LimitKey, days: dict[str, tuple[int, int]]) -> None:
        await self.read(key)


async def test_a_mirror_that_hangs_holds_nobody_until_the_lease_ends(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rate_limits, "_MIRROR_SECONDS", 0.05)
    mirror = HungMirror()
    store = store_at(server.url, mirror=mirror)
    with pytest.raises(ConnectionFailed, match=r"day kis .main. has used is not known"):
        await store.take(SlotRequest(KEY, DAY, "a", 1, 30))
    other = store_at(server.url)
    await other.take(SlotRequest(KEY, DAY, "b", 60, 30))
    mirror.asked = 0
    async with asyncio.timeout(20):
        for name in "cde":
            assert isinstance(await store.take(SlotRequest(KEY, DAY, name, 1, 30)), Granted)
    assert mirror.asked == 1, "it is left alone for a while"
    assert "could not be noted: it took too long" in caplog.text
    await store.close()
    await other.close()


async def test_the_larger_number_of_a_day_is_kept(mirror: CheckpointMirror) -> None:
    await mirror.write(KEY, {"UTC": (10, 50)})
    await mirror.write(KEY, {"UTC": (10, 40), "Asia/Seoul": (9, 1)})
    assert await mirror.read(KEY) == {"UTC": (10, 50), "Asia/Seoul": (9, 1)}
    await mirror.write(KEY, {"UTC": (20, 3)})
    assert (await mirror.read(KEY))["UTC"] == (20, 3)


async def test_days_are_those_of_redis_and_not_of_a_client_whose_clock_is_wrong(
    server: Any,
) -> None:
    store = store_at(server.url)
    store._ahead = 40 * 86_400 * 1_000_000
    granted = await store.take(SlotRequest(KEY, DAY, "a", 1, 30))
    right = store_at(server.url)
    assert isinstance(granted, Granted)
    assert granted.resets_at is not None
    assert granted.resets_at == DAY[0].day(granted.resets_at - 1).end
    assert (await right.state(KEY, DAY)).limits[0].used == 1
    await store.close()
    await right.close()


async def test_without_redis_there_is_an_error(server: Any) -> None:
    server.kill()
    store = store_at(server.url)
    with pytest.raises(ConnectionFailed):
        await store.take(SlotRequest(KEY, DAY, "a", 1, 30))
    await store.close()


async def test_namespaces_are_apart(server: Any) -> None:
    limits = RateLimits(kis=[PerDay(5)])["kis"]
    one, other = (
        RedisRateLimits(manager_for(RedisConfig(server.url, namespace=name, timeout=10)))
        for name in "ab"
    )
    await one.take(SlotRequest(KEY, limits, "a", 1, 30))
    assert await other.accounts("kis") == []
    await other.reset()
    assert await one.accounts("kis") == ["main"]
    await one.close()
    await other.close()


async def test_what_is_kept_ends_by_itself(server: Any) -> None:
    store = store_at(server.url)
    await store.take(SlotRequest(KEY, (PerSecond(5),), "a", 1, 30))
    await store.take(SlotRequest(LimitKey("day"), DAY, "a", 1, 30))
    with redis.Redis.from_url(server.url) as client:
        assert 31_000 < client.pttl("{jts:limits}:1:book:kis:main") <= 91_000
        assert client.pttl("{jts:limits}:1:book:day:") > 86_400_000
    await store.close()


async def test_a_short_slot_shortens_nothing_of_a_long_one(server: Any) -> None:
    store = store_at(server.url)
    limits = (PerSecond(5),)
    await store.reset()
    assert isinstance(await store.take(SlotRequest(KEY, limits, "long", 1, 3_600)), Granted)
    assert isinstance(await store.take(SlotRequest(KEY, limits, "short", 1, 0.5)), Granted)
    await store.leave(SlotRequest(KEY, limits, "short", 1, 0.5))
    with redis.Redis.from_url(server.url) as client:
        assert client.pttl("{jts:limits}:1:book:kis:main") > 3_610_000
        client.persist("{jts:limits}:1:book:kis:main")  # as if it had been shortened
        await store.leave(SlotRequest(KEY, limits, "short", 1, 0.5))
        assert client.pttl("{jts:limits}:1:book:kis:main") > 3_610_000
    await store.close()
