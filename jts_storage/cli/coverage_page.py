"""One page that shows what is stored: no network, no library, opened from a file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo
from typing import Any

import numpy as np

from jts_storage.cli import pages
from jts_storage.domain import checks
from jts_storage.domain.columns import Int64Array
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.gaps import Gap
from jts_storage.domain.plot import PlotColors, palette
from jts_storage.domain.resampling import zone
from jts_storage.domain.series import CandleSeries
from jts_storage.usecases.coverage import SeriesCoverage

_EPOCH = date(1970, 1, 1)
_LONGEST_GAPS = 200
_MOST_CANDLES = 800
# Of all series together, so that a page of hundreds stays below a megabyte.
_ALL_GAPS = 6_000
_ALL_CANDLES = 18_000
_FEWEST = 8
_MINUTE, _DATE = "%Y-%m-%d %H:%M", "%Y-%m-%d"
_SPANS = {Timeframe.D1: "day", Timeframe.W1: "week", Timeframe.MN1: "month"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A series on the page: its coverage, and its candles by day, or coarser if there are many.

    :param title: the name of the symbol.
    :param timezone: of its days, and of the moments on the page.
    :param colors: of its candles, see `CandleSeries.plot`.
    """

    coverage: SeriesCoverage
    candles: CandleSeries
    calendar: str | None = None
    timezone: str = "UTC"
    title: str = ""
    colors: PlotColors = "market"


def page(series: Sequence[Shown]) -> str:
    """The whole page."""
    gaps = min(max(_ALL_GAPS // max(len(series), 1), _FEWEST), _LONGEST_GAPS)
    data = {
        "made": f"{checks.now():%Y-%m-%d %H:%M} UTC",
        "series": [_described(item, gaps) for item in series],
    }
    return pages.filled("coverage_page.html", data)


def fitting(series: CandleSeries, of: int = 1) -> CandleSeries:
    """No more candles than can be seen.

    :param of: how many series share the page.
    """
    most = min(max(_ALL_CANDLES // max(of, 1), _FEWEST), _MOST_CANDLES)
    if len(series) > most and series.key.timeframe is Timeframe.D1:
        # In one step: weeks that are too many need not be made.
        if len(series) <= 7 * most and len(weeks := series.resample(Timeframe.W1)) <= most:
            return weeks
        series = series.resample(Timeframe.MN1)
    return series.tail(most)


def _described(shown: Shown, most_gaps: int) -> dict[str, Any]:
    found = shown.coverage
    days = np.fromiter(map(date.toordinal, found.by_day), np.int64) - _EPOCH.toordinal()
    rows = np.fromiter(found.by_day.values(), np.int64)
    timezone = zone(shown.timezone)
    written = _MINUTE if found.key.timeframe.is_intraday else _DATE
    missing = missing_by_day(found.gaps, timezone)
    empty = missing_by_day(found.known_empty, timezone)
    longest = sorted(found.gaps, key=lambda gap: -gap.bars)[:most_gaps]
    return {
        "name": str(found.key),
        "title": shown.title,
        "calendar": shown.calendar,
        "timezone": shown.timezone,
        "rows": found.rows,
        "first": _moment(found.first, timezone, written),
        "last": _moment(found.last, timezone, written),
        "first_day": int(days.min()) if len(days) else 0,
        "last_day": int(days.max()) if len(days) else -1,
        "full_day": int(rows.max()) if len(rows) else 0,
        "percent": f"{rounded_down(100 * found.complete):.2f}",
        "missing": found.missing,
        "gap_count": len(found.gaps),
        "days": _in_columns(days, rows),
        "gap_days": _in_columns(
            np.fromiter(missing, np.int64), np.fromiter(missing.values(), np.int64)
        ),
        "empty_days": sorted(empty),
        "gaps": [
            [_moment(gap.start, timezone, written), _moment(gap.end, timezone, written), gap.bars]
            for gap in sorted(longest, key=lambda gap: gap.start)
        ],
        "candle": _SPANS.get(shown.candles.key.timeframe, "bar"),
        "candles": _bars(shown.candles),
        "colors": palette(found.key.exchange, shown.colors),
    }


def _in_columns(days: Int64Array, values: Int64Array) -> list[list[int] | int]:
    """Days as steps from one to the next, and their values: alike, so that they are packed well.

    A value that all have is written once.
    """
    order = np.argsort(days, kind="stable")
    steps, values = np.diff(days[order], prepend=0).tolist(), values[order]
    is_one = len(values) > 0 and bool((values == values[0]).all())
    return [steps, int(values[0]) if is_one else values.tolist()]


def _moment(at: datetime | None, timezone: tzinfo, written: str) -> str:
    return at.astimezone(timezone).strftime(written) if at else "-"


def rounded_down(percent: float) -> float:
    """Only what lacks nothing is shown as 100."""
    return math.floor(percent * 100) / 100


def missing_by_day(gaps: Sequence[Gap], timezone: tzinfo) -> Counter[int]:
    """Missing candles by local day, counted from 1970; a gap of several is spread over them."""
    found: Counter[int] = Counter()
    for gap in gaps:
        first, last = (day_number(at.astimezone(timezone).date()) for at in (gap.start, gap.end))
        share, rest = divmod(gap.bars, last - first + 1)
        for day in range(first, last + 1):
            missing = share + (day - first < rest)
            if missing:
                found[day] += missing
    return found


def _bars(series: CandleSeries) -> list[list[float]]:
    """Convert prices for the chart: numbers in JavaScript are 64-bit floats."""
    columns = series.columns
    days = (columns.timestamp // 86_400_000).tolist()
    prices = ((column / checks.PRICE_SCALE).tolist() for column in columns[1:5])
    return [list(bar) for bar in zip(days, *prices, columns.volume.tolist(), strict=True)]


def day_number(day: date) -> int:
    return (day - _EPOCH).days
