"""``jts-storage migrate``: where databases stand, and leading them up or down."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from jts_storage import migrate
from jts_storage.cli.options import PartitionByYear, StoreName, StoreOption
from jts_storage.cli.stores import databases, finish
from jts_storage.migrate import Goal, Step

app = typer.Typer(help="Lead databases to the schema of the models.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")]
AsSql = Annotated[bool, typer.Option("--sql", help="Print what a person would run, and stop.")]
Patience = Annotated[float, typer.Option(help="Seconds to wait for another runner.")]


@app.command()
def status(
    store: StoreOption = None, as_json: AsJson = False, partition_by_year: PartitionByYear = False
) -> None:
    """Show every migration: applied, pending, changed since it was applied, or unknown."""

    async def look() -> list[migrate.Line]:
        async with databases(store or [], partition_by_year=partition_by_year) as given:
            return await migrate.status(given)

    found = finish(look)
    if as_json:
        rows = [
            {
                "store": line.store,
                "revision": line.revision,
                "title": line.title,
                "phase": line.phase,
                "state": line.state,
                "at": line.at.isoformat() if line.at else None,
            }
            for line in found
        ]
        typer.echo(json.dumps(rows))
        return
    typer.echo(f"{'store':<11} {'number':<7} {'phase':<6} {'state':<8} {'applied':<20} title")
    for line in found:
        at = f"{line.at:%Y-%m-%d %H:%M:%S}" if line.at else "-"
        typer.echo(
            f"{line.store:<11} {line.revision:<7} {line.phase:<6} {line.state:<8} {at:<20}"
            f" {line.title}"
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
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Take back the latest migration of each store, or all after a given one."""
    if not (yes or dry_run or as_sql):
        typer.confirm("Take migrations back?", abort=True)
    _go(store, Goal("down", to), dry_run, as_sql, as_json, patience, partition_by_year)


@app.command()
def sql(
    store: StoreOption = None,
    to: Annotated[str | None, typer.Option(help="The last migration to print.")] = None,
    partition_by_year: PartitionByYear = False,
) -> None:
    """Print what a person would run to apply what is pending."""
    _go(store, Goal("up", to), False, True, False, 60.0, partition_by_year)


@app.command()
def stamp(
    revision: Annotated[str, typer.Argument(help="A number, head, or base.")],
    store: StoreOption = None,
    patience: Patience = 60.0,
) -> None:
    """Say that databases stand at a migration, and do nothing else."""

    async def work() -> None:
        async with databases(store or [], partition_by_year=False) as given:
            await migrate.stamp(given, revision, patience=patience)

    finish(work)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="In a few words, what it does.")],
    store: Annotated[StoreName, typer.Option(help="Of which store.")],
    post: Annotated[
        bool, typer.Option("--post", help="It must wait for new code to be deployed.")
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="Where migrations are.")] = None,
) -> None:
    """Write the file of a new migration, with the next number."""

    async def work() -> Path:
        return migrate.new(store.value, name, phase="post" if post else "pre", folder=folder)

    typer.echo(str(finish(work)))


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
            report = (lambda _: None) if as_json else _print_event
            if goal.direction == "up":
                return await migrate.up(
                    given, to=goal.to, phase=goal.phase, report=report, patience=patience
                )
            return await migrate.down(given, to=goal.to, report=report, patience=patience)

    done = finish(work)
    if isinstance(done, str):
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
        typer.echo(json.dumps({"done": not dry_run, "steps": steps}))


def _print_plan(plan: Sequence[Step]) -> None:
    for step in plan:
        after = " (after the new code is deployed)" if step.migration.phase == "post" else ""
        typer.echo(f"plan: {step}{after}")
    if not plan:
        typer.echo("Nothing to do.")


def _print_event(event: migrate.Event) -> None:
    text = migrate.describe(event)
    if isinstance(event, migrate.Progress) and sys.stdout.isatty():
        last = event.done >= event.total
        typer.echo(f"\r{text:<79}", nl=last)
    else:
        typer.echo(text)
