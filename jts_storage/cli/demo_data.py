"""An invented market: three symbols, two years of minutes, with the faults of real files.

The same files come out every time. Sessions and holidays are those of the Korean exchange; prices
keep to its price steps.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.calendar import exchange_calendar
from jts_storage.domain.columns import NAMES, PRICES, Int64Array
from jts_storage.domain.columns import Columns as CandleColumns
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.gaps import expected_timestamps
from jts_storage.domain.interchange import to_arrow

START = datetime(2023, 1, 2, tzinfo=UTC)
END = datetime(2024, 12, 31, tzinfo=UTC)
EXCHANGE = "KRX"
CALENDAR = "XKRX"

_STEPS = np.array([1, 5, 10, 50, 100, 500, 1_000])
_LIMITS = np.array([2_000, 5_000, 20_000, 50_000, 200_000, 500_000])
_SEOUL_MS = 9 * 3_600_000


@dataclass(frozen=True, slots=True)
class Company:
    code: str
    name: str
    market: Market
    sector: str
    price: int
    seed: int
    file: str


COMPANIES = (
    Company("005930", "Samsung Electronics", Market.KOSPI, "Semiconductors", 61_000, 1, "a.csv"),
    Company("000660", "SK hynix", Market.KOSPI, "Semiconductors", 98_000, 2, "b.parquet"),
    Company("035720", "Kakao", Market.KOSPI, "Internet", 54_000, 3, "c.csv.gz"),
)

ColumnsByName = dict[str, Any]


def write(folder: Path) -> Iterator[Path]:
    """Write a file for each company, each in another format, and give its path."""
    folder.mkdir(parents=True, exist_ok=True)
    minutes = expected_timestamps(
        checks.to_ms(START), checks.to_ms(END), Timeframe.M1, exchange_calendar(CALENDAR)
    )
    writers: tuple[Callable[[ColumnsByName, Path], None], ...] = (_iso_csv, _parquet, _korean_csv)
    for company, writer in zip(COMPANIES, writers, strict=True):
        path = folder / f"{company.code}.{company.file.partition('.')[2]}"
        # Written once, under another name first: an interrupted demo leaves no half file.
        if not path.exists():
            half = path.with_name(f".half.{path.name}")
            writer(_spoiled(_walk(minutes, company), company), half)
            half.replace(path)
        yield path


def _walk(minutes: Int64Array, company: Company) -> ColumnsByName:
    random = np.random.default_rng(company.seed)
    days, minute_of = np.unique(minutes // 86_400_000, return_inverse=True)
    trend = np.cumsum(random.normal(0.0004, 0.014, len(days)))[minute_of]
    noise = random.normal(0, 0.0006, len(minutes))
    within = np.cumsum(noise) - np.cumsum(noise)[np.searchsorted(minute_of, minute_of)]
    close = _on_step(company.price * np.exp(trend + within))
    opening = np.concatenate(([close[0]], close[:-1]))
    # A session opens near its own first close, not where the last one ended.
    first = np.flatnonzero(np.diff(minute_of, prepend=-1))
    opening[first] = close[first]
    step = _step_of(close)
    high = np.maximum(opening, close) + step * random.integers(0, 3, len(minutes))
    low = np.minimum(opening, close) - step * random.integers(0, 3, len(minutes))
    elapsed = np.arange(len(minutes)) - first[minute_of]
    busy = 1 + 3 * np.exp(-elapsed / 20) + 2 * np.exp(-(390 - elapsed) / 15)
    volume = (random.gamma(2.0, 6_000, len(minutes)) * busy).astype(np.int64) + 1
    return {
        "timestamp": minutes,
        "open": opening,
        "high": _on_step(high),
        "low": _on_step(low),
        "close": close,
        "volume": volume,
    }


def _step_of(price: Any) -> Any:
    return _STEPS[np.searchsorted(_LIMITS, price, side="right")]


def _on_step(price: Any) -> Any:
    step = _step_of(price)
    return (np.rint(price / step) * step).astype(np.int64)


def _spoiled(columns: ColumnsByName, company: Company) -> ColumnsByName:
    """Add what real feeds have: trading halts, missing, wrong and duplicate rows."""
    random = np.random.default_rng(100 + company.seed)
    rows = len(columns["timestamp"])
    at = np.sort(random.choice(rows - 1_000, 40, replace=False)) + 500
    columns["volume"][at[:12]] = 0
    high, low = columns["high"][at[12:18]].copy(), columns["low"][at[12:18]].copy()
    columns["high"][at[12:18]], columns["low"][at[12:18]] = low - 100, high + 100
    columns["close"][at[18:20]] += 7  # off the price step
    columns["high"][at[18:20]] += 100
    columns["timestamp"][at[20:23]] += 11 * 3_600_000  # in the middle of the night
    keep = np.ones(rows, np.bool_)
    for start, length in ((rows // 3, 45), (rows // 2, 390), (rows * 4 // 5, 12)):
        offset = company.seed * 977
        keep[start + offset : start + offset + length] = False  # trading was halted
    order = np.flatnonzero(keep)
    order = np.insert(order, at[30:34], order[at[30:34]])  # duplicate rows
    return {name: column[order] for name, column in columns.items()}


def _iso_csv(columns: ColumnsByName, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.csv as arrow_csv

    moments = pa.array(columns["timestamp"] + _SEOUL_MS).cast(pa.timestamp("ms"))
    text = pa.compute.strftime(moments.cast(pa.timestamp("s")), "%Y-%m-%dT%H:%M:%S+09:00")
    arrow_csv.write_csv(pa.table({**columns, "timestamp": text}), path)


def _parquet(columns: ColumnsByName, path: Path) -> None:
    import pyarrow.parquet as pq

    prices = (columns[name] * checks.PRICE_SCALE for name in PRICES)
    volume = columns["volume"].astype(np.uint64)
    table = to_arrow(CandleColumns.of(columns["timestamp"], prices, volume))
    pq.write_table(table, path)


def _korean_csv(columns: ColumnsByName, path: Path) -> None:
    """As a broker's program writes it: semicolons, points between thousands, its own headers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moments = pa.array((columns["timestamp"] + _SEOUL_MS) // 1_000).cast(pa.timestamp("s"))
    fields = [pc.strftime(moments, "%Y%m%d"), pc.strftime(moments, "%H%M")]
    for name in NAMES[1:]:
        text = pa.array(columns[name]).cast(pa.string())
        if name != "volume":
            text = pc.replace_substring_regex(text, r"^(\d+)(\d{3})$", r"\1.\2")
            text = pc.binary_join_element_wise(text, pa.scalar(",0"), "")
        fields.append(text)
    lines = pc.binary_join_element_wise(*fields, ";")
    header = "일자;시간;시가;고가;저가;종가;거래량\r\n"
    body = "\r\n".join(lines.to_pylist())
    with gzip.GzipFile(path, "wb", compresslevel=3, mtime=0) as file:
        file.write(b"\xef\xbb\xbf" + (header + body + "\r\n").encode())
