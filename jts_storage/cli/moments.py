"""Moments of the past on the command line: a time, a commit, or the name of a snapshot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from jts_storage.cli import arguments
from jts_storage.cli.output import with_reader, with_storage
from jts_storage.domain.moments import Commit, told_by
from jts_storage.errors import NotFound

if TYPE_CHECKING:
    from jts_storage.domain.moments import AsOf
    from jts_storage.ports.history import View
    from jts_storage.storage import Storage

T = TypeVar("T")

AsOfMoment = Annotated[
    str | None,
    typer.Option(
        "--as-of",
        help="Read what was stored then: a moment, ISO 8601, a snapshot's name, or a commit"
        " by the number that --json has of it.",
    ),
]

_NAMED: Final = 5
"""How many snapshots an error names."""

_ALL: Final = 2**31 - 1


def moment_or_name(text: str | None, timezone: str | None) -> AsOf | None:
    """A moment, a commit by its version, or else what may be the name of a snapshot."""
    if text is None:
        return None
    told = told_by(text)
    if told is None:
        return text
    return told if isinstance(told, Commit) else arguments.moment(text, timezone)


def reading(
    work: Callable[[Storage], Awaitable[T]],
    moment: AsOf | None,
    *,
    stopped: Callable[[], str] = lambda: "Stopped.",
) -> T:
    """Open what work that only reads candles takes, of now or of a moment."""
    # A moment is looked up in MongoDB; without one ClickHouse alone tells all that is kept.
    opened = with_reader if moment is None else with_storage
    return opened(work, stopped=stopped)


async def known(storage: Storage, moment: AsOf) -> AsOf:
    """The moment.

    :raises NotFound: it is neither a moment nor the name of a snapshot.
    """
    if isinstance(moment, str):
        try:
            await storage.snapshots.get(moment)
        except NotFound as exc:
            raise await _no_moment(storage, moment) from exc
    return moment


async def seen(storage: Storage, moment: AsOf | None) -> Storage | View:
    """What is stored, or was at a moment."""
    return storage if moment is None else await storage.as_of(await known(storage, moment))


async def _no_moment(storage: Storage, text: str) -> NotFound:
    names = [each.name for each in await storage.snapshots.list(limit=_ALL)]
    there = ", ".join(names[:_NAMED]) if names else "none"
    if len(names) > _NAMED:
        there += f" and {len(names) - _NAMED:,} more"
    return NotFound(
        f"{text!r} is neither a moment in ISO 8601 (2026-11-29, 2026-11-29T09:00+09:00) nor a"
        f" snapshot; there are{':' if names else ''} {there}.",
        remedy="`jts-storage snapshots list` shows what each of them stands for."
        if names
        else "`jts-storage snapshots list` shows those there are.",
    )
