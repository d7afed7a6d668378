"""No kept answer lasts longer than it may, whatever becomes of the clock and the speed of Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import pytest
import redis

from jts_storage.redis.breaker import Breaker
from jts_storage.redis.coherence import Lasting, RedisCoherence
from jts_storage.redis.manager import RedisManager

SCOPES: Final = ("candles AAPL/1m",)
VALUE: Final = b"a value"
LASTS: Final = Lasting(30.0, 30.0)


@pytest.fixture
async def coherence(redis_url: str) -> AsyncIterator[RedisCoherence]:
    async def identity() -> str:
        return "these stores"

    async with RedisManager(redis_url, timeout=5.0) as manager:
        yield RedisCoherence(manager, Breaker(), identity)


def left_of(client: redis.Redis) -> list[int]:
    """Milliseconds for which values are there still."""
    return [int(str(client.pttl(key))) for key in client.scan_iter("*:v:*")]


async def test_what_was_kept_up_lasts_as_long_as_if_it_had_come_at_once(
    coherence: RedisCoherence, redis_client: redis.Redis
) -> None:
    look = await coherence.look(SCOPES, "n", b"")
    earlier = look._replace(at=look.at - 20_000)
    assert await coherence.fill(SCOPES, "n", earlier, VALUE, LASTS)
    (left,) = left_of(redis_client)
    assert 0 < left <= 10_000


async def test_what_comes_after_its_time_is_not_kept(
    coherence: RedisCoherence, redis_client: redis.Redis
) -> None:
    look = await coherence.look(SCOPES, "n", b"")
    earlier = look._replace(at=look.at - 31_000)
    assert not await coherence.fill(SCOPES, "n", earlier, VALUE, LASTS)
    assert left_of(redis_client) == []


async def test_a_clock_that_was_set_back_makes_nothing_last_longer(
    coherence: RedisCoherence, redis_client: redis.Redis
) -> None:
    look = await coherence.look(SCOPES, "n", b"")
    before_it_was_set_back = look._replace(at=look.at + 60_000)
    assert not await coherence.fill(SCOPES, "n", before_it_was_set_back, VALUE, LASTS)
    assert left_of(redis_client) == []


async def test_what_was_read_before_a_write_takes_the_place_of_nothing(
    coherence: RedisCoherence, redis_client: redis.Redis
) -> None:
    before = await coherence.look(SCOPES, "n", b"")
    await coherence.begin(SCOPES, "writer", 30)
    assert not await coherence.fill(SCOPES, "n", before, b"\x02" + VALUE, LASTS)
    await coherence.end(SCOPES, "writer")
    after = await coherence.look(SCOPES, "n", b"")
    assert after.token is not None and after.token != before.token
    kept = b"\x02" + after.token + b"new"
    assert await coherence.fill(SCOPES, "n", after, kept, LASTS)
    assert not await coherence.fill(SCOPES, "n", before, b"\x02" + VALUE, LASTS)
    assert (await coherence.look(SCOPES, "n", b"")).value == kept


async def test_nothing_is_stored_while_somebody_writes_whatever_the_generations_are(
    coherence: RedisCoherence, redis_client: redis.Redis
) -> None:
    look = await coherence.look(SCOPES, "n", b"")
    known = {key: redis_client.get(key) for key in redis_client.scan_iter("*:g:*")}
    await coherence.begin(SCOPES, "writer", 30)
    for key, generation in known.items():
        assert isinstance(generation, bytes)
        redis_client.set(key, generation)  # as from a backup
    assert not await coherence.fill(SCOPES, "n", look, VALUE, LASTS)
    assert (await coherence.look(SCOPES, "n", look.token or b"")).token is None
