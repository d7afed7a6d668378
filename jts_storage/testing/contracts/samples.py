"""Candles and ranges that several suites use."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count as counter

from hypothesis import HealthCheck, settings

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.testing.factories import START

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
DAY = date(2024, 1, 2)
FOREVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC))
fresh = counter()

# Each example takes a key of its own, so all of them, in every subclass, can share a repository.
MANY_SUBCLASSES = (HealthCheck.function_scoped_fixture, HealthCheck.differing_executors)

_MANY = 100
"""More examples than by default are drawn by a profile that takes its time."""


def examples(usual: int, many: int | None = None) -> int:
    """How many examples of real stores to draw: `many` where there is time, or ten times."""
    return (many or 10 * usual) if settings().max_examples > _MANY else usual


def minute(number: int) -> datetime:
    return START + timedelta(minutes=number)


def candle(number: int, close: str = "103") -> Candle:
    prices = (Decimal(100), Decimal(200), Decimal("0.0001"), Decimal(close))
    return Candle(minute(number), *prices, volume=number)


def flat(timestamp: datetime, price: str, volume: int) -> Candle:
    level = Decimal(price)
    return Candle(timestamp, level, level, level, level, volume)
