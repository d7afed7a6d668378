"""One page that shows what was corrected of a series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Any, Final, cast

from jts_storage.cli import pages
from jts_storage.domain import checks
from jts_storage.domain.plot import PlotColors, palette

if TYPE_CHECKING:
    from jts_storage.cli.history_reading import Corrected
    from jts_storage.domain.candle import Candle
    from jts_storage.domain.correction import Correction

_FIELDS: Final = ("open", "high", "low", "close", "volume")
_MOST_LINES: Final = 2_000
_MOST_POINTS: Final = 3_000
_MINUTE, _DATE = "%Y-%m-%d %H:%M", "%Y-%m-%d"


def page(found: Corrected, place: tzinfo, colors: str = "market") -> str:
    """The whole page.

    :param place: the zone of the candles' times.
    :param colors: see `CandleSeries.plot`.
    """
    corrections = found.corrections
    written = _MINUTE if found.key.timeframe.is_intraday else _DATE
    shown = corrections[-_MOST_LINES:]
    data = {
        "made": f"{checks.now():%Y-%m-%d %H:%M} UTC",
        "name": str(found.key),
        "timezone": str(place),
        "count": len(corrections),
        "has_more": found.has_more,
        "candles": len({each.timestamp for each in corrections}),
        "deleted": sum(each.after is None for each in corrections),
        "sources": sorted({each.source for each in corrections}),
        "points": _points(corrections, found.candles, place, written),
        "lines": [_line(each, place, written) for each in shown],
        "colors": palette(found.key.exchange, cast("PlotColors", colors)),
    }
    return pages.filled("history_page.html", data)


def _points(
    corrections: Sequence[Correction], now: Sequence[Candle], place: tzinfo, written: str
) -> list[list[Any]]:
    """Of each candle its time, the close before and now, None where there is none, and by which
    source and when it was last corrected."""
    first: dict[datetime, Correction] = {}
    last: dict[datetime, Correction] = {}
    for each in corrections:
        first.setdefault(each.timestamp, each)
        last[each.timestamp] = each
    present = {candle.timestamp: candle for candle in now}
    stamps = sorted({*present, *first})
    return [_point(stamp, first, last, present, place, written) for stamp in stamps[-_MOST_POINTS:]]


def _point(
    stamp: datetime,
    first: Mapping[datetime, Correction],
    last: Mapping[datetime, Correction],
    present: Mapping[datetime, Candle],
    place: tzinfo,
    written: str,
) -> list[Any]:
    # What is there now, which a later commit than those asked for may have made.
    new = float(present[stamp].close) if stamp in present else None
    time = stamp.astimezone(place).strftime(written)
    if stamp not in first:
        return [time, new, new, 0, "", ""]
    by = last[stamp]
    return [time, float(first[stamp].before.close), new, 1, by.source, _moment(by)]


def _line(each: Correction, place: tzinfo, written: str) -> list[Any]:
    changes: list[list[str]] = []
    if each.after is not None:
        changes = [
            [name, str(getattr(each.before, name)), str(getattr(each.after, name))]
            for name in _FIELDS
            if getattr(each.before, name) != getattr(each.after, name)
        ]
    before = "" if each.after is not None else str(each.before.close)
    stamp = each.timestamp.astimezone(place).strftime(written)
    return [_moment(each), each.source, stamp, changes, before]


def _moment(each: Correction) -> str:
    return f"{each.commit.moment:%Y-%m-%d %H:%M:%S}"
