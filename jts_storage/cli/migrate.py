"""``jts-storage migrate``: where databases stand, and leading them up or down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jts_storage import migrate
from jts_storage.cli import output
from jts_storage.cli.migrate_lines import Lines
from jts_storage.cli.options import PartitionByYear, StoreName, StoreOption
from jts_storage.cli.output import AsJson
from jts_storage.cli.stores import databases
from jts_storage.migrate import Goal, Step

if TYPE_CHECKING:
    from jts_storage.migrate.kept_tables import Kept

app = typer.Typer(help="Lead databases to the schema of the models.", no_args_is_help=True)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
AsSql = Annotated[bool, typer.Option("--sql", help="Print what a person would run, and stop.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for another runner.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_STOPPED = "Stopped; the same command goes on from here."


@app.command()
def status(
    store: StoreOption = None, as_json: AsJson = False, partition_by_year: PartitionByYear = False
) -> None:
    """Show every migration: applied, pending, changed since it was applied, or unknown."""

    async def look() -> list[migrate.Line]:
        async with databases(store or [], partition_by_year=partition_by_year) as given:
            return await migrate.status(given)

    found = output.finished(look)
    if as_json:
        output.print_json(found)
        return
    output.print_table(
        ["store", "number", "phase", "state", "applied", "title"],
        (
            [line.store, line.revision, line.phase, line.state, line.at, line.title]
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
    dry_run: DryRun = False,
    as_sql: AsSql = False,
    as_json: AsJson = False,
    patience: Patience = 60.0,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Apply what is pending."""
    goal = Goal("up", to, "pre" if pre else None)
    _go(store, goal, dry_run, as_sql, as_json, patience, partition_by_year)


@app.command()
def down(
    store: StoreOption = None,
    to: Annotated[
        str | None, typer.Option(help="The migration to go back to; base takes back all.")
    ] = None,
    dry_run: DryRun = False,
    as_sql: AsSql = False,
    as_json: AsJson = False,
    patience: Patience = 60.0,
    yes: Yes = False,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Take back the latest migration of each store, or all after a given one."""
    if not (yes or dry_run or as_sql):
        typer.confirm("Take migrations back?", abort=True, err=True)
    _go(store, Goal("down", to), dry_run, as_sql, as_json, patience, partition_by_year)


@app.command()
def sql(
    store: StoreOption = None,
    to: Annotated[str | None, typer.Option(help="The last migration to print.")] = None,
    as_json: AsJson = False,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Print what a person would run to apply what is pending."""
    _go(store, Goal("up", to), False, True, as_json, 60.0, partition_by_year)


@app.command()
def stamp(
    revision: Annotated[str, typer.Argument(help="A number, head, or base.")],
    store: StoreOption = None,
    as_json: AsJson = False,
    patience: Patience = 60.0,
) -> None:
    """Say that databases stand at a migration, and do nothing else."""

    async def work() -> list[str]:
        async with databases(store or [], partition_by_year=False) as given:
            await migrate.stamp(given, revision, patience=patience)
            return [each.store for each in migrate.opened(given)]

    stamped = output.finished(work)
    if as_json:
        output.print_json({"revision": revision, "stores": stamped})
    else:
        typer.echo(f"Stamped as {revision}: {', '.join(stamped)}.")


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="In a few words, what it does.")],
    store: Annotated[StoreName, typer.Option(help="Of which store.")],
    post: Annotated[
        bool, typer.Option("--post", help="It must wait for new code to be deployed.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Where migrations are.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the file of a new migration, with the next number."""

    async def work() -> Path:
        return migrate.new(store.value, name, phase="post" if post else "pre", folder=folder)

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
        async with databases(["clickhouse"], partition_by_year=False) as given:
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


def _go(
    store: Sequence[str] | None,
    goal: Goal,
    dry_run: bool,
    as_sql: bool,
    as_json: bool,
    patience: float,
    partition_by_year: bool,
) -> None:
    async def work() -> list[Step] | str:
        async with databases(store or [], partition_by_year=partition_by_year) as given:
            if as_sql:
                return await migrate.sql(given, goal)
            plan = await migrate.planned(given, goal)
            if not as_json:
                _print_plan(plan)
            if dry_run or not plan:
                return plan
            with Lines(quiet=as_json) as lines:
                if goal.direction == "up":
                    return await migrate.up(
                        given, to=goal.to, phase=goal.phase, report=lines, patience=patience
                    )
                return await migrate.down(given, to=goal.to, report=lines, patience=patience)

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
                "direction": step.direction,
                "revision": step.migration.revision,
                "title": step.migration.title,
                "phase": step.migration.phase,
            }
            for step in done
        ]
        output.print_json({"done": not dry_run, "steps": steps})


def _print_plan(plan: Sequence[Step]) -> None:
    for step in plan:
        after = " (after the new code is deployed)" if step.migration.phase == "post" else ""
        typer.echo(f"plan: {step}{after}")
    if not plan:
        typer.echo("Nothing to do.")


def _print_kept(kept: Sequence[Kept]) -> None:
    if not kept:
        typer.echo("Nothing is kept.")
        return
    output.print_table(
        ["table", "in its place", "rows", "keys", "keys missing there"],
        ([each.table, each.in_its_place, each.rows, each.keys, each.missing] for each in kept),
    )
