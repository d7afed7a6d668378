"""Which part of a backup is restored, as the command line says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from jts_storage.cli import arguments
from jts_storage.cli.output import told

if TYPE_CHECKING:
    from jts_storage.backup.selection import DocumentCollection, Series


def part_of(
    collection: str | None,
    series: str | None,
    into: str | None,
    start: str | None,
    end: str | None,
    at: str | None,
) -> Series | DocumentCollection | None:
    """The part of a backup that the options of `restore` name; None if they name none."""
    from jts_storage.backup.selection import DocumentCollection, Series
    from jts_storage.domain import checks

    if collection is not None and series is not None:
        raise typer.BadParameter("Give --collection or --series.")
    if series is None:
        if start or end or at or (into and collection is None):
            raise typer.BadParameter("--start, --end, --at and --into are of a part: name it.")
        return None if collection is None else DocumentCollection(name=collection, into=into)
    target = None if into is None else arguments.key_of(into)
    first = arguments.moment(start, None) or checks.FIRST_TIMESTAMP
    last = arguments.moment(end, None, is_end=True) or checks.LAST_TIMESTAMP
    moment = arguments.moment(at, None)
    wanted = arguments.key_of(series)
    return told(lambda: Series(key=wanted, start=first, end=last, into=target, at=moment))
