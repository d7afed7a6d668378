"""A series of a million candles against the plainest code that moves the same rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from harness import compare, report, timed

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries

ROWS = 1_000_000
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BareCandle:
    timestamp: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int


def random_walk(rows: int) -> CandleSeries:
    random = np.random.default_rng(0)
    close = 700_000_000 + np.cumsum(random.integers(-3, 4, rows)) * 1_000_000
    opening = close + random.integers(-3, 4, rows) * 500_000
    high = np.maximum(opening, close) + random.integers(0, 4, rows) * 500_000
    low = np.minimum(opening, close) - random.integers(0, 4, rows) * 500_000
    stamps = 1_704_153_600_000 + np.arange(rows) * 60_000
    volume = random.integers(1, 1_000_000, rows).astype(np.uint64)
    return CandleSeries.trusted(KEY, Columns.of(stamps, (opening, high, low, close), volume))


def copied(columns: Columns) -> list[np.ndarray[Any, Any]]:
    return [column.copy() for column in columns]


def bare_candles(columns: Columns) -> None:
    """Frozen dataclasses of exact prices from the same columns, without a loop in Python."""
    unit = Decimal("0.0001")
    stamps, *scaled, volumes = (column.tolist() for column in columns)
    milliseconds = map(timedelta(milliseconds=1).__mul__, stamps)
    prices = (map(unit.__mul__, column) for column in scaled)
    deque(map(BareCandle, map(EPOCH.__add__, milliseconds), *prices, volumes), maxlen=0)


def walk(series: CandleSeries) -> None:
    deque(series, maxlen=0)


def many(work: Callable[[], object], times: int = 20_000) -> Callable[[], None]:
    def repeated() -> None:
        for _ in range(times):
            work()

    return repeated


def main() -> None:
    series, small = random_walk(ROWS), random_walk(1_000)
    columns, table = series.columns, series.to_arrow()
    compare(
        "series_from_arrow_1m",
        lambda: CandleSeries.from_arrow(KEY, table),
        lambda: copied(columns),
    )
    compare(
        "series_to_pandas_float_1m",
        lambda: series.to_pandas(prices="float"),
        lambda: pd.DataFrame(dict(zip(columns._fields, copied(columns), strict=True)), copy=False),
    )
    compare("series_iterate_1m", lambda: walk(series), lambda: bare_candles(columns), runs=7)
    # The floor of what takes no longer the longer the series: the same on a thousand rows.
    for name, access in {
        "len": len,
        "index": lambda of: of[len(of) // 2],
        "slice": lambda of: of[100:900],
    }.items():
        compare(
            f"series_{name}_1m_against_1k",
            many(lambda access=access: access(series)),  # type: ignore[misc]
            many(lambda access=access: access(small)),  # type: ignore[misc]
        )
    report("series_fingerprint_1m", seconds=timed(lambda: random_walk(ROWS).fingerprint()))


if __name__ == "__main__":
    main()
