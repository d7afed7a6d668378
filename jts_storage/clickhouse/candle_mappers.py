"""Series to the columns that ClickHouse holds, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from functools import cache
from operator import attrgetter
from typing import Any

import numpy as np
from sqlalchemy import Table

from jts_storage.clickhouse.blocks import Array, DictionaryColumn, Typed
from jts_storage.clickhouse.constructs import type_of
from jts_storage.clickhouse.unmerged import compete, without_deleted
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns, empty
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.unreadable import LeftOut
from jts_storage.errors import InvalidData

_left_out = LeftOut("series")

_NOTHING = np.empty(0, np.int64)


def rows_to_columns(table: Table, rows: SeriesRows, **more: Any) -> dict[str, Typed]:
    """Return the columns of an insert, called and typed as the table declares them.

    Integers of a Decimal are its scaled value, of a time its ticks.

    :param more: columns beside the candle itself, each a value for all rows or one for each.
    """
    columns = rows.columns
    values: dict[str, Any] = {
        "symbol": _name_of_each_row(rows, "symbol"),
        "exchange": _name_of_each_row(rows, "exchange"),
        "timeframe": _name_of_each_row(rows, "timeframe._value_"),
        "timestamp": columns.timestamp,
        "open": columns.open,
        "high": columns.high,
        "low": columns.low,
        "close": columns.close,
        "volume": columns.volume,
        **more,
    }
    types = _types(table)
    return {table.c[key].name: Typed(types[key], value) for key, value in values.items()}


@cache
def _types(table: Table) -> Mapping[str, str]:
    return {column.key: type_of(column) for column in table.c}


def _name_of_each_row(rows: SeriesRows, name: str) -> Any:
    names = list(map(attrgetter(name), rows.keys))
    known = {each: number for number, each in enumerate(dict.fromkeys(names))}
    if len(known) == 1:
        return names[0]
    of_series = np.fromiter(map(known.__getitem__, names), np.int64, len(names))
    return DictionaryColumn.of(tuple(known), of_series[rows.number])


def series_from_columns(key: SeriesKey, columns: Mapping[str, Array]) -> CandleSeries:
    """A series of the first six columns of a result, ascending; a result of no rows may be {}."""
    if not columns:
        return CandleSeries.trusted(key, empty())
    timestamp, opening, high, low, close, volume = list(columns.values())[:6]
    # An expression may come back signed or not; the bytes are the same.
    prices = (opening, high, low, close)
    return CandleSeries.trusted(
        key, Columns.of(timestamp.view(np.int64), prices, volume.view(np.uint64))
    )


def copied(series: CandleSeries) -> CandleSeries:
    """The same in memory of its own."""
    return CandleSeries.trusted(series.key, series.columns.each(np.copy))


def by_time(columns: Mapping[str, Array]) -> Mapping[str, Array]:
    """Rows as they came, sorted; mostly they are."""
    stamps = columns.get("ms", _NOTHING)
    if (stamps[1:] >= stamps[:-1]).all():
        return columns
    order = np.argsort(stamps, kind="stable")
    return {name: column[order] for name, column in columns.items()}


def series_from_rows(key: SeriesKey, columns: Mapping[str, Array]) -> CandleSeries | None:
    """The candles among rows by time; None if there are several of a timestamp."""
    if not columns:
        return CandleSeries.empty(key)
    return None if compete(columns["ms"]) else series_from_columns(key, without_deleted(columns))


def series_from_end(key: SeriesKey, columns: Mapping[str, Array], *, is_cut: bool) -> CandleSeries:
    """The candles among rows from one end of a series, which may hold duplicates.

    Of the rows of a timestamp the one with the highest version counts.

    :param is_cut: whether there are more rows behind; then the last timestamp may lack some, and
        is left out.
    """
    if not columns or not len(columns["ms"]):
        return CandleSeries.empty(key)
    stamps = columns["ms"].view(np.int64)
    rows = np.flatnonzero(stamps != stamps[-1]) if is_cut else np.arange(len(stamps))
    rows = rows[np.lexsort((columns["version"][rows], stamps[rows]))]
    ordered = stamps[rows]
    last_of_equals = np.append(ordered[1:] != ordered[:-1], True)[: len(rows)]
    kept = rows[last_of_equals & (columns["deleted"][rows] == 0)]
    return series_from_columns(key, {name: column[kept] for name, column in columns.items()})


def readable_keys(names: Iterable[Sequence[str]]) -> Iterator[SeriesKey]:
    """The keys of symbol, exchange and timeframe, without those that only other programs know."""
    for symbol, exchange, timeframe in names:
        try:
            yield SeriesKey(symbol, timeframe, exchange)  # type: ignore[arg-type]
        except InvalidData as exc:
            _left_out.tell(f"{symbol} {exchange} {timeframe}", str(exc))


def days_of(columns: Mapping[str, Array]) -> dict[date, int]:
    """How many candles each day has."""
    if not columns:
        return {}
    days = columns["day"].astype("M8[D]").tolist()
    return dict(zip(days, columns["rows"].tolist(), strict=True))


def may_overflow(columns: Mapping[str, Array]) -> bool:
    """Return whether a sum of volumes may be too large; ClickHouse's wrap around silently."""
    at_most = columns["largest"].astype(np.float64) * columns["rows"]
    return bool((at_most >= checks.VOLUME_LIMIT / 2).any())
