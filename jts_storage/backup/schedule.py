"""When backups are made: what a line of cron says, in UTC."""

from __future__ import annotations

import asyncio
import logging
import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from jts_storage._runtime.tasks import stopped
from jts_storage.domain import checks
from jts_storage.errors import InvalidData, StorageError
from jts_storage.settings.backup import BackupConfig

if TYPE_CHECKING:
    from jts_storage.backup.manager import BackupManager
    from jts_storage.backup.results import BackupResult
    from jts_storage.backup.retention import Retention

_FIELDS: Final = {
    "minute": (0, 59),
    "hour": (0, 23),
    "day of month": (1, 31),
    "month": (1, 12),
    "day of week": (0, 7),
}
_DAYS: Final = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_MONTHS: Final = (
    *("", "jan", "feb", "mar", "apr", "may", "jun"),
    *("jul", "aug", "sep", "oct", "nov", "dec"),
)
_YEARS: Final = 8
"""29 February comes once in so many years at worst."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Moments that a line of cron names; of the two kinds of days either counts, as in cron.

    :param line: five fields, such as ``"0 2 * * *"``: every day at two.
    :raises InvalidData: it is no such line.
    """

    line: str

    def __post_init__(self) -> None:
        self._parsed()

    def next_after(self, moment: datetime) -> datetime:
        """Return the first moment later than `moment`.

        :raises InvalidData: there is none.
        """
        minutes, hours, *_ = self._parsed()
        day = checks.utc(moment.replace(second=0, microsecond=0), "moment") + timedelta(minutes=1)
        last = day + timedelta(days=366 * _YEARS)
        while day < last:
            if self._is_day(day):
                for hour in hours:
                    for minute in minutes:
                        found = day.replace(hour=hour, minute=minute)
                        if found >= day:
                            return found
            day = day.replace(hour=0, minute=0) + timedelta(days=1)
        raise InvalidData("names no moment that ever comes", field="schedule", value=self.line)

    def _is_day(self, day: datetime) -> bool:
        _, _, days, months, weekdays = self._parsed()
        if day.month not in months:
            return False
        of_month, of_week = day.day in days, day.isoweekday() % 7 in {each % 7 for each in weekdays}
        return of_month or of_week if self._has_both else of_month and of_week

    @property
    def _has_both(self) -> bool:
        """Whether both kinds of days are said."""
        fields = self.line.split()
        return not fields[2].startswith("*") and not fields[4].startswith("*")

    def _parsed(self) -> list[list[int]]:
        fields = self.line.split()
        if len(fields) != len(_FIELDS):
            raise InvalidData("must have five fields", field="schedule", value=self.line)
        return [
            _values(text, name, *bounds)
            for text, (name, bounds) in zip(fields, _FIELDS.items(), strict=True)
        ]

    def cron_line(self, command: Sequence[str], folder: Path | None = None) -> str:
        """Return the line of a crontab that runs a command then, in a folder."""
        there = "" if folder is None else f"cd {shlex.quote(str(folder))} && "
        return f"{self.line} {(there + shlex.join(command)).replace('%', chr(92) + '%')}"

    def systemd_units(
        self, command: Sequence[str], folder: Path | None = None, user: str | None = None
    ) -> tuple[str, str]:
        """Return a service and a timer that run a command then, in a folder and as a user."""
        when = "\n".join(f"OnCalendar={each}" for each in self._calendar())
        named = {"User": user, "WorkingDirectory": folder, "ExecStart": shlex.join(command)}
        lines = [f"{name}={each}" for name, each in named.items() if each is not None]
        service = (
            "[Unit]\nDescription=Backup of jts_storage\n\n[Service]\nType=oneshot\n"
            + "".join(f"{each.replace('%', '%%')}\n" for each in lines)
        )
        timer = (
            f"[Unit]\nDescription=Backup of jts_storage\n\n[Timer]\n{when}\nPersistent=true\n\n"
            "[Install]\nWantedBy=timers.target\n"
        )
        return service, timer

    def _calendar(self) -> list[str]:
        minutes, hours, days, months, weekdays = self._parsed()
        fields = self.line.split()
        clock = f"{_listed(hours, 24)}:{_listed(minutes, 60)}:00 UTC"
        month = _listed(months, 12)
        date = f"*-{month}-{_listed(days, 31)}"
        named = ",".join(_DAYS[each] for each in sorted({each % 7 for each in weekdays}))
        if fields[4].startswith("*") and len(set(weekdays)) >= len(_DAYS):
            return [f"{date} {clock}"]
        if self._has_both:
            return [f"{date} {clock}", f"{named} *-{month}-* {clock}"]
        return [f"{named} {date} {clock}"]


def _listed(values: Sequence[int], every: int) -> str:
    return "*" if len(values) == every else ",".join(f"{each:02}" for each in values)


def _values(text: str, name: str, first: int, last: int) -> list[int]:
    """What a field of a line allows."""
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step = part.partition("/")
        low, dash, high = span.partition("-")
        try:
            by = int(step) if slash else 1
            begin = first if span == "*" else _number(low, name)
            end = last if span == "*" or (slash and not dash) else begin
            end = _number(high, name) if dash else end
        except ValueError:
            by = begin = end = -1
        if by < 1 or not first <= begin <= end <= last:
            raise InvalidData(f"has {part!r}, which is no {name}", field="schedule", value=text)
        found.update(range(begin, end + 1, by))
    return sorted(found)


def _number(text: str, name: str) -> int:
    names = {"month": _MONTHS, "day of week": tuple(map(str.lower, _DAYS))}.get(name, ())
    if text.lower() in names and text:
        return names.index(text.lower())
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


class BackupSchedule:
    """Makes backups on schedule within a service: ``async with BackupSchedule(manager):``.

    What fails is told to the log and to `told`, and the next one is made all the same.

    :param schedule: as ``JTS_BACKUP_SCHEDULE`` says if not given.
    :param retention: what is kept after each; None removes nothing.
    :param told: called with each result, or with what went wrong.
    :param now: the clock.
    """

    def __init__(
        self,
        manager: BackupManager,
        schedule: Schedule | str | None = None,
        *,
        retention: Retention | None = None,
        told: Callable[[BackupResult | StorageError], None] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._manager, self._retention = manager, retention
        line = schedule or BackupConfig.from_env().schedule
        self._schedule = Schedule(line) if isinstance(line, str) else line
        self._told, self._now, self._sleep = told, now, sleep
        self._task: asyncio.Task[None] | None = None

    @property
    def schedule(self) -> Schedule:
        """When they are made."""
        return self._schedule

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        task, self._task = self._task, None
        if task is not None:
            await stopped(task)

    async def _run(self) -> None:
        while True:
            due = self._schedule.next_after(self._now())
            # In short steps: a machine that slept, or whose clock was set, is noticed.
            while (left := (due - self._now()).total_seconds()) > 0:
                await self._sleep(min(left, 60.0))
            await self._once()

    async def _once(self) -> None:
        try:
            result = await self._manager.create_backup(note="on schedule")
        except StorageError as exc:
            log.error("A backup on schedule was not made: %s", exc)
            self._tell(exc)
            return
        except Exception as exc:
            # Nobody foresaw it; without the next ones nobody would notice before they are needed.
            log.exception("A backup on schedule was not made.")
            self._tell(StorageError(f"A backup on schedule was not made: {exc!r}"))
            return
        for fault in result.faults:
            log.error("Backup %s is damaged: %s", result.backup_id, fault)
        if result.status == "success":
            await self._prune()
        self._tell(result)

    async def _prune(self) -> None:
        if self._retention is None:
            return
        try:
            await self._manager.prune(self._retention)
        except Exception as exc:
            # The backup is there all the same; what was not removed goes with the next prune.
            log.warning("Backups that are due to go were not removed: %s", exc, exc_info=True)

    def _tell(self, outcome: BackupResult | StorageError) -> None:
        if self._told is None:
            return
        try:
            self._told(outcome)
        except Exception:
            # It is the service's own; the next backup is made all the same.
            log.exception("What was to hear of a backup failed.")
