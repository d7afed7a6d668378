"""Candlesticks drawn by matplotlib, which is imported when a chart is first asked for.

Where a rising price is red, as in Korea and China, the charts of such an exchange are, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np

from jts_storage.domain import calendar, checks
from jts_storage.domain.columns import PRICES
from jts_storage.errors import InvalidConfiguration, InvalidData

if TYPE_CHECKING:
    from jts_storage.domain.series import CandleSeries

PlotColors = Literal["market", "korea", "west", "colorblind"]


class Palette(NamedTuple):
    up: str
    down: str


_RED_UP_BLUE_DOWN = Palette("#d32f2f", "#1565c0")
_RED_UP_GREEN_DOWN = Palette("#d32f2f", "#2e7d32")
_GREEN_UP_RED_DOWN = Palette("#2e7d32", "#d32f2f")
# Orange and blue differ for every kind of colour blindness, and in grey.
_COLORBLIND = Palette("#e69f00", "#0072b2")

_OF_CALENDAR = {
    "XKRX": _RED_UP_BLUE_DOWN,
    **dict.fromkeys(("XSHG", "XTAI"), _RED_UP_GREEN_DOWN),
}
_KOREAN = frozenset({"UPBIT", "BITHUMB", "COINONE"})
_BODY = 0.7
_LABELS = 6


def palette(exchange: str, colors: PlotColors = "market") -> Palette:
    """Return the colours of rising and falling candles of an exchange.

    :raises InvalidData: there are no such colours.
    """
    if colors not in get_args(PlotColors):
        names = ", ".join(get_args(PlotColors))
        raise InvalidData(f"must be one of {names}", field="colors", value=colors)
    if colors == "market":
        name = exchange.upper()
        if name in _KOREAN:
            return _RED_UP_BLUE_DOWN
        return _OF_CALENDAR.get(calendar.CALENDARS.get(name, name), _GREEN_UP_RED_DOWN)
    return {
        "korea": _RED_UP_BLUE_DOWN,
        "west": _GREEN_UP_RED_DOWN,
        "colorblind": _COLORBLIND,
    }[colors]


def candlesticks(series: CandleSeries, ax: Any, colors: PlotColors) -> Any:
    """Draw a series into `ax`, or into a figure of its own, and return the axes.

    Candles stand side by side, so that nights and holidays leave no holes. A rising body is
    hollow, so that the direction shows without colour, too.
    """
    chosen = palette(series.key.exchange, colors)
    axes = _new_axes() if ax is None else ax
    columns = series.to_columns()
    opening, high, low, close = (columns[name] / checks.PRICE_SCALE for name in PRICES)
    at = np.arange(len(series))
    for color, rows, is_hollow in (
        (chosen.up, close > opening, True),
        (chosen.down, close < opening, False),
        ("gray", close == opening, False),
    ):
        top, bottom = np.maximum(opening, close)[rows], np.minimum(opening, close)[rows]
        axes.vlines(at[rows], low[rows], bottom, color=color, linewidth=1)
        axes.vlines(at[rows], top, high[rows], color=color, linewidth=1)
        face = "none" if is_hollow else color
        axes.bar(at[rows], top - bottom, _BODY, bottom, color=face, edgecolor=color, linewidth=1)
    _label(axes, series)
    return axes


def _new_axes() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ImportError as exc:
        raise InvalidConfiguration(
            "a chart needs the package matplotlib.", remedy="Install jts-storage[plot]."
        ) from exc
    return plt.subplots(layout="constrained")[1]


def _label(axes: Any, series: CandleSeries) -> None:
    axes.set_title(str(series.key), loc="left")
    stamps = series.to_columns()["timestamp"]
    rows: Any = (
        np.unique(np.linspace(0, len(stamps) - 1, _LABELS).astype(int)) if len(stamps) else []
    )
    form = "%m-%d %H:%M" if series.key.timeframe.is_intraday else "%Y-%m-%d"
    axes.set_xticks(rows, [checks.from_ms(int(stamps[row])).strftime(form) for row in rows])
    axes.tick_params(axis="x", labelrotation=30)
    axes.grid(axis="y", alpha=0.3)
