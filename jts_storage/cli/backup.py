"""``backup``: backups made, listed, verified, restored and pruned."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace as changed
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from jts_storage.cli.backup_output import print_backups, progress, size_of, tell_faults
from jts_storage.cli.backup_parts import part_of
from jts_storage.cli.output import (
    NOT_WELL,
    AsJson,
    counted,
    finished,
    opened_storage,
    print_json,
    seconds,
    told,
)

if TYPE_CHECKING:
    from jts_storage.backup.manager import BackupManager
    from jts_storage.backup.repository import BackupRepository
    from jts_storage.backup.retention import Retention

T = TypeVar("T")

backup = typer.Typer(
    help="Backups of all stores at one commit, and what is restored from them.",
    no_args_is_help=True,
)

Where = Annotated[
    Path | None,
    typer.Option("--repository", help="The folder of backups, if not in JTS_BACKUP_REPOSITORY."),
]
Which = Annotated[str, typer.Argument(help="Which backup, as `list` names it.")]
Previous = Annotated[
    bool,
    typer.Option("--previous-if-damaged", help="Take the one before it, where it is damaged."),
]
Last = Annotated[int | None, typer.Option(min=0, help="Keep so many of the newest.")]
Days = Annotated[int | None, typer.Option(min=0, help="Keep all younger than so many days.")]
Daily = Annotated[int | None, typer.Option(min=0, help="Keep the newest of so many days.")]
Weekly = Annotated[int | None, typer.Option(min=0, help="Keep the newest of so many weeks.")]
Monthly = Annotated[int | None, typer.Option(min=0, help="Keep the newest of so many months.")]
Yearly = Annotated[int | None, typer.Option(min=0, help="Keep the newest of so many years.")]


@backup.command("create")
def create(
    note: Annotated[str, typer.Option(help="What `list` says of it.")] = "",
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Restore it into scratch stores and compare; if not given, where the stores are"
            " embedded, or as JTS_BACKUP_VERIFY says.",
        ),
    ] = None,
    repository: Where = None,
    as_json: AsJson = False,
) -> None:
    """Back up all stores as they are at one commit; exits with 1 if it does not verify."""

    async def work(manager: BackupManager) -> Any:
        return await manager.create_backup(note=note, verify=verify)

    result = _with_manager(work, repository, as_json)
    if as_json:
        print_json(result)
    else:
        how = "restored and compared" if result.is_verified else "hashes compared"
        typer.echo(
            f"Backup {result.backup_id}: {size_of(result.size_bytes)},"
            f" {size_of(result.new_bytes)} new, in {result.seconds:.1f} s;"
            f" writers waited {result.waited_seconds * 1_000:.0f} ms; {how}."
        )
    tell_faults(result.faults, as_json)


@backup.command("list")
def list_backups(repository: Where = None, as_json: AsJson = False) -> None:
    """Show the backups of the repository, the newest first, and whether they are verified.

    Exits with 1 if one is damaged, did not verify, or is missing.
    """
    from jts_storage.backup.listing import listed

    where = told(lambda: _repository(repository).open())
    found = told(lambda: listed(where))
    if as_json:
        print_json(found)
    else:
        print_backups(found)
    if (fault := where.index_fault()) is not None:
        typer.echo(f"Damaged: {fault}", err=True)
    if fault or any(each.damage or each.faults for each in found):
        raise typer.Exit(NOT_WELL)


@backup.command("verify")
def verify(
    backup_id: Which = "latest",
    quick: Annotated[
        bool, typer.Option("--quick", help="Compare hashes only; opens no store.")
    ] = False,
    repository: Where = None,
    as_json: AsJson = False,
) -> None:
    """Compare the hashes of a backup, restore it into scratch stores and compare all that it holds.

    Exits with 1 if anything is not as it was.
    """
    if quick:
        from jts_storage.backup.verify import verified

        where = told(lambda: _repository(repository).open())
        identity = told(lambda: where.named(backup_id))
        with progress(as_json) as report:
            found = finished(lambda: verified(where, identity, None, report))
    else:

        async def work(manager: BackupManager) -> Any:
            return await manager.verify(backup_id)

        found = _with_manager(work, repository, as_json)
    if as_json:
        print_json(found)
    elif found.is_well:
        how = "restored and compared" if found.was_restored else "hashes compared"
        typer.echo(
            f"Backup {found.backup_id} is well: {counted(found.objects, 'object')},"
            f" {size_of(found.bytes)}, {how} in {found.seconds:.1f} s."
        )
    tell_faults((*found.faults, *found.repository_faults), as_json)


@backup.command("restore")
def restore(
    backup_id: Which = "latest",
    collection: Annotated[
        str | None, typer.Option(help="Only the documents of this collection.")
    ] = None,
    series: Annotated[
        str | None, typer.Option(help="Only the candles of this series, as KRX:005930/1m.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Of the series, from this moment on, ISO 8601.")
    ] = None,
    end: Annotated[str | None, typer.Option(help="Of the series, up to this moment.")] = None,
    at: Annotated[
        str | None,
        typer.Option(help="The series as it was at this moment, where its history reaches back."),
    ] = None,
    into: Annotated[
        str | None, typer.Option(help="The name of the collection or series to write to.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of what is stored.")
    ] = False,
    previous_if_damaged: Previous = False,
    deliver_events: Annotated[
        bool,
        typer.Option("--deliver-events", help="Deliver events that waited, perhaps a second time."),
    ] = False,
    repository: Where = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into the stores that JTS_* names, which must be empty, or a part of it.

    Without --replace nothing that is stored is written over. Nobody else may use the stores while
    all of them are restored. The latest is refused where it did not verify, unless it is named.
    """
    only = part_of(collection, series, into, start, end, at)

    async def work(manager: BackupManager) -> Any:
        return await manager.restore(
            backup_id,
            only=only,
            replace=replace,
            previous_if_damaged=previous_if_damaged,
            parks_events=not deliver_events,
        )

    result = _with_manager(work, repository, as_json)
    if as_json:
        print_json(result)
        return
    for each in result.passed_over:
        typer.echo(f"Passed over, as it is damaged: {each}", err=True)
    rows = ", ".join(f"{count:,} of {name}" for name, count in result.rows.items())
    typer.echo(
        f"Restored backup {result.backup_id} of {seconds(result.timestamp)}: {rows};"
        f" {counted(result.recovered, 'commit')} finished; in {result.seconds:.1f} s."
    )


@backup.command("prune")
def prune(
    keep_last: Last = None,
    keep_days: Days = None,
    keep_daily: Daily = None,
    keep_weekly: Weekly = None,
    keep_monthly: Monthly = None,
    keep_yearly: Yearly = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would go, and stop.")
    ] = False,
    forget_damaged: Annotated[
        bool,
        typer.Option(
            "--forget-damaged",
            help="Remove also backups whose manifests are damaged or gone, which stop it else.",
        ),
    ] = False,
    repository: Where = None,
    as_json: AsJson = False,
) -> None:
    """Remove the backups that no rule keeps, and what no backup needs.

    The rules are of JTS_BACKUP_KEEP_*, where they are not given: by default the last 2 stay, and
    all of 30 days.
    """
    from jts_storage.backup.pruning import pruned

    rules = told(
        lambda: _rules(
            last=keep_last,
            days=keep_days,
            daily=keep_daily,
            weekly=keep_weekly,
            monthly=keep_monthly,
            yearly=keep_yearly,
        )
    )
    where = told(lambda: _repository(repository).open())
    result = told(lambda: pruned(where, rules, dry_run=dry_run, forget_damaged=forget_damaged))
    if as_json:
        print_json(result)
        return
    for each in result.removed:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {each}")
    typer.echo(
        f"{counted(len(result.kept), 'backup')} kept; {counted(result.objects, 'object')},"
        f" {size_of(result.bytes)} {'would be' if dry_run else 'were'} freed."
    )


@backup.command("schedule")
def schedule(
    line: Annotated[
        str, typer.Argument(help="When, as cron says it, in UTC.", metavar="CRON")
    ] = "0 2 * * *",
    repository: Where = None,
    as_json: AsJson = False,
) -> None:
    """Print a line for crontab, and a service and a timer for systemd, that make backups.

    They run in this folder, whose .env names the stores; what only this shell knows is not there.
    """
    from datetime import UTC
    from getpass import getuser

    from jts_storage.backup.schedule import Schedule

    named = told(lambda: Schedule(line))
    where = told(lambda: Path(repository or _config().repository).expanduser().absolute())
    program = Path(shutil.which("jts-storage") or sys.argv[0]).absolute()
    command = [str(program), "backup", "create", "--repository", str(where), "--json"]
    service, timer = named.systemd_units(command, Path.cwd(), getuser())
    cron = named.cron_line(command, Path.cwd())
    following = told(lambda: named.next_after(datetime.now(UTC)))
    if as_json:
        print_json({"cron": cron, "service": service, "timer": timer, "next": following})
        return
    if alone := _only_in_this_shell():
        typer.echo(f"# Only this shell has {', '.join(alone)}: write it into .env there, too.")
    typer.echo(f"# crontab -e; cron uses the time zone of the machine\n{cron}")
    typer.echo(f"\n# /etc/systemd/system/jts-backup.service\n{service}")
    typer.echo(f"# /etc/systemd/system/jts-backup.timer\n{timer}")
    typer.echo(f"# next: {seconds(following)}")


@backup.command("drill")
def drill(
    backup_id: Which = "latest",
    previous_if_damaged: Previous = False,
    repository: Where = None,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into embedded stores in a temporary folder, open these and use them.

    The stores that JTS_* names are not touched. Exits with 1 if anything is not as it should be.
    """
    from jts_storage.backup.drill import drill as drilled
    from jts_storage.settings import StorageSettings

    where = told(lambda: _repository(repository).open())
    settings = told(StorageSettings.load)
    with progress(as_json) as report:
        result = finished(
            lambda: drilled(
                where,
                settings,
                backup_id,
                previous_if_damaged=previous_if_damaged,
                report=report,
            )
        )
    if as_json:
        print_json(result)
    elif result.is_well:
        rows = sum(result.restored.rows.values())
        typer.echo(
            f"Backup {result.restored.backup_id} restores: {rows:,} rows, opened, checked and"
            f" written to in {result.seconds:.1f} s."
        )
    tell_faults(result.faults, as_json)


@backup.command("key")
def key(as_json: AsJson = False) -> None:
    """Print a new random key for JTS_BACKUP_KEY. Keep it apart: without it nothing is restored."""
    from jts_storage.backup.encryption import new_key

    if as_json:
        print_json({"key": new_key()})
    else:
        typer.echo(new_key())


def _with_manager(
    work: Callable[[BackupManager], Awaitable[T]], repository: Path | None, as_json: bool
) -> T:
    from jts_storage.backup.manager import BackupManager
    from jts_storage.settings import StorageSettings
    from jts_storage.storage import Storage

    where = told(lambda: _repository(repository))

    async def opened() -> T:
        async with opened_storage(Storage.open(StorageSettings.load())) as storage:
            with progress(as_json) as report:
                return await work(BackupManager(storage, where, report=report))

    return finished(opened, stopped=lambda: "Stopped; every backup that was there is still there.")


def _only_in_this_shell() -> list[str]:
    """The names of settings that nobody else who starts in this folder would find."""
    from jts_storage.settings.variables import of_file

    known = {each.name for each in told(lambda: of_file(Path(".env")))}
    names = {each for each in os.environ if each.startswith("JTS_")}
    return sorted(names - known - {"JTS_BACKUP_REPOSITORY"})  # which the command names


def _rules(**given: int | None) -> Retention:
    """What the settings say, where an option does not."""
    from jts_storage.backup.pruning import retention_of

    said = {name: value for name, value in given.items() if value is not None}
    return changed(retention_of(_config()), **said)


def _config() -> Any:
    from jts_storage.settings.backup import BackupConfig

    return BackupConfig.from_env()


def _repository(folder: Path | None) -> BackupRepository:
    from jts_storage.backup.repository import BackupRepository

    config = _config()
    return BackupRepository(folder or config.repository, key=config.key)
