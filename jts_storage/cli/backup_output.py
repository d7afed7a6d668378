"""What the commands of ``backup`` print."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from jts_storage.cli.output import NOT_WELL, print_table, seconds

if TYPE_CHECKING:
    from jts_storage.backup.copying import Progress, Report
    from jts_storage.backup.results import BackupInfo


def print_backups(backups: Sequence[BackupInfo]) -> None:
    """A table of the backups of a repository, and below it what is wrong with them."""
    print_table(
        ["backup", "at", "rows", "bytes", "state", "note"],
        [
            (
                each.backup_id,
                "-" if each.timestamp is None else seconds(each.timestamp),
                sum((each.rows or {}).values()),
                each.size_bytes,
                _state(each),
                each.note,
            )
            for each in backups
        ],
    )
    for each in backups:
        if each.damage is not None:
            typer.echo(f"DAMAGED: {each.damage}", err=True)
        elif each.faults:
            typer.echo(f"Backup {each.backup_id} did not verify: {each.faults[0]}", err=True)


def _state(info: BackupInfo) -> str:
    if info.damage is not None:
        return "DAMAGED"
    if info.verified_at is None:
        return info.verification
    return f"{info.verification} {seconds(info.verified_at)}"


def tell_faults(faults: tuple[str, ...], as_json: bool) -> None:
    """Name what was found, and exit with 1 if there is anything."""
    if not faults:
        return
    if not as_json:
        for each in faults:
            typer.echo(f"Damaged: {each}", err=True)
    raise typer.Exit(NOT_WELL)


@contextmanager
def progress(as_json: bool) -> Iterator[Report]:
    """Tell on standard error, where that is a terminal, what is going on."""
    is_shown = not as_json and sys.stderr.isatty()
    last = ""

    def report(now: Progress) -> None:
        nonlocal last
        if not is_shown:
            return
        total = "" if now.total is None else f" of {now.total:,}"
        line = f"{now.doing}: {now.done:,}{total}"
        sys.stderr.write(f"\r{line.ljust(len(last))}")
        last = line

    try:
        yield report
    finally:
        if last:
            sys.stderr.write(f"\r{' ' * len(last)}\r")


def size_of(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
