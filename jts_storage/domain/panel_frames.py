"""Panels from and to Arrow and pandas: the columns of series, and which series a row is of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, ranked, series_of_rows
from jts_storage.domain.interchange import PandasPrices, first_null, to_arrow, to_pandas
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd

_TEXTS = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
"""Types of Arrow that hold texts, or the bytes of texts."""


def names_of_series(table: Any) -> tuple[list[tuple[str, str]], Int64Array]:
    """The symbols and exchanges of a table of several series, in order, and of each row which.

    No exchange is "".
    """
    present = table.schema.names
    if "symbol" not in present:
        raise InvalidData("lacks symbol, which names the series of a row", field="columns")
    repeated = [name for name in ("symbol", "exchange") if present.count(name) > 1]
    if repeated:
        raise InvalidData(f"has {', '.join(repeated)} more than once", field="columns")
    symbols, of_symbol = _texts(table.column("symbol"), "symbol")
    exchanges, of_exchange = [""], np.zeros(len(of_symbol), np.int64)
    if "exchange" in present:
        exchanges, of_exchange = _texts(table.column("exchange"), "exchange")
    pairs = of_symbol * len(exchanges) + of_exchange
    known, number = np.unique(pairs, return_inverse=True)
    names = [
        (symbols[at // len(exchanges)], exchanges[at % len(exchanges)]) for at in known.tolist()
    ]
    order, place = ranked(names)
    return [names[at] for at in order], place[number.reshape(-1)]


def _texts(column: Any, name: str) -> tuple[list[str], Int64Array]:
    """The texts of a column, and which each row has."""
    import pyarrow as pa

    if not len(column):  # the columns of an empty frame may have any type
        return [], np.zeros(0, np.int64)
    if column.null_count:
        raise InvalidData("must not be null", field=name, row=first_null(column))
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if str(kind) not in _TEXTS:
        raise InvalidData(
            f"must be texts, not {kind}: zeros may stand in front",
            field=name,
            remedy=f"Read it as texts, in pandas with read_csv(..., dtype={{{name!r}: str}}).",
        )
    try:
        texts = column.cast(pa.string())
    except pa.ArrowException as exc:
        raise InvalidData(f"must be texts: {exc}", field=name) from exc
    if texts.null_count:  # a dictionary may hold it as one of its values
        raise InvalidData("must not be null", field=name, row=first_null(texts))
    texts = texts.dictionary_encode()
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    return texts.dictionary.to_pylist(), texts.indices.to_numpy().astype(np.int64)


def panel_to_arrow(
    keys: Sequence[SeriesKey], offsets: Int64Array, columns: Columns, fields: Sequence[str]
) -> Any:
    """The table of `to_arrow` with symbol and exchange before it, as dictionaries."""
    import pyarrow as pa

    table = to_arrow(columns).select(["timestamp", *fields])
    for place, (name, known, of_row) in enumerate(_names_of_rows(keys, offsets)):
        named = pa.DictionaryArray.from_arrays(pa.array(of_row), pa.array(known, pa.string()))
        table = table.add_column(place, name, named)
    return table


def panel_to_pandas(
    keys: Sequence[SeriesKey],
    offsets: Int64Array,
    columns: Columns,
    fields: Sequence[str],
    prices: PandasPrices,
) -> pd.DataFrame:
    """The frame of `to_pandas`, indexed by symbol, exchange and timestamp."""
    frame = to_pandas(columns, prices)[list(fields)]
    import pandas as pd

    names = [
        pd.Categorical.from_codes(of_row, pd.Index(known, dtype=object))
        for _, known, of_row in _names_of_rows(keys, offsets)
    ]
    index = pd.MultiIndex.from_arrays(
        [*names, frame.index], names=["symbol", "exchange", "timestamp"]
    )
    return frame.set_axis(index, axis=0)


def _names_of_rows(
    keys: Sequence[SeriesKey], offsets: Int64Array
) -> Iterator[tuple[str, list[str], AnyArray]]:
    """Yield symbol and exchange: their texts in order, and of each row which it has."""
    number = series_of_rows(offsets)
    for name in ("symbol", "exchange"):
        texts = np.array([getattr(key, name) for key in keys], np.str_)
        known, of_series = np.unique(texts, return_inverse=True)
        yield name, known.tolist(), of_series.astype(np.int32).reshape(-1)[number]
