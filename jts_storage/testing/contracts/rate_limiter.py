"""The contract of `RateLimiter`."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import Any

import pytest

from jts_storage.domain.rate_limits import PerDay, PerSecond, RateLimits
from jts_storage.errors import InvalidData, QuotaExhausted, RateLimited
from jts_storage.ports.rate_limits import RateLimiter

LIMITS = RateLimits(
    kis=[PerSecond(3), PerDay(1_000, timezone="Asia/Seoul")],
    quota=[PerDay(2, timezone="Asia/Seoul")],
    one=[PerSecond(1)],
)


@pytest.mark.asyncio
class RateLimiterContract:
    """Give it a fixture `rate_limiter`: a `RateLimiter` with `LIMITS`, of which nothing counts."""

    async def test_a_slot_says_what_it_is(self, rate_limiter: RateLimiter) -> None:
        async with rate_limiter.acquire("kis", "main", cost=2) as slot:
            assert (slot.name, slot.account, slot.cost) == ("kis", "main", 2)
            assert slot.remaining == 1
            assert slot.waited >= 0
            assert slot.resets_at is not None
            assert slot.resets_at > datetime.now(UTC)
            state = await rate_limiter.state("kis", "main")
            assert (state.in_flight, [each.used for each in state.limits]) == (2, [2, 2])
        left = await rate_limiter.state("kis", "main")
        assert (left.in_flight, [each.used for each in left.limits]) == (0, [2, 2])
        assert list(await rate_limiter.accounts("kis")) == ["main"]

    async def test_a_slot_is_waited_for(self, rate_limiter: RateLimiter) -> None:
        async with rate_limiter.acquire("one"):
            pass
        async with rate_limiter.acquire("one", timeout=30) as slot:
            assert slot.waited > 0.5
            assert slot.resets_at is None

    async def test_who_waits_too_long_is_told(self, rate_limiter: RateLimiter) -> None:
        async with rate_limiter.acquire("one", longest=60):
            with pytest.raises(RateLimited, match=r"No slot of one became free.*timeout=") as told:
                async with rate_limiter.acquire("one", timeout=0.05):
                    raise AssertionError
            assert told.value.wait > 0
            with pytest.raises(RateLimited):
                async with rate_limiter.acquire("one", timeout=0):
                    raise AssertionError
            assert (await rate_limiter.state("one")).waiting == 0

    async def test_an_exhausted_quota_is_told_at_once(self, rate_limiter: RateLimiter) -> None:
        for _ in range(2):
            async with rate_limiter.acquire("quota", timeout=None):
                pass
        with pytest.raises(QuotaExhausted, match=r"2 a day in Asia/Seoul.*Go on at") as told:
            async with rate_limiter.acquire("quota", timeout=None):
                raise AssertionError
        assert told.value.resets_at > datetime.now(UTC)
        async with rate_limiter.acquire("quota", "another"):
            pass

    async def test_an_error_in_the_block_gives_the_slot_back(
        self, rate_limiter: RateLimiter
    ) -> None:
        with pytest.raises(ZeroDivisionError):
            async with rate_limiter.acquire("kis"):
                raise ZeroDivisionError
        assert (await rate_limiter.state("kis")).in_flight == 0

    async def test_a_slot_is_entered_once(self, rate_limiter: RateLimiter) -> None:
        acquired = rate_limiter.acquire("kis")
        async with acquired:
            pass
        with pytest.raises(Exception, match="entered before"):
            async with acquired:
                raise AssertionError

    @pytest.mark.parametrize("cost", [0, -1, 1.0, True, None, "1", 2**70])
    async def test_a_cost_is_a_whole_number(self, rate_limiter: RateLimiter, cost: Any) -> None:
        with pytest.raises(InvalidData, match="whole number"):
            rate_limiter.acquire("kis", cost=cost)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"name": "kiss"}, r"'kiss'.*Did you mean 'kis'"),
            ({"name": "nobody"}, "JTS_RATE_LIMITS"),
            ({"name": "kis", "cost": 4}, "above the limit of 'kis', which is 3 a second"),
            ({"name": "kis", "timeout": -1}, "timeout"),
            ({"name": "kis", "timeout": float("nan")}, "timeout"),
            ({"name": "kis", "longest": 0}, "longest"),
            ({"name": "kis", "longest": 1e9}, "at most a day"),
            ({"name": "kis", "account": "a\nb"}, "account"),
            ({"name": "kis", "account": 5}, "account"),
        ],
    )
    async def test_what_is_wrong_is_told_at_once(
        self, rate_limiter: RateLimiter, given: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(InvalidData, match=message):
            rate_limiter.acquire(**given)

    async def test_unknown_names_have_no_state(self, rate_limiter: RateLimiter) -> None:
        with pytest.raises(InvalidData, match="has no rate limits"):
            await rate_limiter.state("nobody")
        with pytest.raises(InvalidData, match="has no rate limits"):
            await rate_limiter.accounts("nobody")

    async def test_a_reset_forgets_what_counted(self, rate_limiter: RateLimiter) -> None:
        async with rate_limiter.acquire("one", longest=60):
            await rate_limiter.reset()
            async with rate_limiter.acquire("one", timeout=0):
                pass

    async def test_many_at_once_get_no_more_than_the_limit(self, rate_limiter: RateLimiter) -> None:
        async def ask() -> bool:
            with contextlib.suppress(QuotaExhausted):
                async with rate_limiter.acquire("quota"):
                    return True
            return False

        assert sum(await asyncio.gather(*(ask() for _ in range(8)))) == 2
