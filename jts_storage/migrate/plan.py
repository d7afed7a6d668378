"""What is to be done: from where a database stands to where it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from jts_storage.errors import InvalidConfiguration, SchemaDrift
from jts_storage.migrate.files import Chain, ChainName, Migration, Phase, Store

Direction = Literal["up", "down"]

BASE: Final = "base"
"""The name of the place before the first migration."""

HEAD: Final = "head"
"""The name of the place after the last one."""


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What the log of a database says of a migration that is applied in it."""

    checksum: str
    at: datetime


@dataclass(frozen=True, slots=True)
class History:
    """Where a database stands.

    :param current: the latest migration that is applied, if any is.
    :param entries: what is known of those that are; a stamp by other hands leaves none.
    """

    current: str | None = None
    entries: Mapping[str, LogEntry] = field(default_factory=dict)

    def is_applied(self, migration: Migration) -> bool:
        return self.current is not None and migration.revision <= self.current

    def is_changed(self, migration: Migration) -> bool:
        """Whether the file is not the one that was applied."""
        entry = self.entries.get(migration.revision)
        return (
            self.is_applied(migration)
            and entry is not None
            and entry.checksum != migration.checksum
        )

    def is_unknown(self, files: Sequence[Migration]) -> bool:
        """Whether the database was led further than these files go."""
        return self.current is not None and self.current not in {f.revision for f in files}


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a database should go.

    :param to: a revision, or `BASE`; None means all the way up, or one step down.
    :param phase: ``"pre"`` stops before the first migration that must wait for new code.
    :param chain: the only chain that is to move; None means both.
    """

    direction: Direction = "up"
    to: str | None = None
    phase: Phase | None = None
    chain: ChainName | None = None

    @property
    def is_one_step(self) -> bool:
        """Whether it takes back the latest migration of each store."""
        return self.direction == "down" and self.to is None


@dataclass(frozen=True, slots=True)
class Step:
    """One migration in one direction."""

    migration: Migration
    direction: Direction

    @property
    def store(self) -> Store:
        return self.migration.store

    @property
    def target(self) -> str:
        """Where the database stands after it, by Alembic's names."""
        if self.direction == "up":
            return self.migration.revision
        before = int(self.migration.revision) - 1
        return f"{before:04}" if before else BASE

    def __str__(self) -> str:
        migration = self.migration
        chain = f" {migration.chain.label}" if migration.chain.label else ""
        return f"{self.store}{chain} {self.direction} {migration.revision} {migration.title}"


def steps(
    files: Sequence[Migration], history: History, goal: Goal, chain: Chain | None = None
) -> list[Step]:
    """What leads to the goal; nothing when the database is there or beyond.

    :param chain: what the files are of, to be named in errors; the kit's if None.
    :raises SchemaDrift: the database stands where no file is: a newer version migrated it.
    :raises InvalidConfiguration: the goal names no migration.
    """
    if history.is_unknown(files):
        where = ", which this version of the kit does not have"
        if chain is not None and chain.name == "service":
            where = f" of the service, which is not in {chain.folder}"
        raise SchemaDrift(
            f"The database stands at migration {history.current}{where}.",
            remedy="Use the version that migrated it, or a later one.",
        )
    target = _target(files, history, goal)
    if goal.direction == "down":
        doomed = [f for f in files if history.is_applied(f) and f.revision > target]
        return [Step(migration, "down") for migration in reversed(doomed)]
    pending = [f for f in files if not history.is_applied(f) and f.revision <= target]
    if goal.phase == "pre":
        posts = [f.revision for f in pending if f.phase == "post"]
        pending = [f for f in pending if not posts or f.revision < posts[0]]
    return [Step(migration, "up") for migration in pending]


def resolve(files: Sequence[Migration], name: str) -> str | None:
    """The revision of that name; None stands for `BASE`.

    :raises InvalidConfiguration: there is none.
    """
    if name == BASE:
        return None
    if name == HEAD:
        return files[-1].revision if files else None
    wanted = name.zfill(4)
    if wanted not in {f.revision for f in files}:
        known = ", ".join([BASE, *(f.revision for f in files)])
        raise InvalidConfiguration(f"there is no migration {name!r}", remedy=f"There are {known}.")
    return wanted


def _target(files: Sequence[Migration], history: History, goal: Goal) -> str:
    if goal.to is not None:
        return resolve(files, goal.to) or ""
    if goal.direction == "up":
        return files[-1].revision if files else ""
    applied = [f.revision for f in files if history.is_applied(f)]
    return applied[-2] if len(applied) > 1 else ""
