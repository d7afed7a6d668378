"""Migrations of several databases: where they stand, what is to be done, and doing it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jts_storage.errors import InvalidConfiguration
from jts_storage.migrate import plan
from jts_storage.migrate.base import PATIENCE, Migrations
from jts_storage.migrate.files import Migration, Phase, Store, discover, root
from jts_storage.migrate.plan import Goal, History, Step
from jts_storage.migrate.reports import Report, to_log

if TYPE_CHECKING:
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.migrate.kept_tables import Kept
    from jts_storage.models import Models
    from jts_storage.mongo.manager import MongoDBManager
    from jts_storage.relational.manager import DatabaseManager

_log = logging.getLogger(__name__)

State = Literal["applied", "pending", "changed", "unknown"]


@dataclass(frozen=True, slots=True)
class Databases:
    """What is to be migrated or checked: one manager a store, or fewer.

    :param partition_by_year: see `jts_storage.clickhouse.tables.build`.
    :param folder: where migrations are, if not the kit's own.
    :param models: of services, whose tables and collections are compared, too.
    """

    clickhouse: ClickHouseManager | None = None
    mongo: MongoDBManager | None = None
    database: DatabaseManager | None = None
    partition_by_year: bool = False
    folder: Path | None = None
    models: Models | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One migration and how a database stands to it.

    :param at: when it was applied, if the log says so.
    """

    store: Store
    revision: str
    title: str
    phase: Phase
    state: State
    at: datetime | None = None


def opened(databases: Databases) -> list[Migrations]:
    """The migrations of each database that is given."""
    found: list[Migrations] = []
    if databases.clickhouse is not None:
        from jts_storage.migrate.clickhouse import ClickHouseMigrations

        found.append(
            ClickHouseMigrations(
                databases.clickhouse,
                partition_by_year=databases.partition_by_year,
                folder=databases.folder,
            )
        )
    if databases.mongo is not None:
        from jts_storage.migrate.mongo import MongoMigrations

        found.append(MongoMigrations(databases.mongo, folder=databases.folder))
    if databases.database is not None:
        from jts_storage.migrate.relational import RelationalMigrations

        found.append(RelationalMigrations(databases.database, folder=databases.folder))
    return found


async def up(
    databases: Databases,
    *,
    to: str | None = None,
    phase: Phase | None = None,
    report: Report = to_log,
    patience: float = PATIENCE,
) -> list[Step]:
    """Apply what is pending, and say what was; quick when nothing is.

    :param to: the revision to stop after.
    :param phase: ``"pre"`` stops before the first migration that must wait for new code.
    :param patience: seconds to wait for another runner.
    :raises Conflict: another runner is at it for longer.
    :raises SchemaDrift: a database was migrated by a later version of the kit.
    """
    return await _go(databases, Goal("up", to, phase), report, patience)


async def down(
    databases: Databases,
    *,
    to: str | None = None,
    report: Report = to_log,
    patience: float = PATIENCE,
) -> list[Step]:
    """Take back migrations after revision `to` (``"base"``: all), or the latest one of each store.

    What the earlier schema cannot hold stays where it is.

    :raises Conflict: another runner is at it for longer than `patience` seconds.
    """
    return await _go(databases, Goal("down", to), report, patience)


async def planned(databases: Databases, goal: Goal) -> list[Step]:
    """What `up` or `down` would do."""
    listed: list[Step] = []
    for each in opened(databases):
        listed += plan.steps(each.files, await each.history(), goal)
    return listed


async def sql(databases: Databases, goal: Goal) -> str:
    """The same as statements that a person can run, one store after the other."""
    parts = []
    for each in opened(databases):
        text = await each.sql(plan.steps(each.files, await each.history(), goal))
        if text:
            parts.append(f"-- {each.store}\n\n{text.strip()}\n")
    return "\n".join(parts)


async def stamp(databases: Databases, name: str, *, patience: float = PATIENCE) -> None:
    """Say that each database stands at a revision, ``head`` or ``base``, and do nothing else.

    It also accepts migration files as they are now, where they were changed since applied.
    """
    for each in opened(databases):
        await each.stamp(name, patience=patience)


async def kept(databases: Databases, *, report: Report = to_log) -> list[Kept]:
    """The old ClickHouse tables that migrations keep, compared with those in their place."""
    if databases.clickhouse is None:
        return []
    from jts_storage.migrate.clickhouse import ClickHouseMigrations

    return await ClickHouseMigrations(databases.clickhouse).kept(report)


async def drop_kept(
    databases: Databases, tables: Sequence[Kept], *, patience: float = PATIENCE
) -> None:
    """Drop tables that `kept` found.

    :raises StorageError: one of them has candles or symbols that are nowhere else; then none is
        dropped.
    """
    if databases.clickhouse is None or not tables:
        return
    from jts_storage.migrate.clickhouse import ClickHouseMigrations

    await ClickHouseMigrations(databases.clickhouse).drop_kept(tables, patience=patience)


async def status(databases: Databases) -> list[Line]:
    """Every migration of every database: applied, pending, changed since, or unknown."""
    stores = opened(databases)
    histories = await asyncio.gather(*(each.history() for each in stores))
    return [
        line
        for each, history in zip(stores, histories, strict=True)
        for line in lines(each.store, each.files, history)
    ]


def lines(store: Store, files: Sequence[Migration], history: History) -> list[Line]:
    """How one database stands to each of the files, and to what it has beyond them."""
    found = []
    for file in files:
        entry = history.entries.get(file.revision)
        state: State = "applied" if history.is_applied(file) else "pending"
        if history.is_changed(file):
            state = "changed"
        at = entry.at if entry and state != "pending" else None
        found.append(Line(store, file.revision, file.title, file.phase, state, at))
    if history.is_unknown(files) and history.current is not None:
        found.append(Line(store, history.current, "of another version", "pre", "unknown"))
    return found


def new(store: Store, name: str, *, phase: Phase = "pre", folder: Path | None = None) -> Path:
    """A new migration file from the template, with the next number.

    :param folder: the one that holds the stores' folders; the kit's own in a checkout.
    :raises InvalidConfiguration: the name cannot be one of a file, or the folder holds none.
    """
    where = (folder or root()) / store
    template = where / "script.py.mako"
    if not (template.is_file() and (where / "versions").is_dir()):
        raise InvalidConfiguration(
            f"there are no migrations in {where}",
            remedy="Name the folder that holds clickhouse/, mongo/ and relational/, or none.",
        )
    files = discover(store, folder)
    slug = "_".join("".join(c if c.isalnum() else " " for c in name.lower()).split())
    if not slug or not slug.isascii():
        raise InvalidConfiguration(
            f"no file can be named after {name!r}", remedy="Say in a few words what it does."
        )
    revision = f"{len(files) + 1:04}"
    after = files[-1].revision if files else None
    text = template.read_text().replace("${message}", name.strip().capitalize())
    text = text.replace("${repr(up_revision)}", f'"{revision}"')
    text = text.replace("${repr(down_revision)}", f'"{after}"' if after else "None")
    prefix = "post_" if phase == "post" else ""
    path = where / "versions" / f"{revision}_{prefix}{slug}.py"
    path.write_text(text)
    return path


async def _go(databases: Databases, goal: Goal, report: Report, patience: float) -> list[Step]:
    """All stores side by side; one that fails does not stop the others halfway."""
    runs = [each.go(goal, report, patience=patience) for each in opened(databases)]
    taken: list[Step] = []
    failures: list[BaseException] = []
    for outcome in await asyncio.gather(*runs, return_exceptions=True):
        if isinstance(outcome, BaseException):
            failures.append(outcome)
        else:
            taken += outcome
    for failure in failures[1:]:
        _log.error("Another store failed as well: %s", failure)
    if failures:
        raise failures[0]
    return taken
