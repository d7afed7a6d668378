"""Migrations of several databases: where they stand, what is to be done, and doing it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jts_storage.errors import InvalidConfiguration
from jts_storage.migrate.base import PATIENCE, Migrations
from jts_storage.migrate.files import Chain, ChainName, Migration, Phase, Store, chains
from jts_storage.migrate.plan import BASE, HEAD, Goal, History, Step
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
    :param folder: where the kit's migrations are, if elsewhere.
    :param service: the folder of a service's own migrations, which come after the kit's.
    :param models: of services, whose tables and collections are compared, too.
    :param told_for: the bookkeeping database whose statements a check tells, if it is another one
        than that it looks at.
    """

    clickhouse: ClickHouseManager | None = None
    mongo: MongoDBManager | None = None
    database: DatabaseManager | None = None
    partition_by_year: bool = False
    folder: Path | None = None
    models: Models | None = None
    service: Path | None = None
    told_for: Literal["sqlite", "postgresql"] | None = None


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
    chain: ChainName = "kit"


def opened(databases: Databases, chain: ChainName | None = None) -> list[Migrations]:
    """The migrations of each database that is given: the kit's, then the service's own.

    :param chain: leave out the other one.
    :raises InvalidConfiguration: the folder of the service is wrong, or asked for and not given.
    """
    known = chains(databases.folder, databases.service)
    wanted = [each for each in known if chain in (None, each.name)]
    if not wanted:
        raise InvalidConfiguration(
            "there is no folder of a service's own migrations",
            remedy="Name it in JTS_MIGRATIONS or --folder.",
        )
    return [
        of_store(each)
        for store, of_store in _stores(databases)
        for each in wanted
        if each.name == "kit" or each.versions(store).is_dir()
    ]


async def up(
    databases: Databases,
    *,
    to: str | None = None,
    phase: Phase | None = None,
    chain: ChainName | None = None,
    report: Report = to_log,
    patience: float = PATIENCE,
) -> list[Step]:
    """Apply what is pending, and say what was; quick when nothing is.

    In each store the kit's migrations come first, then the service's own.

    :param to: the revision to stop after.
    :param phase: ``"pre"`` stops before the first migration that must wait for new code.
    :param chain: which of the two is to move, if not both; a revision must be of one.
    :raises Conflict: another runner is at it for longer.
    :raises SchemaDrift: a database was migrated by a later version of the kit or the service.
    """
    return await go(databases, Goal("up", to, phase, chain), report=report, patience=patience)


async def down(
    databases: Databases,
    *,
    to: str | None = None,
    chain: ChainName | None = None,
    report: Report = to_log,
    patience: float = PATIENCE,
) -> list[Step]:
    """Take back migrations after revision `to` (``"base"``: all), or the latest one of each store.

    The service's own go first; the latest is the kit's when the service has none applied in any
    store. What the earlier schema cannot hold stays where it is.

    :param chain: which of the two is to move, if not both; a revision must be of one.
    :raises Conflict: another runner is at it for longer than `patience` seconds.
    """
    return await go(databases, Goal("down", to, chain=chain), report=report, patience=patience)


async def go(
    databases: Databases, goal: Goal, *, report: Report = to_log, patience: float = PATIENCE
) -> list[Step]:
    """Take the steps to a goal, all stores side by side, and say what was done.

    A store that fails does not stop the others halfway.
    """
    wanted = await _wanted(databases, goal)
    runs = [_lead(of_store, goal, report, patience) for of_store in wanted]
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


async def planned(databases: Databases, goal: Goal) -> list[Step]:
    """What `up` or `down` would do."""
    return [step for _, steps in await _plan(databases, goal) for step in steps]


async def sql(databases: Databases, goal: Goal) -> str:
    """The same as statements that a person can run, one store after the other."""
    parts = []
    for each, steps in await _plan(databases, goal):
        text = await each.sql(steps)
        if text:
            title = f"{each.store} {each.chain.label}".strip()
            parts.append(f"-- {title}\n\n{text.strip()}\n")
    return "\n".join(parts)


async def stamp(
    databases: Databases,
    name: str,
    *,
    chain: ChainName | None = None,
    patience: float = PATIENCE,
) -> None:
    """Say that each database stands at a revision, ``head`` or ``base``, and do nothing else.

    It also accepts migration files as they are now, where they were changed since applied.

    :param chain: of which of the two, if not of both; a revision must be of one.
    """
    stamped = opened(databases, chain)
    _check_ambiguity(stamped, name)
    for each in stamped:
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


async def status(databases: Databases, chain: ChainName | None = None) -> list[Line]:
    """Every migration of every database: applied, pending, changed since, or unknown."""
    stores = opened(databases, chain)
    histories = await asyncio.gather(*(each.history() for each in stores))
    return [
        line
        for each, history in zip(stores, histories, strict=True)
        for line in lines(each.store, each.files, history, each.chain.name)
    ]


def lines(
    store: Store, files: Sequence[Migration], history: History, chain: ChainName = "kit"
) -> list[Line]:
    """How one database stands to each of the files, and to what it has beyond them."""
    found = []
    for file in files:
        entry = history.entries.get(file.revision)
        state: State = "applied" if history.is_applied(file) else "pending"
        if history.is_changed(file):
            state = "changed"
        at = entry.at if entry and state != "pending" else None
        found.append(Line(store, file.revision, file.title, file.phase, state, at, chain))
    if history.is_unknown(files) and history.current is not None:
        title = "of another version"
        found.append(Line(store, history.current, title, "pre", "unknown", chain=chain))
    return found


def _stores(databases: Databases) -> Iterator[tuple[Store, Callable[[Chain], Migrations]]]:
    """The stores that are given, and what makes the migrations of a chain there."""
    clickhouse, mongo, database = databases.clickhouse, databases.mongo, databases.database
    if clickhouse is not None:
        from jts_storage.migrate.clickhouse import ClickHouseMigrations

        by_year = databases.partition_by_year
        yield (
            "clickhouse",
            lambda chain: ClickHouseMigrations(clickhouse, partition_by_year=by_year, chain=chain),
        )
    if mongo is not None:
        from jts_storage.migrate.mongo import MongoMigrations

        yield "mongo", lambda chain: MongoMigrations(mongo, chain=chain)
    if database is not None:
        from jts_storage.migrate.relational import RelationalMigrations

        yield "relational", lambda chain: RelationalMigrations(database, chain=chain)


async def _lead(
    of_store: Sequence[Migrations], goal: Goal, report: Report, patience: float
) -> list[Step]:
    """Move the chains of one store, one after the other."""
    taken: list[Step] = []
    for each in of_store:
        taken += await each.go(goal, report, patience=patience)
    return taken


async def _plan(databases: Databases, goal: Goal) -> list[tuple[Migrations, list[Step]]]:
    """The steps of each chain, in the order in which `_lead` would take them."""
    wanted = await _wanted(databases, goal)
    return [(each, await each.planned(goal)) for of_store in wanted for each in of_store]


async def _wanted(databases: Databases, goal: Goal) -> list[list[Migrations]]:
    """The chains of each store in the order in which they move.

    :raises InvalidConfiguration: the goal is of no chain, or leaves out what must come before.
    """
    found = opened(databases, goal.chain)
    _check_ambiguity(found, goal.to)
    if goal.direction == "up" and goal.chain == "service":
        await _check_kit_came_first(databases, goal, {each.store for each in found})
    if goal.direction == "down" and goal.chain is None:
        await _check_nothing_is_above(databases, found)
    if goal.is_one_step:
        found = await _latest(found, goal)
    ordered = [list(chains) for _, chains in groupby(found, lambda each: each.store)]
    return ordered if goal.direction == "up" else [of_store[::-1] for of_store in ordered]


async def _check_nothing_is_above(databases: Databases, found: Sequence[Migrations]) -> None:
    """:raises InvalidConfiguration: a service has migrations applied of which no folder is named,
    and the kit's below them would be taken back.
    """
    led = {each.store for each in found if each.chain.name == "service"}
    nowhere = Chain("service", Path(), is_alone=False)
    for store, of_store in _stores(databases):
        current = None if store in led else (await of_store(nowhere).history()).current
        if current not in (None, BASE):
            raise InvalidConfiguration(
                f"{store} has migrations of a service up to {current}, and their folder is not"
                " named",
                remedy="Name it in JTS_MIGRATIONS or --folder; or say --chain kit to take back the"
                " kit's below them.",
            )


async def _latest(found: Sequence[Migrations], goal: Goal) -> list[Migrations]:
    """Leave the chain that a step down is of: the service's while any of its own is applied."""
    own = [each for each in found if each.chain.name == "service"]
    if any([await each.planned(goal) for each in own]):
        return own
    return [each for each in found if each.chain.name == "kit"]


def _check_ambiguity(found: Sequence[Migrations], name: str | None) -> None:
    if name in (None, BASE, HEAD) or len({each.chain.name for each in found}) < 2:
        return
    raise InvalidConfiguration(
        f"{name} may be a migration of the kit or of the service",
        remedy="Say which: --chain kit or --chain service.",
    )


async def _check_kit_came_first(databases: Databases, goal: Goal, stores: set[Store]) -> None:
    for each in opened(databases, "kit"):
        pending = await each.planned(Goal(phase=goal.phase)) if each.store in stores else []
        if pending:
            raise InvalidConfiguration(
                f"the kit's migrations come first, and {pending[0].migration.revision} of"
                f" {each.store} is pending",
                remedy="Leave out --chain, or run it with --chain kit before.",
            )
