"""What counts against rate limits: pure arithmetic over moments in microseconds.

The proof that the far end never sees more than the limit, however long requests travel. A request
arrives between entering and leaving. Of any `limit` + 1 arrivals within one window, take the one
that entered last: each other had arrived at most a window before or after it, so it was in flight,
or had left less than a window ago, when that one entered. All of them were counted then.

`redis/rate_limits.lua` does the same within Redis; the contract suite holds both to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from jts_storage.domain.rate_limits import (
    SECOND,
    Limit,
    LimitKey,
    LimitState,
    PerDay,
    RateLimitState,
    WindowLimit,
    moment_of,
)

ENTERED, END, LEASE, COST, HAS_LEFT = range(5)
"""Places in what is kept of a slot. The end is when it left, or else when its lease is over."""

START, USED = range(2)
"""Places in what is kept of a day; the same of the day that was counted before it follows."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by a clock that no adjustment moves, and by the calendar's."""

    now: int
    wall: int


Clock: TypeAlias = Callable[[], Moment]

_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""All processes of a machine have it in common, and nobody sets it. It begins anew with the
machine, which does no harm: what was written before counts for a window then, at most."""


def present() -> Moment:
    return Moment(time.clock_gettime_ns(_STEADY) // 1_000, time.time_ns() // 1_000)


@dataclass(frozen=True, slots=True)
class Granted:
    """A slot was taken.

    :ivar remaining: the least that any limit leaves.
    :ivar resets_at: when the first day ends of those that are limited, in microseconds.
    """

    remaining: int
    resets_at: int | None


@dataclass(frozen=True, slots=True)
class Refused:
    """No slot is free.

    :ivar wait: microseconds before which none can be.
    """

    wait: int


@dataclass(frozen=True, slots=True)
class Exhausted:
    """The quota of a day is used up.

    :ivar resets_at: in microseconds since 1970.
    """

    resets_at: int
    limit: PerDay


@dataclass(frozen=True, slots=True)
class SlotRequest:
    """A slot of all limits of an account, as stores are asked for it.

    :param name: one that no other slot has.
    :param longest: after so many seconds it counts as left.
    """

    key: LimitKey
    limits: Sequence[Limit]
    name: str
    cost: int
    longest: float

    @property
    def lease(self) -> int:
        """How long it may be held, in microseconds."""
        return lease_of(self.longest)


@dataclass(slots=True)
class Book:
    """The slots and the days of one account.

    :ivar days: for each zone the start of the day, and what is used of it; and the same of the day
        that was counted before it, if any was.
    :ivar span: microseconds; the longest window of any who have asked, as it may not be the
        present one's.
    """

    slots: dict[str, list[int]] = field(default_factory=dict)
    days: dict[str, list[int]] = field(default_factory=dict)
    span: int = 0

    def take(self, asked: SlotRequest, at: Moment) -> Granted | Refused | Exhausted:
        """Take a slot of all limits, or of none.

        One of this name that is in flight was taken by a call whose answer was lost: it is undone.
        """
        limits, slot, cost, lease = asked.limits, asked.name, asked.cost, asked.lease
        self.settle(limits, at)
        if slot in self.slots and not self.slots[slot][HAS_LEFT]:
            self._undo(slot)
        spent = [
            Exhausted(each.day(at.wall).end, each)
            for each in days_of(limits)
            if self.days[each.timezone][USED] + cost > each.limit
        ]
        if spent:
            return max(spent, key=lambda each: each.resets_at)
        wait = max((self._wait(each, cost, at.now) for each in windows_of(limits)), default=0)
        if wait:
            return Refused(wait)
        self.slots[slot] = [at.now, at.now + lease, lease, cost, 0]
        for day in self.days.values():  # those that others limit, too
            day[USED] += cost
        return self._granted(limits, at)

    def leave(self, asked: SlotRequest, at: Moment) -> None:
        """Count a slot as left from now on, also one whose lease is over, or which was lost."""
        self.settle(asked.limits, at)
        known = self.slots.get(asked.name)
        entered = at.now if known is None else known[ENTERED]
        self.slots[asked.name] = [entered, at.now, asked.lease, asked.cost, 1]

    def forget(self, asked: SlotRequest, at: Moment) -> None:
        """Undo `take`: nobody has used the slot."""
        self.settle(asked.limits, at)
        if asked.name in self.slots:
            self._undo(asked.name)

    def settle(self, limits: Sequence[Limit], at: Moment) -> None:
        """Begin new days, end leases that are over, and drop what counts no more."""
        for each in self.slots.values():
            # A clock that was set back, or began anew, must not hold them for ever.
            if each[HAS_LEFT]:
                each[END] = min(each[END], at.now)
            elif each[END] <= at.now:
                each[HAS_LEFT] = 1
            else:
                each[END] = min(each[END], at.now + each[LEASE])
            each[ENTERED] = min(each[ENTERED], at.now)
        for limit in days_of(limits):
            self._begin_day(limit, at)
        self.span = max([self.span, *(each.span for each in windows_of(limits))])
        self.slots = {
            slot: each
            for slot, each in self.slots.items()
            if not each[HAS_LEFT] or (self.span and each[END] + self.span >= at.now)
        }

    def report(self, key: LimitKey, limits: Sequence[Limit], at: Moment) -> RateLimitState:
        """What counts now."""
        self.settle(limits, at)
        states = tuple(
            LimitState(each, self.days[each.timezone][USED], moment_of(each.day(at.wall).end))
            if isinstance(each, PerDay)
            else LimitState(each, self._counted(each, at.now))
            for each in limits
        )
        in_flight = sum(each[COST] for each in self.slots.values() if not each[HAS_LEFT])
        return RateLimitState(key.name, key.account, states, in_flight)

    # ---- as it is kept

    def encoded(self) -> list[Any]:
        return [[[slot, *values] for slot, values in self.slots.items()], self.days, self.span]

    @classmethod
    def decoded(cls, kept: list[Any]) -> Book:
        slots = {slot: [int(each) for each in values] for slot, *values in kept[0]}
        return cls(slots, {**kept[1]}, int(kept[2]) if len(kept) > 2 else 0)

    # ---- parts

    def _undo(self, slot: str) -> None:
        gone = self.slots.pop(slot)
        if gone[HAS_LEFT]:  # perhaps before midnight, and not counted on this day
            return
        for day in self.days.values():
            day[USED] = max(0, day[USED] - gone[COST])

    def _begin_day(self, limit: PerDay, at: Moment) -> None:
        start = limit.day(at.wall).start
        known = self.days.setdefault(limit.timezone, [start, 0])
        counted, previous = known[:2], known[2:]
        before = previous[USED] if previous and previous[START] == start else None
        if counted[START] > start:
            # The calendar was set back. What counts of the later day may have been asked on this.
            if before is not None:
                self.days[limit.timezone] = [start, before + counted[USED], *counted]
        elif counted[START] < start:
            midnight = at.now - (at.wall - start)
            carried = sum(each[COST] for each in self.slots.values() if each[END] > midnight)
            self.days[limit.timezone] = [start, (before or 0) + carried, *counted]

    def _counted(self, limit: WindowLimit, now: int) -> int:
        return sum(each[COST] for each in self.slots.values() if _free_at(each, limit, now) > now)

    def _wait(self, limit: WindowLimit, cost: int, now: int) -> int:
        """Microseconds before which the limit cannot allow `cost`; 0 if it does now."""
        free = sorted((_free_at(each, limit, now), each[COST]) for each in self.slots.values())
        left = sum(each for at, each in free if at > now) + cost - limit.limit
        if left <= 0:
            return 0
        for at, each in free:
            if at > now:
                left -= each
                if left <= 0:
                    return at - now
        raise AssertionError("a cost is at most the limit")

    def _granted(self, limits: Sequence[Limit], at: Moment) -> Granted:
        remaining = min(
            each.limit - self.days[each.timezone][USED]
            if isinstance(each, PerDay)
            else each.limit - self._counted(each, at.now)
            for each in limits
        )
        ends = (each.day(at.wall).end for each in days_of(limits))
        return Granted(max(0, remaining), min(ends, default=None))


def days_of(limits: Iterable[Limit]) -> list[PerDay]:
    return [each for each in limits if isinstance(each, PerDay)]


def windows_of(limits: Iterable[Limit]) -> list[WindowLimit]:
    return [each for each in limits if isinstance(each, WindowLimit)]


def lease_of(seconds: float) -> int:
    return max(1, round(seconds * SECOND))


def _free_at(slot: list[int], limit: WindowLimit, now: int) -> int:
    """The first microsecond in which a slot does not count; if it is in flight, at the earliest."""
    if limit.counts == "entering":
        return slot[ENTERED] + limit.span + 1
    return (slot[END] if slot[HAS_LEFT] else now) + limit.span + 1
