"""Frames in memory as Arrow tables: ours, yfinance's and ccxt's."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from jts_storage.domain.columns import NAMES
from jts_storage.domain.interchange import library
from jts_storage.errors import InvalidData
from jts_storage.readers.headers import plain, target_of


def as_table(data: Any, symbol: str | None = None) -> Any:
    """An Arrow table of a pandas or polars frame, a table, a batch, or rows as ccxt gives them.

    :param symbol: whose columns to take of a yfinance frame of several tickers.
    """
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if isinstance(data, list):
        return _from_rows(data)
    if type(data).__module__.startswith("polars"):
        return data.to_arrow()
    return _from_pandas(data, symbol)


def _from_rows(rows: list[Any]) -> Any:
    """ccxt's rows: milliseconds, open, high, low, close, volume."""
    for number, row in enumerate(rows):
        if not isinstance(row, list | tuple) or len(row) != len(NAMES):
            raise InvalidData(f"must be {', '.join(NAMES)}", field="row", value=row, row=number)
    columns = list(zip(*rows, strict=True)) or [()] * len(NAMES)
    try:
        return pa.table([pa.array(column) for column in columns], names=list(NAMES))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise InvalidData(f"rows mix kinds of values: {exc}", field="source") from exc


def _from_pandas(frame: Any, symbol: str | None) -> Any:
    pd = library("pandas")
    if not isinstance(frame, pd.DataFrame):
        raise InvalidData("must be a frame", field="source", value=type(frame).__name__)
    if isinstance(frame.columns, pd.MultiIndex):
        frame = _of_one_ticker(frame, symbol)
    frame = _with_labels(frame)
    names = {plain(str(name)) for name in frame.columns}
    # yfinance and others keep the timestamps in the index.
    is_dated = isinstance(frame.index, pd.DatetimeIndex) or frame.index.name == "timestamp"
    if is_dated and not names & {"timestamp", "datetime", "date"}:
        frame = frame.reset_index(names="timestamp")
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise InvalidData(f"the frame mixes kinds of values: {exc}", field="source") from exc


def _with_labels(frame: Any) -> Any:
    """Turn index levels that name the symbol or the timestamps into columns."""
    import pandas as pd

    found = {target_of(str(name)) for name in frame.columns}
    targets = {name: target_of(name) for name in frame.index.names if isinstance(name, str)}
    levels = [
        name for name, target in targets.items() if target is not None and target not in found
    ]
    is_dated = isinstance(frame.index, pd.DatetimeIndex)
    return frame if is_dated or not levels else frame.reset_index(levels)


def _of_one_ticker(frame: Any, symbol: str | None) -> Any:
    """yfinance labels columns with a price and a ticker, in either order."""
    levels = [{plain(str(value)) for value in level} for level in frame.columns.levels]
    prices = next((n for n, level in enumerate(levels) if {"open", "close"} <= level), None)
    if prices is None or frame.columns.nlevels != 2:
        raise InvalidData("has labels of several levels, none with open and close", field="source")
    tickers = list(dict.fromkeys(frame.columns.get_level_values(1 - prices)))
    ticker = tickers[0] if len(tickers) == 1 else symbol
    if ticker not in tickers:
        raise InvalidData(
            f"has several tickers ({', '.join(map(str, tickers))}), not {symbol}", field="source"
        )
    return frame.xs(ticker, axis=1, level=1 - prices)
