"""``jts-storage coverage``: bars in the terminal, or a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import numpy as np
import typer
from rich.text import Text

from jts_storage.cli import arguments
from jts_storage.cli.arguments import Calendar, Code, OfExchange, OfTimeframe, Zone
from jts_storage.cli.coverage_page import (
    Shown,
    day_number,
    fitting,
    missing_by_day,
    page,
    rounded_down,
)
from jts_storage.cli.groups import grouped
from jts_storage.cli.output import AsJson, Meter, meter, out, print_json, with_reader, with_storage
from jts_storage.domain.calendar import resolve
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.plot import PlotColors
from jts_storage.domain.resampling import zone
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.storage import Storage
from jts_storage.usecases.coverage import Coverage, Range, SeriesCoverage

_WIDTH = 60
_PAGE = 10_000
_SHADES = "·▁▂▃▄▅▆▇█"
_ZONES = {"XKRX": "Asia/Seoul", "XNYS": "America/New_York", "XTKS": "Asia/Tokyo"}


@dataclass(frozen=True, kw_only=True)
class OfOneSeries:
    """What is asked about one series, or noted of it."""

    backfill: Annotated[
        tuple[str, str] | None,
        typer.Option(help="START END: print the ranges to ask a source for."),
    ] = None
    known_empty: Annotated[
        tuple[str, str] | None,
        typer.Option(help="START END: keep that nothing was traded there."),
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
        typer.Option(help="Of the page's candles: market, korea, west or colorblind."),
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

    painted = _colors(colors)

    async def work(storage: Storage) -> list[Shown]:
        names = await _names_of_symbols(storage)
        keys = [
            key
            for key in await arguments.chosen(storage, symbol, timeframe, exchange)
            if listed.is_named(key, names.get(key.symbol, ""))
        ]
        found = []
        covered = await _covered(storage, keys, calendar, timezone, bar)
        for number, seen in enumerate(covered):
            bar.update(number, number / len(keys))
            candles = seen.candles if html is None else await _daily(storage, seen)
            candles = fitting(fitting(candles), of=len(keys))
            title = names.get(seen.coverage.key.symbol, "")
            found.append(replace(seen, candles=candles, colors=painted, title=title))
        return listed.of(found)

    with meter("Looking", quiet=as_json) as bar:
        found = with_reader(work, bookkeeping=True)
    if html is not None:
        write_page(html, found)
    if as_json:
        print_json([_summary(item.coverage) for item in found])
        return
    draw(found, nothing="No series fits." if listed.containing or listed.incomplete else None)
    if html is not None:
        typer.echo(f"Written: {html}")


def _colors(text: str) -> PlotColors:
    if text not in get_args(PlotColors):
        raise typer.BadParameter(f"{text!r} is none of {', '.join(get_args(PlotColors))}.")
    return cast("PlotColors", text)


async def look(
    storage: Storage,
    key: SeriesKey,
    calendar: str | None = None,
    timezone: str | None = None,
    *,
    with_candles: bool,
    title: str | None = None,
) -> Shown:
    """Read what is shown of a series.

    :param title: the name of its symbol, where it is known.
    """
    (seen,) = await _covered(storage, [key], calendar, timezone)
    if with_candles:
        seen = replace(seen, candles=fitting(await _daily(storage, seen)))
    if title is None:
        symbol = await storage.symbols.get_by_code(key.symbol)
        title = symbol.name if symbol else ""
    return replace(seen, title=title)


async def _covered(
    storage: Storage,
    keys: Sequence[SeriesKey],
    calendar: str | None,
    timezone: str | None,
    bar: Meter | None = None,
) -> list[Shown]:
    """The coverage of each series, without its candles."""
    together: dict[tuple[str | None, str], list[SeriesKey]] = {}
    for key in keys:
        named = arguments.calendar_for(calendar, key.exchange)
        together.setdefault((named, zone_of(key, named, timezone)), []).append(key)
    found: dict[SeriesKey, Shown] = {}
    for (named, place), alike in together.items():
        before = len(found)

        def told(done: int, before: int = before) -> None:
            if bar is not None:
                bar.update(before + done, (before + done) / len(keys))

        for one in await Coverage(storage).of_many(
            alike, calendar=named, timezone=place, progress=told
        ):
            empty = CandleSeries.empty(one.key)
            found[one.key] = Shown(coverage=one, candles=empty, calendar=named, timezone=place)
    return [found[key] for key in keys]


async def _daily(storage: Storage, seen: Shown) -> CandleSeries:
    """The candles of a series by day, or as they are if they are coarser."""
    from jts_storage.usecases.export_candles import resampled

    found, key = seen.coverage, seen.coverage.key
    if found.first is None or found.last is None:
        return CandleSeries.empty(key)
    blocks = storage.candles.stream(key, found.first, found.last)
    if key.timeframe.is_intraday:
        blocks = resampled(blocks, Timeframe.D1, resolve(seen.calendar), seen.timezone)
    daily = [block async for block in blocks]
    candles = daily[0]
    for block in daily[1:]:
        candles = candles.merge(block)
    return candles


async def _names_of_symbols(storage: Storage) -> dict[str, str]:
    """The name of each symbol by its code, asked for in pages and not one by one."""
    names: dict[str, str] = {}
    after = None
    while page := await storage.symbols.list(limit=_PAGE, after=after):
        names.update((symbol.code, symbol.name) for symbol in page)
        after = page[-1].code
    return names


def zone_of(key: SeriesKey, calendar: str | None, timezone: str | None) -> str:
    """In which zone its days are shown; daily bars are stamped with their date in UTC."""
    if not key.timeframe.is_intraday:
        return "UTC"
    return timezone or _ZONES.get(calendar or "", "UTC")


def write_page(path: Path, found: Sequence[Shown]) -> None:
    """:raises InvalidData: it cannot be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page(found), encoding="utf-8")
    except OSError as exc:
        raise InvalidData(f"{path} cannot be written: {exc.strerror}.") from exc


def draw(found: Sequence[Shown], *, nothing: str | None = None) -> None:
    """A bar a series: how full each stretch of days is, by the fullest day.

    :param nothing: what to say where there is no series.
    """
    if not found:
        typer.echo(nothing or "No candles are stored.")
        return
    console = out()
    width = max(len(str(item.coverage.key)) for item in found)
    for item in found:
        seen = item.coverage
        line = Text(f"{seen.key!s:<{width}} ")
        line.append_text(_bar(seen, zone(item.timezone)))
        line.append(f" {seen.rows:>11,} rows, {rounded_down(100 * seen.complete):6.2f} %")
        if seen.gaps:
            line.append(f", {seen.missing:,} missing in {len(seen.gaps):,} gaps", style="red")
        console.print(line)
        if seen.first and seen.last:
            ends = f"{seen.first:%Y-%m-%d}", f"{seen.last:%Y-%m-%d}"
            console.print(f"{'':<{width}} {ends[0]}{ends[1]:>{_WIDTH - 10}}", style="dim")


def _bar(seen: SeriesCoverage, timezone: tzinfo) -> Text:
    line = Text()
    if not seen.by_day:
        return line
    first, last = min(seen.by_day), max(seen.by_day)
    days = (last - first).days + 1
    buckets = min(_WIDTH, days)
    begins = np.arange(buckets) * days // buckets
    rows = np.zeros(days, np.int64)
    places = np.fromiter(map(date.toordinal, seen.by_day), np.int64) - first.toordinal()
    rows[places] = list(seen.by_day.values())
    # The fullest day of a stretch: holidays must not make it look thin.
    fullest = np.maximum.reduceat(rows, begins)
    lacks = np.zeros(days, np.bool_)
    lacking = np.fromiter(missing_by_day(seen.gaps, timezone), np.int64) - day_number(first)
    lacks[lacking[(lacking >= 0) & (lacking < days)]] = True
    for most, has_gap in zip(fullest.tolist(), np.logical_or.reduceat(lacks, begins), strict=True):
        share = most / fullest.max()
        shade = _SHADES[round(share * (len(_SHADES) - 1))]
        line.append(shade, style="red" if has_gap else "green" if share else "dim")
    return line


def _summary(seen: SeriesCoverage) -> dict[str, object]:
    return {
        "key": seen.key,
        "rows": seen.rows,
        "first": seen.first,
        "last": seen.last,
        "complete": round(seen.complete, 6),
        "missing": seen.missing,
        "gaps": seen.gaps,
        "known_empty": seen.known_empty,
    }


def _about_one(
    key: SeriesKey, one: OfOneSeries, calendar: str | None, timezone: str | None, *, as_json: bool
) -> None:
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
