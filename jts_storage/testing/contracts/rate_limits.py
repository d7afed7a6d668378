"""The contract of `RateLimitStore`."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jts_storage.domain.rate_books import Exhausted, Granted, Moment, Refused, SlotRequest
from jts_storage.domain.rate_limits import (
    SECOND,
    Limit,
    LimitKey,
    PerDay,
    PerMinute,
    PerSecond,
    microseconds_of,
)
from jts_storage.ports.rate_limits import RateLimitStore

KIS = LimitKey("kis", "main")
NOON_IN_SEOUL = datetime(2026, 11, 27, 3, tzinfo=UTC)


class SetClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self, moment: datetime = NOON_IN_SEOUL) -> None:
        self.microseconds = microseconds_of(moment)

    def __call__(self) -> Moment:
        return Moment(self.microseconds, self.microseconds)

    def wall(self) -> int:
        return self.microseconds

    def go_on(self, seconds: float) -> None:
        self.microseconds += round(seconds * SECOND)

    def set(self, moment: datetime) -> None:
        self.microseconds = microseconds_of(moment)


class _Account:
    """Calls of a store for one account."""

    def __init__(self, store: RateLimitStore, *limits: Limit, key: LimitKey = KIS) -> None:
        self.store, self.limits, self.key = store, limits, key
        self._names: Iterator[int] = iter(range(1_000_000))

    async def take(self, cost: int = 1, *, longest: float = 30.0, slot: str = "") -> Any:
        name = slot or f"slot-{next(self._names)}"
        return await self.store.take(SlotRequest(self.key, self.limits, name, cost, longest))

    async def leave(self, slot: str, cost: int = 1) -> None:
        await self.store.leave(SlotRequest(self.key, self.limits, slot, cost, 30.0))

    async def used(self) -> list[int]:
        return [each.used for each in (await self.store.state(self.key, self.limits)).limits]


@pytest.mark.asyncio
class RateLimitStoreContract:
    """Give it a fixture `rate_limit_store`: one that is empty and goes by the fixture `clock`."""

    @pytest.fixture
    def clock(self) -> SetClock:
        return SetClock()

    async def test_a_limit_is_given_and_no_more(self, rate_limit_store: RateLimitStore) -> None:
        kis = _Account(rate_limit_store, PerSecond(3))
        answers = [await kis.take() for _ in range(4)]
        assert [each.remaining for each in answers[:3]] == [2, 1, 0]
        assert isinstance(answers[3], Refused)
        assert await kis.used() == [3]

    async def test_a_slot_counts_until_a_window_after_leaving(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1))
        assert isinstance(await kis.take(slot="first"), Granted)
        clock.go_on(5)
        assert isinstance(await kis.take(), Refused)
        await kis.leave("first")
        clock.go_on(1)
        assert await kis.take() == Refused(1)  # arrivals are at least a whole window apart
        clock.go_on(0.000_001)
        assert isinstance(await kis.take(), Granted)

    async def test_what_one_counts_is_kept_by_others_who_count_for_less_long(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        """As while limits are being changed: some ask by the old ones, and some by the new."""
        both = _Account(rate_limit_store, PerSecond(9), PerMinute(3), PerDay(4))
        one = _Account(rate_limit_store, PerSecond(9))
        for number in range(2):
            await both.take(slot=f"of {number}")
            await both.leave(f"of {number}")
        clock.go_on(1.2)
        await one.take(slot="of the other")
        await one.leave("of the other")
        clock.go_on(1.2)
        await one.take(slot="forgotten")
        await rate_limit_store.forget(SlotRequest(KIS, one.limits, "forgotten", 1, 1.0))
        assert await both.used() == [0, 3, 3]
        assert isinstance(await both.take(), Refused)

    async def test_a_day_that_was_counted_before_is_not_begun_anew(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        """As when somebody sets the calendar a day ahead, and back."""
        kis = _Account(rate_limit_store, PerDay(4))
        for day, used in (0, 2), (1, 1), (0, 4), (1, 2):
            clock.set(NOON_IN_SEOUL + timedelta(days=day))
            for number in range(2 if used == 2 and not day else 1):
                await kis.take(slot=f"{day} {used} {number}")
                await kis.leave(f"{day} {used} {number}")
            assert await kis.used() == [used]
        clock.set(NOON_IN_SEOUL)
        assert isinstance(await kis.take(), Exhausted)

    async def test_who_is_refused_knows_when_to_ask_again(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(3))
        for number in range(3):
            await kis.take(slot=f"of {number}")
            clock.go_on(0.1)
            await kis.leave(f"of {number}")
        assert await kis.take() == Refused(800_001)
        assert await kis.take(2) == Refused(900_001)
        clock.go_on(0.800_001)
        assert isinstance(await kis.take(), Granted)
        assert await kis.take() == Refused(100_000)

    async def test_what_is_in_flight_is_free_in_a_window_at_the_earliest(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1))
        await kis.take()
        clock.go_on(10)
        assert await kis.take() == Refused(1_000_001)

    async def test_a_slot_of_a_process_that_died_counts_until_its_lease_ends(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1))
        await kis.take(longest=30)
        clock.go_on(30.5)
        assert await kis.take() == Refused(500_001)
        clock.go_on(0.500_001)
        assert isinstance(await kis.take(), Granted)

    async def test_who_leaves_after_the_lease_counts_from_then(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1))
        await kis.take(longest=1, slot="slow")
        clock.go_on(10)
        await kis.leave("slow")
        assert await kis.take() == Refused(1_000_001)

    async def test_counted_from_entering_with_a_margin(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1, counts="entering", margin=0.2))
        await kis.take(slot="a")
        assert await kis.take() == Refused(1_200_001)
        clock.go_on(1.200_001)
        assert isinstance(await kis.take(), Granted)

    async def test_leaving_does_not_change_when_a_slot_entered(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1, counts="entering"))
        await kis.take(slot="a")
        clock.go_on(0.9)
        await kis.leave("a")
        assert await kis.take() == Refused(100_001)
        clock.go_on(0.100_001)
        assert isinstance(await kis.take(), Granted)

    async def test_costs_add_up(self, rate_limit_store: RateLimitStore) -> None:
        kis = _Account(rate_limit_store, PerSecond(10), PerDay(100))
        assert (await kis.take(7)).remaining == 3
        assert isinstance(await kis.take(4), Refused)
        assert (await kis.take(3)).remaining == 0
        assert await kis.used() == [10, 10]

    async def test_none_of_several_limits_is_charged_if_another_refuses(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(2), PerMinute(5), PerDay(7))
        for _ in range(2):
            await kis.take()
        assert isinstance(await kis.take(), Refused)
        assert await kis.used() == [2, 2, 2]
        by_day = _Account(rate_limit_store, PerDay(1), PerSecond(5), key=LimitKey("other"))
        await by_day.take()
        assert isinstance(await by_day.take(), Exhausted)
        assert await by_day.used() == [1, 1]

    async def test_the_longest_wait_of_several_limits(
        self, rate_limit_store: RateLimitStore
    ) -> None:
        kis = _Account(rate_limit_store, PerMinute(1), PerSecond(1))
        await kis.take()
        assert await kis.take() == Refused(60_000_001)

    async def test_a_day_begins_at_midnight_in_its_zone(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(2, timezone="Asia/Seoul"))
        midnight = datetime(2026, 11, 27, 15, tzinfo=UTC)
        clock.set(midnight - timedelta(seconds=10))
        for name in "ab":
            assert (await kis.take(slot=name)).resets_at == microseconds_of(midnight)
            await kis.leave(name)
        spent = await kis.take()
        assert isinstance(spent, Exhausted)
        assert spent.resets_at == microseconds_of(midnight)
        clock.set(midnight - timedelta(microseconds=1))
        assert isinstance(await kis.take(), Exhausted)
        clock.set(midnight)
        granted = await kis.take()
        assert granted == Granted(1, microseconds_of(midnight + timedelta(days=1)))

    async def test_days_of_several_zones_count_each(self, rate_limit_store: RateLimitStore) -> None:
        kis = _Account(rate_limit_store, PerDay(4), PerDay(3, timezone="Asia/Seoul"))
        assert (await kis.take()).remaining == 2
        assert await kis.used() == [1, 1]
        # Also for who has been told of one of them only.
        others = _Account(rate_limit_store, PerDay(9, timezone="Asia/Seoul"))
        await others.take(2, slot="of others")
        assert await kis.used() == [3, 3]
        assert isinstance(await kis.take(), Exhausted)

    async def test_quotas_of_several_zones_are_there_again_when_the_last_begins(
        self, rate_limit_store: RateLimitStore
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(1, timezone="Asia/Seoul"), PerDay(1))
        await kis.take()
        spent = await kis.take()
        assert isinstance(spent, Exhausted)
        assert spent.resets_at == microseconds_of(datetime(2026, 11, 28, tzinfo=UTC))
        assert spent.limit == PerDay(1)

    async def test_what_is_under_way_at_midnight_counts_on_both_days(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(2, timezone="Asia/Seoul"))
        midnight = datetime(2026, 11, 27, 15, tzinfo=UTC)
        clock.set(midnight - timedelta(seconds=1))
        await kis.take(slot="early")
        await kis.take(slot="under way")
        await kis.leave("early")
        clock.set(midnight + timedelta(seconds=1))
        await kis.leave("under way")
        assert isinstance(await kis.take(), Granted)
        assert isinstance(await kis.take(), Exhausted)

    async def test_what_is_undone_after_midnight_and_its_lease_takes_nothing_of_the_day(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(2, timezone="Asia/Seoul"), PerMinute(9))
        clock.set(datetime(2026, 11, 27, 14, 59, 58, tzinfo=UTC))
        await kis.take(slot="of yesterday", longest=1)
        clock.go_on(3)
        assert isinstance(await kis.take(), Granted)
        await rate_limit_store.forget(SlotRequest(KIS, kis.limits, "of yesterday", 1, 1.0))
        assert await kis.used() == [1, 1]

    async def test_what_is_undone_after_its_lease_stays_counted_on_its_day(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(2), PerMinute(9))
        await kis.take(slot="late", longest=1)
        clock.go_on(3)
        await rate_limit_store.forget(SlotRequest(KIS, kis.limits, "late", 1, 1.0))
        assert await kis.used() == [1, 0]

    async def test_a_day_of_25_hours_is_one_day(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(1, timezone="America/New_York"))
        clock.set(datetime(2026, 11, 1, 4, tzinfo=UTC))  # midnight; clocks go back at 06:00 UTC
        await kis.take(slot="a")
        await kis.leave("a")
        clock.set(datetime(2026, 11, 2, 4, 59, 59, tzinfo=UTC))
        assert isinstance(await kis.take(), Exhausted)
        clock.set(datetime(2026, 11, 2, 5, tzinfo=UTC))
        assert isinstance(await kis.take(), Granted)

    async def test_days_without_any_request_pass(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(1), PerSecond(1))
        await kis.take(slot="a")
        await kis.leave("a")
        clock.go_on(86_400)
        assert isinstance(await kis.take(), Granted)

    async def test_a_clock_that_is_set_back_gives_nothing_away_and_holds_nobody_for_long(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1))
        await kis.take(slot="a")
        await kis.leave("a")
        clock.go_on(-3_600)
        answer = await kis.take()
        assert isinstance(answer, Refused)
        assert answer.wait <= 3_000_001
        clock.go_on(answer.wait / SECOND)
        assert isinstance(await kis.take(), Granted)
        by_day = _Account(rate_limit_store, PerDay(1, timezone="Asia/Seoul"), key=LimitKey("day"))
        assert isinstance(await by_day.take(slot="a"), Granted)
        await by_day.leave("a")
        await rate_limit_store.forget(SlotRequest(by_day.key, by_day.limits, "of nobody", 1, 1.0))
        clock.go_on(-86_400)
        assert isinstance(await by_day.take(), Exhausted)

    async def test_what_was_not_used_is_undone(self, rate_limit_store: RateLimitStore) -> None:
        kis = _Account(rate_limit_store, PerSecond(1), PerDay(1))
        await kis.take(slot="mine")
        await rate_limit_store.forget(SlotRequest(KIS, kis.limits, "mine", 1, 1.0))
        assert await kis.used() == [0, 0]
        assert isinstance(await kis.take(), Granted)
        await rate_limit_store.forget(SlotRequest(KIS, kis.limits, "of nobody", 1, 1.0))
        assert await kis.used() == [1, 1]

    async def test_a_call_that_is_repeated_counts_once(
        self, rate_limit_store: RateLimitStore
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1), PerDay(5))
        assert isinstance(await kis.take(slot="mine"), Granted)
        assert isinstance(await kis.take(slot="mine"), Granted)
        assert await kis.used() == [1, 1]

    async def test_a_call_that_is_repeated_after_its_lease_finds_the_first_counted(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(1))
        await kis.take(slot="mine", longest=1)
        clock.go_on(1.5)
        assert await kis.take(slot="mine") == Refused(500_001)
        clock.go_on(0.500_001)
        assert isinstance(await kis.take(slot="mine"), Granted)

    async def test_accounts_and_names_count_for_themselves(
        self, rate_limit_store: RateLimitStore
    ) -> None:
        keys = [LimitKey("kis", "a"), LimitKey("kis", "둘째 계좌"), LimitKey("ls"), LimitKey("kis")]
        for key in keys:
            assert isinstance(
                await _Account(rate_limit_store, PerSecond(1), key=key).take(), Granted
            )
        assert list(await rate_limit_store.accounts("kis")) == ["", "a", "둘째 계좌"]
        assert list(await rate_limit_store.accounts("unknown")) == []

    async def test_looking_changes_nothing(
        self, rate_limit_store: RateLimitStore, clock: SetClock
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(3), PerDay(9, timezone="Asia/Seoul"))
        await kis.take(2)
        state = await rate_limit_store.state(KIS, kis.limits)
        assert (state.in_flight, state.remaining) == (2, 1)
        assert [each.remaining for each in state.limits] == [1, 7]
        assert state.limits[1].resets_at == datetime(2026, 11, 27, 15, tzinfo=UTC)
        assert await rate_limit_store.state(KIS, kis.limits) == state
        fresh = await rate_limit_store.state(LimitKey("nobody"), kis.limits)
        assert [each.used for each in fresh.limits] == [0, 0]
        assert list(await rate_limit_store.accounts("nobody")) == []

    async def test_all_at_once_get_exactly_the_limit(
        self, rate_limit_store: RateLimitStore
    ) -> None:
        kis = _Account(rate_limit_store, PerDay(20), PerSecond(500))
        answers = await asyncio.gather(*(kis.take() for _ in range(60)))
        assert sum(isinstance(each, Granted) for each in answers) == 20
        assert await kis.used() == [20, 20]

    async def test_it_can_be_used_again_after_it_was_closed(
        self, rate_limit_store: RateLimitStore
    ) -> None:
        kis = _Account(rate_limit_store, PerSecond(2))
        await kis.take()
        await rate_limit_store.close()
        await kis.take()
        assert await kis.used() == [2]

    async def test_a_reset_forgets_everything(self, rate_limit_store: RateLimitStore) -> None:
        kis = _Account(rate_limit_store, PerSecond(1), PerDay(1))
        await kis.take()
        await rate_limit_store.reset()
        assert list(await rate_limit_store.accounts("kis")) == []
        assert isinstance(await kis.take(), Granted)
