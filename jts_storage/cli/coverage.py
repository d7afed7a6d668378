"""``jts-storage coverage``: bars in the terminal, or a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from jts_storage.cli import arguments
from jts_storage.cli.arguments import Calendar, Code, OfExchange, OfTimeframe, Zone
from jts_storage.cli.groups import grouped
from jts_storage.cli.output import AsJson, meter, print_json, with_reader, with_storage
from jts_storage.domain.candle import SeriesKey

if TYPE_CHECKING:
    from jts_storage.cli.coverage_page import Shown
    from jts_storage.domain.plot import PlotColors
    from jts_storage.storage import Storage
    from jts_storage.usecases.coverage import Range, SeriesCoverage


def _colors(text: str) -> str:
    from jts_storage.domain.plot import PlotColors

    if text not in get_args(PlotColors):
        raise typer.BadParameter(f"{text!r} is none of {', '.join(get_args(PlotColors))}.")
    return text


def _ends_of_range(given: tuple[str, str] | None) -> tuple[str, str] | None:
    for text in given or ():
        arguments.moment(text, None)
    return given


@dataclass(frozen=True, kw_only=True)
class OfOneSeries:
    """What is asked about one series, or noted of it."""

    backfill: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="START END: print the ranges to ask a source for.", callback=_ends_of_range
        ),
    ] = None
    known_empty: Annotated[
        tuple[str, str] | None,
        typer.Option(
            help="START END: keep that nothing was traded there.", callback=_ends_of_range
        ),
    ] = None

    @property
    def is_given(self) -> bool:
        return self.backfill is not None or self.known_empty is not None


class Order(StrEnum):
    COMPLETE = "complete"
    MISSING = "missing"
    ROWS = "rows"
    LAST = "last"
    NAME = "name"


_ORDERS: dict[Order, Callable[[SeriesCoverage], Any]] = {
    Order.COMPLETE: lambda seen: (seen.complete, -seen.missing),
    Order.MISSING: lambda seen: -seen.missing,
    Order.ROWS: lambda seen: seen.rows,
    Order.LAST: lambda seen: (seen.last is not None, seen.last),
    Order.NAME: lambda seen: (),
}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Which series are shown, and in which order."""

    containing: Annotated[
        str | None,
        typer.Option("--filter", help="Only series whose key or symbol's name contains this."),
    ] = None
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="Only series that lack candles.")
    ] = False
    sort: Annotated[Order, typer.Option(help="What the worst comes first of; name is by key.")] = (
        Order.COMPLETE
    )

    def is_named(self, key: SeriesKey, title: str) -> bool:
        wanted = (self.containing or "").casefold()
        return wanted in f"{key} {title}".casefold()

    def of(self, found: Iterable[Shown]) -> list[Shown]:
        """Those that are shown, in their order; equals by key."""
        shown = [one for one in found if one.coverage.gaps or not self.incomplete]
        order = _ORDERS[self.sort]
        return sorted(shown, key=lambda one: (order(one.coverage), one.coverage.key.sort_key))


@grouped
def coverage(
    *,
    symbol: Code = None,
    timeframe: OfTimeframe = None,
    exchange: OfExchange = None,
    calendar: Calendar = None,
    timezone: Zone = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that shows it.")] = None,
    colors: Annotated[
        str,
        typer.Option(
            help="Of the page's candles: market, korea, west or colorblind.", callback=_colors
        ),
    ] = "market",
    listed: Listed,
    one: OfOneSeries,
    as_json: AsJson = False,
) -> None:
    """Show what is stored of each series, and what is missing; the worst comes first."""
    if one.is_given:
        if symbol is None or timeframe is None:
            raise typer.BadParameter("--backfill and --known-empty need --symbol and --timeframe.")
        key = SeriesKey(symbol, arguments.timeframe_of(timeframe), exchange or "")
        _about_one(key, one, calendar, timezone, as_json=as_json)
        return

    from jts_storage.cli import coverage_looks as looks
    from jts_storage.cli.coverage_page import fitting

    painted = cast("PlotColors", colors)

    async def work(storage: Storage) -> list[Shown]:
        names = await looks.names_of_symbols(storage)
        keys = [
            key
            for key in await arguments.chosen(storage, symbol, timeframe, exchange)
            if listed.is_named(key, names.get(key.symbol, ""))
        ]
        found = []
        covered = await looks.covered(storage, keys, calendar, timezone, bar)
        daily = {}
        if html is not None:
            async for key, candles in looks.daily_of_many(storage, covered):
                daily[key] = fitting(candles, of=len(keys))
                bar.update(len(daily), len(daily) / len(keys))
        for seen in covered:
            candles = daily.get(seen.coverage.key, seen.candles)
            title = names.get(seen.coverage.key.symbol, "")
            found.append(replace(seen, candles=candles, colors=painted, title=title))
        return listed.of(found)

    with meter("Looking", quiet=as_json) as bar:
        found = with_reader(work, bookkeeping=True)
    nothing = "No series fits." if listed.containing or listed.incomplete else None
    _show(found, html, nothing, as_json=as_json)


def _show(found: list[Shown], html: Path | None, nothing: str | None, *, as_json: bool) -> None:
    from jts_storage.cli import coverage_looks as looks

    if html is not None:
        looks.write_page(html, found)
    if as_json:
        print_json([looks.summary(item.coverage) for item in found])
        return
    if html is None or not found:
        looks.draw(found, nothing=nothing)
    if html is not None:
        typer.echo(looks.counted_up(found))  # the page has what would be drawn here
        typer.echo(f"Written: {html}")


def _about_one(
    key: SeriesKey, one: OfOneSeries, calendar: str | None, timezone: str | None, *, as_json: bool
) -> None:
    from jts_storage.usecases.coverage import Coverage

    ends_in = arguments.zone_of(key.timeframe, timezone)

    async def work(storage: Storage) -> list[Range]:
        use_case = Coverage(storage)
        # First: what is noted as empty now is not asked for again.
        if one.known_empty is not None:
            start, end = _ends(one.known_empty, ends_in)
            await use_case.record_empty(key, start, end)
        if one.backfill is None:
            return []
        start, end = _ends(one.backfill, ends_in)
        named = arguments.calendar_for(calendar, key.exchange)
        return await use_case.plan_backfill(key, start, end, calendar=named)

    ranges = with_storage(work) if one.known_empty else with_reader(work, bookkeeping=True)
    if as_json:
        print_json(ranges)
    elif one.backfill is None:
        typer.echo("Kept.")
    else:
        for item in ranges:
            typer.echo(f"{item.start.isoformat()} {item.end.isoformat()} {item.bars}")
        if not ranges:
            typer.echo("Nothing is missing.", err=True)


def _ends(given: tuple[str, str], timezone: str | None) -> tuple[datetime, datetime]:
    start = arguments.moment(given[0], timezone)
    end = arguments.moment(given[1], timezone, is_end=True)
    assert start is not None
    assert end is not None
    return start, end
