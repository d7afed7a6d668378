"""Days of quotas: one follows the other without a gap, wherever clocks change and however."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from jts_storage.domain.rate_books import Exhausted, SlotRequest
from jts_storage.domain.rate_limits import SECOND, LimitKey, PerDay, microseconds_of, zone
from jts_storage.memory.rate_limits import InMemoryRateLimits
from jts_storage.testing.contracts.rate_limits import SetClock

SKIP_MIDNIGHT = ("America/Sao_Paulo", "America/Havana", "Asia/Beirut", "America/Asuncion")
OTHERS = ("Asia/Seoul", "America/New_York", "Europe/Dublin", "Australia/Lord_Howe", "Africa/Cairo")
YEARS = [datetime(2017, 12, 30, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)]
A_DAY_THAT_WAS_SKIPPED = datetime(2011, 12, 28, tzinfo=UTC)


@pytest.mark.parametrize("name", [*SKIP_MIDNIGHT, *OTHERS])
@pytest.mark.parametrize("first", YEARS)
def test_each_moment_is_in_one_day(name: str, first: datetime) -> None:
    day = PerDay(1, timezone=name).day_at(microseconds_of(first))
    limit, hours = PerDay(1, timezone=name), set()
    for _ in range(366):
        assert limit.day_at(day.start) == limit.day_at(day.end - 1) == day
        begins = first + timedelta(microseconds=day.start - microseconds_of(first))
        before = begins - timedelta(microseconds=1)
        assert begins.astimezone(zone(name)).date() > before.astimezone(zone(name)).date()
        hours.add((day.end - day.start) / SECOND / 3_600)
        day, previous = limit.day_at(day.end), day
        assert day.start == previous.end
    assert hours <= {23, 23.5, 24, 24.5, 25}


def test_a_day_that_was_skipped_is_none() -> None:
    limit = PerDay(1, timezone="Pacific/Apia")
    day = limit.day_at(microseconds_of(A_DAY_THAT_WAS_SKIPPED))
    for _ in range(4):
        following = limit.day_at(day.end)
        assert following.start == day.end > day.start
        assert following.end - following.start == 24 * 3_600 * SECOND
        day = following


@pytest.mark.parametrize(
    ("name", "midnight"),
    [
        ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC)),  # clocks go on to 01:00
        ("America/Sao_Paulo", datetime(2018, 2, 18, 3, tzinfo=UTC)),  # 23:00 came twice before
        ("America/Havana", datetime(2025, 11, 2, 4, tzinfo=UTC)),  # 00:00 comes twice
        ("Asia/Seoul", datetime(2026, 11, 27, 15, tzinfo=UTC)),
    ],
)
async def test_a_quota_is_given_once_a_day_where_clocks_change_at_midnight(
    name: str, midnight: datetime
) -> None:
    clock = SetClock(midnight - timedelta(seconds=2))
    store, key, limits = InMemoryRateLimits(clock), LimitKey("kis"), (PerDay(1, timezone=name),)

    async def given(slot: str) -> bool:
        answer = await store.take(SlotRequest(key, limits, slot, 1, 0.1))
        if isinstance(answer, Exhausted):
            return False
        await store.leave(SlotRequest(key, limits, slot, 1, 0.1))
        return True

    assert await given("of the day before")
    clock.set(midnight - timedelta(microseconds=1))
    assert not await given("at its end")
    clock.set(midnight)
    assert await given("of the day")
    for hours in (1, 1.999, 22.9):
        clock.set(midnight + timedelta(hours=hours))
        assert not await given("too many")
