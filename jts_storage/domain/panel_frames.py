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
    # Arrow would make a text of anything, also of the number 5930 that was the symbol 005930.
    if not _holds_texts(column.type):
        raise _no_texts(column, name)
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


def _holds_texts(kind: Any) -> bool:
    """Whether an Arrow type is of texts, or of the bytes of texts."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        kind = kind.value_type
    as_texts = types.is_string, types.is_large_string, types.is_string_view
    as_bytes = types.is_binary, types.is_large_binary, types.is_binary_view
    return any(is_of(kind) for is_of in (*as_texts, *as_bytes))


def _no_texts(column: Any, name: str) -> InvalidData:
    return InvalidData(
        f"must be texts, not {column.type}",
        field=name,
        remedy=f'Read it as such, as pd.read_csv(..., dtype={{"{name}": str}}) does: '
        "a number has lost its leading zeros.",
    )


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
