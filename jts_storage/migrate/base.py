"""What the migrations of all stores share: the way to a goal, and a log of what was done."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from jts_storage._version import __version__
from jts_storage.migrate.files import Migration, Store, discover, root
from jts_storage.migrate.plan import BASE, Direction, Entry, Goal, History, Step, resolve, steps
from jts_storage.migrate.reports import Report, StepFinished, StepStarted, to_log

PATIENCE: Final = 60.0


class Migrations(ABC):
    """Leads one database from migration to migration.

    :param folder: where migrations are, if not the kit's own.
    """

    store: ClassVar[Store]

    def __init__(self, folder: Path | None) -> None:
        self._folder = (folder or root()) / self.store
        self.files = discover(self.store, folder)

    @abstractmethod
    async def history(self) -> History:
        """Where the database stands."""

    async def go(
        self, goal: Goal, report: Report = to_log, *, patience: float = PATIENCE
    ) -> list[Step]:
        """Do what leads to the goal; what was done.

        :raises Conflict: another runner is at it for longer than `patience` seconds.
        """
        if not steps(self.files, await self.history(), goal):
            return []
        return await self._go(goal, report, patience)

    async def stamp(self, name: str, *, patience: float = PATIENCE) -> None:
        """Say that the database stands there, and that the files are those applied."""
        target = resolve(self.files, name)
        stamped = [f for f in self.files if target is not None and f.revision <= target]
        await self._stamp(target or BASE, stamped, patience)

    @abstractmethod
    async def sql(self, planned: Sequence[Step]) -> str:
        """What a person would run to take these steps."""

    @abstractmethod
    async def _go(self, goal: Goal, report: Report, patience: float) -> list[Step]: ...

    @abstractmethod
    async def _stamp(self, target: str, stamped: Sequence[Migration], patience: float) -> None: ...


@contextmanager
def told(step: Step, report: Report) -> Iterator[None]:
    """Tell when a step begins and when it is done."""
    report(StepStarted(step))
    began = time.monotonic()
    yield
    report(StepFinished(step, time.monotonic() - began))


def log_values(migration: Migration, direction: Direction | Literal["stamp"]) -> dict[str, Any]:
    """What the log of a database says of a migration, whatever the store."""
    return {
        "revision": migration.revision,
        "title": migration.title,
        "direction": direction,
        "checksum": migration.checksum,
        "kit": __version__,
    }


def applied(log: Iterable[tuple[str, str, str, datetime]]) -> dict[str, Entry]:
    """The migrations that are applied.

    :param log: revision, direction, checksum and time of each line, in their order.
    """
    found: dict[str, Entry] = {}
    for revision, direction, checksum, at in log:
        if direction == "down":
            found.pop(revision, None)
        else:
            found[revision] = Entry(checksum, at if at.tzinfo else at.replace(tzinfo=UTC))
    return found
