"""Rate limits: how much may be asked of somebody else in a second, a minute, a day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import lru_cache
from math import isfinite
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from jts_storage.domain import checks
from jts_storage.errors import InvalidData

Counts: TypeAlias = Literal["leaving", "entering"]

SECOND: Final = 1_000_000
"""In microseconds, as every moment is counted here."""

LARGEST: Final = 10**9
LONGEST_NAME: Final = 64
LONGEST_ACCOUNT: Final = 128
LONGEST_LEASE: Final = 86_400.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class WindowLimit:
    """So many within any window of time, wherever the window begins.

    With ``counts="leaving"`` a slot counts from entering until a window after leaving: the far end
    never sees more, whatever the network does. With ``counts="entering"`` it counts until a window
    and `margin` seconds after entering: quicker where answers are slow, and exact only as far as no
    request takes `margin` longer to arrive than another.

    :param limit: of the sum of all costs.
    :param margin: seconds, for ``counts="entering"``.
    :raises InvalidData: a value is none of these.
    """

    WINDOW: ClassVar[int]
    UNIT: ClassVar[str]

    limit: int
    counts: Counts = field(default="leaving", kw_only=True)
    margin: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        whole(self.limit, "limit")
        if self.counts not in get_args(Counts):
            raise InvalidData('must be "leaving" or "entering"', field="counts", value=self.counts)
        seconds(self.margin, "margin")
        if self.margin and self.counts == "leaving":
            raise InvalidData(
                'needs counts="entering"',
                field="margin",
                value=self.margin,
                remedy="What is counted from leaving needs no margin.",
            )

    @property
    def span(self) -> int:
        """For how many microseconds a slot counts from the moment by which it is counted."""
        return self.WINDOW + round(self.margin * SECOND)

    def __str__(self) -> str:
        return f"{self.limit:,} a {self.UNIT}"


class PerSecond(WindowLimit):
    """So many within any second; see `WindowLimit` for `counts` and `margin`."""

    __slots__ = ()
    WINDOW = SECOND
    UNIT = "second"


class PerMinute(WindowLimit):
    """So many within any minute; see `WindowLimit` for `counts` and `margin`."""

    __slots__ = ()
    WINDOW = 60 * SECOND
    UNIT = "minute"


@dataclass(frozen=True, slots=True)
class PerDay:
    """So many in a day of the calendar, which begins at midnight of its zone.

    What is under way at midnight counts on both days: nobody knows on which it arrives.

    :param limit: of the sum of all costs.
    :param timezone: by its name, such as ``"Asia/Seoul"``.
    :raises InvalidData: a value is none of these.
    """

    UNIT: ClassVar[str] = "day"

    limit: int
    timezone: str = field(default="UTC", kw_only=True)

    def __post_init__(self) -> None:
        whole(self.limit, "limit")
        zone(self.timezone)

    def day(self, wall: int) -> Day:
        """The day in which a moment lies; the one asked for last is kept."""
        return _day(self.timezone, wall)

    def day_at(self, wall: int) -> Day:
        """The same of a moment that is not the present."""
        return _day_at(self.timezone, wall)

    def __str__(self) -> str:
        return f"{self.limit:,} a day in {self.timezone}"


Limit: TypeAlias = WindowLimit | PerDay


@dataclass(frozen=True, slots=True)
class Day:
    """A day of the calendar, from its first moment until that of the next."""

    start: int
    end: int


class RateLimits(Mapping[str, tuple[Limit, ...]]):
    """The limits of each name: ``RateLimits(kis=[PerSecond(15), PerDay(20_000)])``.

    A name is what is asked, such as a broker; each of its accounts has the limits for itself. All
    limits of a name hold at once. Names that are no words of Python are given as a mapping.

    :raises InvalidData: a name or a limit is none, or a name has two of one kind.
    """

    def __init__(
        self, given: Mapping[str, Iterable[Limit]] | None = None, /, **names: Iterable[Limit]
    ) -> None:
        known = {**(given or {}), **names}
        self._limits = {name: _limits(name, of) for name, of in known.items()}

    def __getitem__(self, name: str) -> tuple[Limit, ...]:
        return self._limits[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)

    def __repr__(self) -> str:
        return f"RateLimits({self._limits!r})"

    def __hash__(self) -> int:
        return hash(frozenset(self._limits.items()))

    def of(self, name: str, cost: int = 1) -> tuple[Limit, ...]:
        """The limits of a name, all of which allow `cost` at least once.

        :raises InvalidData: there are none of that name, or they never allow it.
        """
        limits = self._limits.get(name)
        if limits is None:
            close = get_close_matches(str(name), self._limits, n=1)
            raise InvalidData(
                "has no rate limits",
                field="name",
                value=name,
                remedy=f"Did you mean {close[0]!r}?"
                if close
                else "Set them with StorageSettings(rate_limits=...) or JTS_RATE_LIMITS.",
            )
        whole(cost, "cost")
        for limit in limits:
            if cost > limit.limit:
                raise InvalidData(
                    f"is above the limit of {name!r}, which is {limit}",
                    field="cost",
                    value=cost,
                    remedy="It would never be allowed: ask for less at once.",
                )
        return limits


@dataclass(frozen=True, slots=True)
class LimitKey:
    """Whose limits: a name, and one of its accounts."""

    name: str
    account: str = ""

    def __post_init__(self) -> None:
        _name(self.name)
        if self.account != "":
            checks.name(self.account, "account", longest=LONGEST_ACCOUNT)

    def __str__(self) -> str:
        return f"{self.name} ({self.account})" if self.account else self.name


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to ask once, or `cost` times, until the block is left.

    :ivar waited: seconds.
    :ivar remaining: how much may still be asked now: the least that any limit leaves.
    :ivar resets_at: when the quota of the day begins anew; None without such a limit.
    """

    name: str
    account: str
    cost: int
    waited: float
    remaining: int
    resets_at: datetime | None


@dataclass(frozen=True, slots=True)
class LimitState:
    """How much of one limit counts now.

    :ivar resets_at: when the quota of the day begins anew; None for a window.
    """

    limit: Limit
    used: int
    resets_at: datetime | None = None

    @property
    def remaining(self) -> int:
        return max(0, self.limit.limit - self.used)


@dataclass(frozen=True, slots=True)
class RateLimitState:
    """What counts of an account now.

    :ivar in_flight: the costs of those who have entered and not left.
    :ivar waiting: how many of this process wait to enter.
    """

    name: str
    account: str
    limits: tuple[LimitState, ...]
    in_flight: int
    waiting: int = 0

    @property
    def remaining(self) -> int:
        return min(each.remaining for each in self.limits)


def moment_of(microseconds: int) -> datetime:
    return _EPOCH + microseconds * _MICROSECOND


def microseconds_of(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def whole(value: object, name: str) -> int:
    """
    :raises InvalidData: it is no whole number above 0.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= LARGEST:
        raise InvalidData(f"must be a whole number from 1 to {LARGEST:,}", field=name, value=value)
    return value


def seconds(value: Any, name: str, *, positive: bool = False) -> float:
    """
    :raises InvalidData: it is no such number of seconds.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not isfinite(value) or value < 0 or (positive and not value):
        wanted = "above 0" if positive else "of at least 0"
        raise InvalidData(f"must be a number {wanted}, in seconds", field=name, value=value)
    return float(value)


def lease(value: Any) -> float:
    """
    :raises InvalidData: it is no number of seconds for which a slot may be held.
    """
    known = seconds(value, "longest", positive=True)
    if known > LONGEST_LEASE:
        raise InvalidData("must be at most a day, in seconds", field="longest", value=value)
    return known


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """
    :raises InvalidData: there is no zone of that name.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, TypeError, LookupError) as exc:
        raise InvalidData(
            "must be the name of a time zone, such as Asia/Seoul", field="timezone", value=name
        ) from exc


_known_days: dict[str, Day] = {}


def _day(timezone: str, wall: int) -> Day:
    known = _known_days.get(timezone)
    if known is None or not known.start <= wall < known.end:
        known = _known_days[timezone] = _day_at(timezone, wall)
    return known


def _day_at(timezone: str, wall: int) -> Day:
    date = moment_of(wall).astimezone(zone(timezone)).date()
    return Day(_first(timezone, date), _first(timezone, date + timedelta(days=1)))


def _first(timezone: str, date: Any) -> int:
    """The first moment of a date: where clocks skip midnight, or strike it twice, too."""
    midnight = datetime(date.year, date.month, date.day, tzinfo=zone(timezone))
    return microseconds_of(midnight.astimezone(UTC))


def _name(name: object) -> str:
    if (
        not isinstance(name, str)
        or not 0 < len(name) <= LONGEST_NAME
        or not name.isprintable()
        or any(letter in " {}:=;,@/" for letter in name)
    ):
        raise InvalidData("must be a word without spaces and :=;,@/{}", field="name", value=name)
    return name


def _limits(name: str, given: Iterable[Limit]) -> tuple[Limit, ...]:
    _name(name)
    limits = (given,) if isinstance(given, WindowLimit | PerDay) else tuple(given)
    for limit in limits:
        if not isinstance(limit, PerSecond | PerMinute | PerDay):
            raise InvalidData("must be PerSecond, PerMinute or PerDay", field=name, value=limit)
    kinds = [(type(each), each.timezone if isinstance(each, PerDay) else "") for each in limits]
    if not limits or len(set(kinds)) < len(kinds):
        raise InvalidData(
            "must have at least one limit, and one of each kind", field=name, value=limits
        )
    return limits
