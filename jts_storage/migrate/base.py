"""What the migrations of all stores share: the way to a goal, and a log of what was done."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from traceback import walk_tb
from typing import Any, ClassVar, Final, Literal

from jts_storage._runtime.steps import MIGRATION, Ended, tell
from jts_storage._version import __version__
from jts_storage.errors import StorageError
from jts_storage.migrate import plan
from jts_storage.migrate.files import KNOWN_AS, Chain, Migration, Store, chains
from jts_storage.migrate.plan import BASE, Direction, Goal, History, LogEntry, Step
from jts_storage.migrate.reports import Event, Report, StepFinished, StepStarted, to_log

PATIENCE: Final = 60.0


class Migrations(ABC):
    """Leads one database from migration to migration of a chain.

    :param chain: the kit's own if None.
    """

    store: ClassVar[Store]

    def __init__(self, chain: Chain | None) -> None:
        self.chain = chain or chains()[0]
        self.files = self.chain.migrations(self.store)

    @abstractmethod
    async def history(self) -> History:
        """Where the database stands."""

    async def go(
        self, goal: Goal, report: Report = to_log, *, patience: float = PATIENCE
    ) -> list[Step]:
        """Do what leads to the goal; what was done.

        :raises Conflict: another runner is at it for longer than `patience` seconds.
        :raises StorageError: a migration of the service failed, with the name of its file.
        """
        if not await self.planned(goal):
            return []
        under_way = _UnderWay(report, KNOWN_AS[self.store])
        try:
            return await self._go(goal, under_way, patience)
        except Exception as failure:
            step = under_way.step
            if step is not None:
                under_way.has_failed()
            if step is None or self.chain.name == "kit":
                raise
            raise _named(failure, step) from failure

    async def planned(self, goal: Goal) -> list[Step]:
        """What leads to the goal."""
        return self.steps(await self.history(), goal)

    def steps(self, history: History, goal: Goal) -> list[Step]:
        """What leads to the goal from where a database stands."""
        return plan.steps(self.files, history, goal, self.chain)

    async def stamp(self, name: str, *, patience: float = PATIENCE) -> None:
        """Say that the database stands there, and that the files are those applied."""
        target = plan.resolve(self.files, name)
        stamped = [f for f in self.files if target is not None and f.revision <= target]
        await self._stamp(target or BASE, stamped, patience)

    async def sql(self, planned: Sequence[Step]) -> str:
        """What a person would run to take these steps.

        :raises StorageError: a migration of the service failed, with the name of its file.
        """
        try:
            return await self._sql(planned)
        except Exception as failure:
            step = _step_in(failure, planned)
            if step is None or self.chain.name == "kit":
                raise
            raise _named(failure, step) from failure

    @abstractmethod
    async def _sql(self, planned: Sequence[Step]) -> str: ...

    @abstractmethod
    async def _go(self, goal: Goal, report: Report, patience: float) -> list[Step]: ...

    @abstractmethod
    async def _stamp(self, target: str, stamped: Sequence[Migration], patience: float) -> None: ...


class _UnderWay:
    """Passes on what is reported, and remembers the step that is being taken.

    :param store: as metrics name it.
    """

    def __init__(self, report: Report, store: str) -> None:
        self._report, self._store = report, store
        self.step: Step | None = None
        self._begun = 0.0

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepStarted):
            self.step, self._begun = event.step, time.monotonic()
        self._report(event)
        if isinstance(event, StepFinished):
            self.step = None
            outcome = "applied" if event.step.direction == "up" else "taken_back"
            tell(Ended(MIGRATION, self._store, outcome, seconds=event.seconds))

    def has_failed(self) -> None:
        seconds = time.monotonic() - self._begun
        tell(Ended(MIGRATION, self._store, "failed", seconds=seconds))


def _named(failure: Exception, step: Step) -> StorageError:
    """The error of a service's migration, which says where it is from."""
    where = f"Migration failed: {step} ({step.migration.path}): "
    remedy = f"Mend {step.migration.path.name} and run the command again."
    if isinstance(failure, StorageError):
        failure.args = (f"{where}{failure.args[0]}", *failure.args[1:])
        failure.remedy = remedy  # its own is for those who call a repository
        return failure
    return StorageError(f"{where}{type(failure).__name__}: {failure}", remedy=remedy)


def _step_in(failure: Exception, planned: Sequence[Step]) -> Step | None:
    """The step whose file raised the error, or called what did."""
    frames = [frame.f_code.co_filename for frame, _ in walk_tb(failure.__traceback__)]
    return next((step for step in planned if str(step.migration.path) in frames), None)


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


def applied(log: Iterable[tuple[str, str, str, datetime]]) -> dict[str, LogEntry]:
    """The migrations that are applied.

    :param log: revision, direction, checksum and time of each line, in their order.
    """
    found: dict[str, LogEntry] = {}
    for revision, direction, checksum, at in log:
        if direction == "down":
            found.pop(revision, None)
        else:
            found[revision] = LogEntry(checksum, at if at.tzinfo else at.replace(tzinfo=UTC))
    return found
