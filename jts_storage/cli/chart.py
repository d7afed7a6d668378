"""Prices drawn with characters."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from jts_storage.domain.candle import Candle
from jts_storage.domain.series import CandleSeries

_HEIGHT = 16
_LABEL = 14
"""How wide a price at the edge of the chart may be."""


def candlesticks(series: CandleSeries, width: int) -> Iterator[str]:
    """Lines of a chart of the last candles that fit: bodies are full where the price fell."""
    candles = list(series.tail(max(1, min(len(series), width - _LABEL - 1))))
    low, high = min(c.low for c in candles), max(c.high for c in candles)
    step = (high - low) / _HEIGHT or Decimal(1)
    for row in range(_HEIGHT):
        top = high - row * step
        drawn = "".join(_part(candle, top - step, top) for candle in candles)
        yield f"{_price(top, step):>{_LABEL}} {drawn.rstrip()}"


def _part(candle: Candle, bottom: Decimal, top: Decimal) -> str:
    """What one candle shows between two prices; what lies on an edge is in both lines."""
    least, most = sorted((candle.open, candle.close))
    if least <= top and most >= bottom:
        if least == most:
            return "─"
        return "░" if candle.close > candle.open else "█"
    return "│" if candle.low <= top and candle.high >= bottom else " "


def _price(price: Decimal, step: Decimal) -> str:
    """No more decimals than tell one line from the next."""
    places = max(0, min(4, 1 - step.adjusted()))
    return f"{price:,.{places}f}"
