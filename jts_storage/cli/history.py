"""``history``: what was corrected of a series, when, by whom, and to what."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, tzinfo
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from jts_storage.cli import arguments, completion, moments
from jts_storage.cli.arguments import End, Start, Zone
from jts_storage.cli.groups import grouped
from jts_storage.cli.history_reading import PAINTS, Asked, Corrected
from jts_storage.cli.output import (
    AsJson,
    counted,
    more_than,
    print_csv,
    print_json,
    print_table,
    printable,
    seconds,
    told,
    with_storage,
)

if TYPE_CHECKING:
    from jts_storage.domain.correction import Correction
    from jts_storage.storage import Storage

FIELDS = ("open", "high", "low", "close", "volume")
_COLUMNS = ("at", "source", "timestamp", "change", "field", "before", "after")
_SHOWN = ("when", "source", "candle", "field", "from", "to")


def _colors(text: str) -> str:
    if text not in PAINTS:
        raise typer.BadParameter(f"{text!r} is none of {', '.join(PAINTS)}.")
    return text


@grouped
def history(
    *,
    key: Annotated[
        str,
        typer.Argument(
            help="The series, as KRX:005930/1m or 005930/1d.", autocompletion=completion.keys
        ),
    ],
    since: Annotated[
        str | None,
        typer.Option(
            help="Only by commits after this moment, ISO 8601, or after a snapshot of this name."
        ),
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Only by commits up to this moment, ISO 8601.")
    ] = None,
    start: Start = None,
    end: End = None,
    timezone: Zone = None,
    limit: Annotated[
        int, typer.Option(help="So many corrections at most; 0 for all.", min=0)
    ] = 1_000,
    html: Annotated[Path | None, typer.Option(help="Write a page that shows it.")] = None,
    colors: Annotated[
        str,
        typer.Option(help="Of the page: market, korea, west or colorblind.", callback=_colors),
    ] = "market",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what was corrected of a series: when, by which source, from which value to which."""
    wanted = arguments.key_of(key)
    zone = arguments.zone_of(wanted.timeframe, timezone)
    asked = Asked(
        key=wanted,
        since=moments.moment_or_name(since, timezone),
        until=arguments.moment(until, timezone, is_end=True),
        start=arguments.moment(start, zone),
        end=arguments.moment(end, zone, is_end=True),
        limit=limit,
    )

    async def work(storage: Storage) -> Corrected:
        return await asked.read(storage, with_candles=html is not None)

    found = _read(work, asked)
    place = ZoneInfo(zone) if zone else UTC
    if html is not None:
        from jts_storage.cli import history_page, pages

        text = history_page.page(found, place, colors)
        told(partial(pages.write, html, text))
    if as_json:
        print_json([_as_json(each, place) for each in found.corrections])
    elif as_csv:
        print_csv(_COLUMNS, _lines(found.corrections, place))
    else:
        _print(found, place)
        if html is not None:
            typer.echo(f"Written: {html}")
    if found.has_more:
        typer.echo(f"{more_than(limit, 'correction')}: --limit 0 shows all.", err=True)


def _read(work: Callable[[Storage], Awaitable[Corrected]], asked: Asked) -> Corrected:
    """A moment is looked up in MongoDB; without one ClickHouse alone tells what is kept, unless
    it cannot tell what was deleted from what is not kept any more.
    """
    from jts_storage.clickhouse.corrections import UnprovenDeletion

    async def proven(storage: Storage) -> Corrected | None:
        try:
            return await work(storage)
        except UnprovenDeletion:
            return None

    found = moments.reading(proven, None) if asked.since is None else None
    return found or with_storage(work)


def _print(found: Corrected, place: tzinfo) -> None:
    if not found.corrections:
        typer.echo(f"Nothing of {found.key} was corrected{found.span}, as far as history is kept.")
        return
    print_table(_SHOWN, _table(found.corrections, place))
    candles = len({each.timestamp for each in found.corrections})
    deleted = sum(each.after is None for each in found.corrections)
    kinds = {"correction": len(found.corrections) - deleted, "deletion": deleted}
    summary = " and ".join(counted(number, name) for name, number in kinds.items() if number)
    typer.echo(f"{summary} of {counted(candles, 'candle')}")


def _table(corrections: Sequence[Correction], place: tzinfo) -> Iterator[tuple[object, ...]]:
    """A line for each value that was corrected, and one for each candle that was deleted."""
    for each in corrections:
        begins = (seconds(each.commit.moment), printable(each.source), _at(each, place))
        if each.after is None:
            yield (*begins, "candle", f"close {each.before.close}", "deleted")
            continue
        for name in changed(each):
            yield (*begins, name, str(getattr(each.before, name)), str(getattr(each.after, name)))


def _lines(corrections: Sequence[Correction], place: tzinfo) -> Iterator[tuple[object, ...]]:
    """A line for each value that was corrected or deleted."""
    for each in corrections:
        change = "deleted" if each.after is None else "corrected"
        for name in changed(each):
            yield (
                each.commit.moment,
                each.source,
                each.timestamp.astimezone(place),
                change,
                name,
                getattr(each.before, name),
                "" if each.after is None else getattr(each.after, name),
            )


def _as_json(each: Correction, place: tzinfo) -> dict[str, object]:
    return {
        "at": each.commit.moment,
        "commit": each.commit.version,
        "source": each.source,
        "timestamp": each.timestamp.astimezone(place),
        "change": "deleted" if each.after is None else "corrected",
        "fields": changed(each),
        "before": {name: getattr(each.before, name) for name in FIELDS},
        "after": each.after and {name: getattr(each.after, name) for name in FIELDS},
    }


def changed(each: Correction) -> list[str]:
    """The fields that have another value, all of them where there is no candle any more."""
    return [
        name
        for name in FIELDS
        if each.after is None or getattr(each.before, name) != getattr(each.after, name)
    ]


def _at(each: Correction, place: tzinfo) -> str:
    """The time of a candle, with its seconds where it has any."""
    moment = each.timestamp.astimezone(place)
    has_seconds = moment.second or moment.microsecond
    return moment.isoformat(" ") if has_seconds else f"{moment:%Y-%m-%d %H:%M}"
