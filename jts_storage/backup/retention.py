"""Which backups are kept: some of the last, and one of each day, week, month and year."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta

from jts_storage.domain import checks


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept; a backup that any rule keeps stays.

    :param last: so many of the newest.
    :param daily: the newest of each of so many days that have one; the others likewise.
    :param days: all that are younger.
    """

    last: int = 2
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    days: int = 30

    def __post_init__(self) -> None:
        for each in fields(self):
            checks.whole(getattr(self, each.name), each.name, below=2**31)

    def kept(self, backups: Mapping[str, datetime], now: datetime) -> dict[str, tuple[str, ...]]:
        """The backups that stay, each with the rules that keep it, the newest first.

        :param backups: when each was made.
        """
        newest = sorted(backups, key=lambda each: (backups[each], each), reverse=True)
        reasons: dict[str, list[str]] = {}

        def keep(identity: str, why: str) -> None:
            reasons.setdefault(identity, []).append(why)

        for identity in newest[: self.last]:
            keep(identity, "last")
        for identity in newest:
            if now - backups[identity] < timedelta(days=self.days):
                keep(identity, "days")
        for name, period in _PERIODS.items():
            for identity in _firsts(newest, backups, period)[: getattr(self, name)]:
                keep(identity, name)
        return {each: tuple(reasons[each]) for each in newest if each in reasons}


def _firsts(
    newest: Iterable[str], backups: Mapping[str, datetime], period: Callable[[datetime], object]
) -> list[str]:
    """The newest backup of each period, the newest period first."""
    found: dict[object, str] = {}
    for identity in newest:
        found.setdefault(period(backups[identity]), identity)
    return list(found.values())


_PERIODS: Mapping[str, Callable[[datetime], object]] = {
    "daily": lambda at: at.date(),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}
