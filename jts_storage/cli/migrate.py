"""``jts-storage migrate``: apply and take back migrations, and show where databases stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jts_storage import migrate
from jts_storage.cli import output
from jts_storage.cli.migrate_lines import Lines
from jts_storage.cli.options import (
    ChainOption,
    FolderOption,
    PartitionByYear,
    StoreName,
    StoreOption,
    names_of,
)
from jts_storage.cli.output import AsJson
from jts_storage.cli.served import check_own_folder, served
from jts_storage.cli.stores import databases
from jts_storage.migrate import Goal, Step
from jts_storage.settings import StorageSettings
from jts_storage.settings.storage import named_migrations

if TYPE_CHECKING:
    from jts_storage.migrate.kept_tables import Kept

app = typer.Typer(help="Apply and take back migrations.", no_args_is_help=True)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
AsSql = Annotated[bool, typer.Option("--sql", help="Print what a person would run, and stop.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for another runner.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_STOPPED = "Stopped; the same command goes on from here."


@app.command()
def status(
    store: StoreOption = None,
    chain: ChainOption = None,
    folder: FolderOption = None,
    as_json: AsJson = False,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Show every migration: applied, pending, changed since it was applied, or unknown."""

    async def look() -> list[migrate.Line]:
        async with served(StorageSettings.load()) as elsewhere:
            if elsewhere is not None:
                check_own_folder(folder)
                told = await elsewhere.migrations(
                    names_of(store), partition_by_year, chain.value if chain else None
                )
                return [migrate.Line(**each) for each in told]
        async with databases(
            store or [], partition_by_year=partition_by_year, folder=folder
        ) as given:
            return await migrate.status(given, chain.value if chain else None)

    found = output.finished(look)
    if as_json:
        output.print_json(found)
        return
    output.print_table(
        ["store", "chain", "number", "phase", "state", "applied", "title"],
        (
            [line.store, line.chain, line.revision, line.phase, line.state, line.at, line.title]
            for line in found
        ),
    )


@app.command()
def up(
    store: StoreOption = None,
    to: Annotated[str | None, typer.Option(help="The last migration to apply.")] = None,
    pre: Annotated[
        bool, typer.Option("--pre", help="Stop before what must wait for new code.")
    ] = False,
    chain: ChainOption = None,
    folder: FolderOption = None,
    dry_run: DryRun = False,
    as_sql: AsSql = False,
    as_json: AsJson = False,
    patience: Patience = 60.0,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Apply what is pending: the kit's migrations, then the service's own."""
    goal = Goal("up", to, "pre" if pre else None, chain.value if chain else None)
    where = _Where(store, folder, partition_by_year)
    _go(where, goal, dry_run=dry_run, as_sql=as_sql, as_json=as_json, patience=patience)


@app.command()
def down(
    store: StoreOption = None,
    to: Annotated[
        str | None, typer.Option(help="The migration to go back to; base takes back all.")
    ] = None,
    chain: ChainOption = None,
    folder: FolderOption = None,
    dry_run: DryRun = False,
    as_sql: AsSql = False,
    as_json: AsJson = False,
    patience: Patience = 60.0,
    yes: Yes = False,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Take back the latest migration of each store, or all after a given one.

    The service's own migrations go before the kit's: one step takes back the kit's only when the
    service has none applied.
    """
    goal = Goal("down", to, chain=chain.value if chain else None)
    _go(
        _Where(store, folder, partition_by_year),
        goal,
        dry_run=dry_run,
        as_sql=as_sql,
        as_json=as_json,
        patience=patience,
        question=None if yes else "Take them back?",
    )


@app.command()
def sql(
    store: StoreOption = None,
    to: Annotated[str | None, typer.Option(help="The last migration to print.")] = None,
    chain: ChainOption = None,
    folder: FolderOption = None,
    as_json: AsJson = False,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Print what a person would run to apply what is pending."""
    goal = Goal("up", to, chain=chain.value if chain else None)
    _go(_Where(store, folder, partition_by_year), goal, as_sql=True, as_json=as_json)


@app.command()
def stamp(
    revision: Annotated[str, typer.Argument(help="A number, head, or base.")],
    store: StoreOption = None,
    chain: ChainOption = None,
    folder: FolderOption = None,
    as_json: AsJson = False,
    patience: Patience = 60.0,
) -> None:
    """Record a migration as applied without running it."""

    async def work() -> list[migrate.Migrations]:
        async with databases(store or [], folder=folder) as given:
            name: migrate.ChainName | None = chain.value if chain else None
            await migrate.stamp(given, revision, chain=name, patience=patience)
            return migrate.opened(given, name)

    stamped = output.finished(work)
    if as_json:
        stores = list(dict.fromkeys(each.store for each in stamped))
        chains = list(dict.fromkeys(each.chain.name for each in stamped))
        output.print_json({"revision": revision, "stores": stores, "chains": chains})
    else:
        listed = ", ".join(f"{each.store} {each.chain.label}".strip() for each in stamped)
        typer.echo(f"Stamped as {revision}: {listed}.")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="In a few words, what it does.")],
    store: Annotated[StoreName, typer.Option(help="Of which store.")],
    post: Annotated[
        bool, typer.Option("--post", help="It must wait for new code to be deployed.")
    ] = False,
    folder: FolderOption = None,
    as_json: AsJson = False,
) -> None:
    """Write the file of a new migration, with the next number."""

    async def work() -> Path:
        where = folder or named_migrations()
        return migrate.new(store.value, name, phase="post" if post else "pre", folder=where)

    path = output.finished(work)
    if as_json:
        output.print_json({"path": path})
    else:
        typer.echo(str(path))


@app.command("drop-legacy")
def drop_legacy(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only compare.")] = False,
    as_json: AsJson = False,
    patience: Patience = 60.0,
    yes: Yes = False,
) -> None:
    """Drop the old ClickHouse tables that an adoption kept, such as candles_legacy.

    Every candle and symbol of theirs must be in the table that took their place.
    """

    async def work() -> list[Kept]:
        async with databases(["clickhouse"]) as given:
            with Lines(quiet=as_json) as lines:
                kept = await migrate.kept(given, report=lines)
            if not as_json:
                _print_kept(kept)
            if kept and not dry_run:
                if not yes:
                    typer.confirm("Drop what is kept?", abort=True, err=True)
                await migrate.drop_kept(given, kept, patience=patience)
            return kept

    kept = output.finished(work, stopped=lambda: _STOPPED)
    if as_json:
        output.print_json({"done": not dry_run, "tables": kept})
    elif kept and not dry_run:
        typer.echo(f"Dropped: {', '.join(each.table for each in kept)}.")


@dataclass(frozen=True, slots=True)
class _Where:
    """The databases and migrations that options name."""

    store: Sequence[str] | None
    folder: Path | None
    partition_by_year: bool


def _go(
    where: _Where,
    goal: Goal,
    *,
    dry_run: bool = False,
    as_sql: bool = False,
    as_json: bool = False,
    patience: float = migrate.PATIENCE,
    question: str | None = None,
) -> None:
    """Print the plan and carry it out.

    :param question: asked before anything is done.
    """

    async def work() -> list[Step] | str:
        async with databases(
            where.store or [], partition_by_year=where.partition_by_year, folder=where.folder
        ) as given:
            if as_sql:
                return await migrate.sql(given, goal)
            plan = await migrate.planned(given, goal)
            asks = question is not None and bool(plan) and not dry_run
            if asks or not as_json:
                _print_plan(plan, err=as_json)
            if dry_run or not plan:
                return plan
            if question is not None:
                typer.confirm(question, abort=True, err=True)
            with Lines(quiet=as_json) as lines:
                return await migrate.go(given, goal, report=lines, patience=patience)

    done = output.finished(work, stopped=lambda: _STOPPED)
    if isinstance(done, str):
        if as_json:
            output.print_json({"sql": done})
        else:
            typer.echo(done)
    elif as_json:
        steps = [
            {
                "store": step.store,
                "chain": step.migration.chain.name,
                "direction": step.direction,
                "revision": step.migration.revision,
                "title": step.migration.title,
                "phase": step.migration.phase,
            }
            for step in done
        ]
        output.print_json({"done": not dry_run, "steps": steps})


def _print_plan(plan: Sequence[Step], *, err: bool = False) -> None:
    for step in plan:
        after = " (after the new code is deployed)" if step.migration.phase == "post" else ""
        typer.echo(f"plan: {step}{after}", err=err)
    if not plan:
        typer.echo("Nothing to do.", err=err)


def _print_kept(kept: Sequence[Kept]) -> None:
    if not kept:
        typer.echo("Nothing is kept.")
        return
    output.print_table(
        ["table", "in its place", "rows", "keys", "keys missing there"],
        ([each.table, each.in_its_place, each.rows, each.keys, each.missing] for each in kept),
    )
