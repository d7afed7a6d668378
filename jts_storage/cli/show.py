"""``show``: the rows of a series, and what they look like."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import typer

from jts_storage.cli import arguments, completion, moments
from jts_storage.cli.arguments import End, Start, Zone
from jts_storage.cli.groups import grouped
from jts_storage.cli.moments import AsOfMoment
from jts_storage.cli.output import AsJson, out, print_csv, print_json, print_table
from jts_storage.domain.candle import SeriesKey

if TYPE_CHECKING:
    from jts_storage.domain.series import CandleSeries
    from jts_storage.ports.history import View
    from jts_storage.storage import Storage

_FIELDS = ("open", "high", "low", "close", "volume")
_COLUMNS = ("timestamp", *_FIELDS)


@dataclass(frozen=True, kw_only=True)
class ShownRange:
    """Which rows are shown."""

    last: Annotated[int, typer.Option(help="So many of the last rows.", min=1)] = 20
    start: Start = None
    end: End = None
    timezone: Zone = None

    async def read(self, storage: Storage | View, key: SeriesKey) -> CandleSeries:
        from jts_storage.domain.checks import FIRST_TIMESTAMP, LAST_TIMESTAMP
        from jts_storage.domain.series import CandleSeries

        timezone = arguments.zone_of(key.timeframe, self.timezone)
        first = arguments.moment(self.start, timezone)
        last = arguments.moment(self.end, timezone, is_end=True)
        if first is None and last is None:
            return await storage.candles.get_latest(key, self.last)
        ends = first or FIRST_TIMESTAMP, last or LAST_TIMESTAMP
        if first is not None:
            return await storage.candles.get_range(key, *ends)
        panel = await storage.candles.get_panel(key.timeframe, *ends, keys=[key], last=self.last)
        return panel.get(key) or CandleSeries.empty(key)


@grouped
def show(
    *,
    key: Annotated[
        str,
        typer.Argument(
            help="The series, as KRX:005930/1m or 005930/1d.", autocompletion=completion.keys
        ),
    ],
    rows: ShownRange,
    as_of: AsOfMoment = None,
    as_chart: Annotated[bool, typer.Option("--chart", help="Draw candlesticks.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the rows of a series, by default the last."""
    wanted = arguments.key_of(key)
    named = arguments.zone_of(wanted.timeframe, rows.timezone)
    place = ZoneInfo(named) if named else UTC

    moment = moments.moment_or_name(as_of, rows.timezone)

    async def work(storage: Storage) -> CandleSeries:
        source = await moments.seen(storage, moment)
        found = await rows.read(source, wanted)
        if not len(found):
            await arguments.check_named(wanted, storage, source)
        return found

    series = moments.reading(work, moment)
    if as_json:
        print_json([dict(zip(_COLUMNS, row, strict=True)) for row in _rows(series, place)])
    elif as_csv:
        print_csv(_COLUMNS, _rows(series, place))
    elif not len(series):
        typer.echo(f"No candles of {wanted} there.")
    else:
        _print(series, place, as_chart=as_chart)


def _rows(series: CandleSeries, place: tzinfo) -> list[tuple[object, ...]]:
    return [
        (candle.timestamp.astimezone(place), *(getattr(candle, name) for name in _FIELDS))
        for candle in series
    ]


def _print(series: CandleSeries, place: tzinfo, *, as_chart: bool) -> None:
    from jts_storage.cli import chart
    from jts_storage.domain.sparkline import sparkline

    if as_chart:
        for line in chart.candlesticks(series, out().width):
            typer.echo(line)
        typer.echo(f"{_ends(series, place)}, {len(series):,} candles")
        return
    print_table(_COLUMNS, [(_shown(row[0]), *row[1:]) for row in _rows(series, place)])
    typer.echo(f"close {sparkline([candle.close for candle in series])}")


def _ends(series: CandleSeries, place: tzinfo) -> str:
    assert series.start is not None and series.end is not None
    return f"{_shown(series.start.astimezone(place))} to {_shown(series.end.astimezone(place))}"


def _shown(moment: object) -> str:
    """A moment with its seconds where it has any, for they tell rows apart."""
    assert isinstance(moment, datetime)
    text = moment.strftime("%Y-%m-%d %H:%M")
    return text if not (moment.second or moment.microsecond) else moment.isoformat(" ")
