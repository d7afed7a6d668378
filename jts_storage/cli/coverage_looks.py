"""What ``jts-storage coverage`` reads, and draws in the terminal or on a page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from datetime import date, tzinfo
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from jts_storage.cli import arguments, pages
from jts_storage.cli.coverage_page import (
    Shown,
    day_number,
    fitting,
    missing_by_day,
    page,
    rounded_down,
)
from jts_storage.cli.output import Meter, counted, out
from jts_storage.domain.calendar import resolve
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.resampling import zone
from jts_storage.domain.series import CandleSeries
from jts_storage.storage import Storage
from jts_storage.usecases.coverage import Coverage, SeriesCoverage

if TYPE_CHECKING:
    from rich.text import Text

_WIDTH = 60
_PAGE = 10_000
_SHADES = "·▁▂▃▄▅▆▇█"
_ZONES = {"XKRX": "Asia/Seoul", "XNYS": "America/New_York", "XTKS": "Asia/Tokyo"}


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
    (seen,) = await covered(storage, [key], calendar, timezone)
    if with_candles:
        seen = replace(seen, candles=fitting(await daily(storage, seen)))
    if title is None:
        symbol = await storage.symbols.get_by_code(key.symbol)
        title = symbol.name if symbol else ""
    return replace(seen, title=title)


async def covered(
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


async def daily(storage: Storage, seen: Shown) -> CandleSeries:
    """The candles of a series by day, or as they are if they are coarser."""
    from jts_storage.usecases.export_candles import resampled

    found, key = seen.coverage, seen.coverage.key
    if found.first is None or found.last is None:
        return CandleSeries.empty(key)
    blocks = storage.candles.stream(key, found.first, found.last)
    if key.timeframe.is_intraday:
        blocks = resampled(blocks, Timeframe.D1, resolve(seen.calendar), seen.timezone)
    blocks_by_day = [block async for block in blocks]
    candles = blocks_by_day[0]
    for block in blocks_by_day[1:]:
        candles = candles.merge(block)
    return candles


async def daily_of_many(
    storage: Storage, found: Sequence[Shown]
) -> AsyncIterator[tuple[SeriesKey, CandleSeries]]:
    """Each series with what `daily` gives of it; those no finer than days come in one reading."""
    stored = [seen.coverage for seen in found if seen.coverage.rows]
    frames = dict.fromkeys(seen.key.timeframe for seen in stored)
    for timeframe in (frame for frame in frames if not frame.is_intraday):
        its = [seen for seen in stored if seen.key.timeframe is timeframe]
        first = min(seen.first for seen in its if seen.first is not None)
        last = max(seen.last for seen in its if seen.last is not None)
        reading: CandleSeries | None = None  # it may go on in the next panel
        async for panel in storage.candles.stream_panels(
            timeframe, first, last, keys=[seen.key for seen in its]
        ):
            for key in panel:
                if reading is not None and reading.key == key:
                    reading = reading.merge(panel[key])
                    continue
                if reading is not None:
                    yield reading.key, reading
                reading = panel[key]
        if reading is not None:
            yield reading.key, reading
    for seen in found:
        if seen.coverage.key.timeframe.is_intraday:
            yield seen.coverage.key, await daily(storage, seen)


async def names_of_symbols(storage: Storage) -> dict[str, str]:
    """The name of each symbol by its code, asked for in pages and not one by one."""
    names: dict[str, str] = {}
    after = None
    while page := await storage.symbols.list(limit=_PAGE, after=after):
        names.update((symbol.code, symbol.name) for symbol in page)
        if len(page) < _PAGE:
            break
        after = page[-1].code
    return names


def zone_of(key: SeriesKey, calendar: str | None, timezone: str | None) -> str:
    """In which zone its days are shown; daily bars are stamped with their date in UTC."""
    if not key.timeframe.is_intraday:
        return "UTC"
    return timezone or _ZONES.get(calendar or "", "UTC")


def write_page(path: Path, found: Sequence[Shown]) -> None:
    """:raises InvalidData: it cannot be written there."""
    pages.write(path, page(found))


def draw(found: Sequence[Shown], *, nothing: str | None = None) -> None:
    """A bar a series: how full each stretch of days is, by the fullest day.

    :param nothing: what to say where there is no series.
    """
    if not found:
        typer.echo(nothing or "No candles are stored.")
        return
    from rich.text import Text  # not for a page

    width = max(len(str(item.coverage.key)) for item in found)
    drawn = Text("\n").join(line for item in found for line in _lines(item, width))
    out().print(drawn)  # at once: rich takes longer for each thing than for its lines


def _lines(item: Shown, width: int) -> Iterator[Text]:
    from rich.text import Text

    seen = item.coverage
    line = Text(f"{seen.key!s:<{width}} ")
    line.append_text(_bar(seen, zone(item.timezone)))
    line.append(f" {seen.rows:>11,} rows, {rounded_down(100 * seen.complete):6.2f} %")
    if seen.gaps:
        line.append(f", {seen.missing:,} missing in {len(seen.gaps):,} gaps", style="red")
    yield line
    if seen.first and seen.last:
        ends = f"{seen.first:%Y-%m-%d}", f"{seen.last:%Y-%m-%d}"
        yield Text(f"{'':<{width}} {ends[0]}{ends[1]:>{_WIDTH - 10}}", style="dim")


def _bar(seen: SeriesCoverage, timezone: tzinfo) -> Text:
    from rich.text import Text

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
    shades = np.rint(fullest / fullest.max() * (len(_SHADES) - 1)).astype(np.int64)
    styles = np.where(
        np.logical_or.reduceat(lacks, begins), "red", np.where(fullest > 0, "green", "dim")
    )
    drawn = zip((_SHADES[shade] for shade in shades), styles.tolist(), strict=True)
    # What is alike is appended at once: each piece costs the terminal's library some time.
    for style, pieces in groupby(drawn, key=itemgetter(1)):
        line.append("".join(shade for shade, _ in pieces), style=style)
    return line


def counted_up(found: Sequence[Shown]) -> str:
    """What there is of all series together, in a line."""
    seen = [item.coverage for item in found]
    rows = counted(sum(one.rows for one in seen), "row")
    lacking = [one.missing for one in seen if one.gaps]
    lacks = f"{len(lacking):,} of them {'lacks' if len(lacking) == 1 else 'lack'}"
    missing = f"{lacks} {counted(sum(lacking), 'candle')}" if lacking else "nothing is missing"
    return f"{len(seen):,} series, {rows}; {missing}."


def summary(seen: SeriesCoverage) -> dict[str, object]:
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
