"""Panels from and to Arrow and pandas: the columns of series, and which series a row is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns, Int64Array
from jts_storage.domain.interchange import PandasPrices, first_null, to_arrow, to_pandas
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


def names_of_series(table: Any) -> tuple[list[tuple[str, str]], Int64Array]:
    """The symbols and exchanges of a table of several series, in order, and of each row which.

    No exchange is "".
    """
    if "symbol" not in table.schema.names:
        raise InvalidData("lacks symbol, which names the series of a row", field="columns")
    symbols, of_symbol = _texts(table.column("symbol"), "symbol")
    exchanges, of_exchange = [""], np.zeros(len(of_symbol), np.int64)
    if "exchange" in table.schema.names:
        exchanges, of_exchange = _texts(table.column("exchange"), "exchange")
    pairs = of_symbol * len(exchanges) + of_exchange
    known, number = np.unique(pairs, return_inverse=True)
    names = [
        (symbols[at // len(exchanges)], exchanges[at % len(exchanges)]) for at in known.tolist()
    ]
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return [names[at] for at in order], place[number.reshape(-1)]


def _texts(column: Any, name: str) -> tuple[list[str], Int64Array]:
    """The texts of a column, and which each row has."""
    import pyarrow as pa

    if column.null_count:
        raise InvalidData("must not be null", field=name, row=first_null(column))
    try:
        texts = column.cast(pa.string()).dictionary_encode()
    except (pa.ArrowException, TypeError) as exc:
        raise InvalidData(f"must be texts, not {column.type}", field=name) from exc
    if isinstance(texts, pa.ChunkedArray):
        texts = texts.combine_chunks()
    if isinstance(texts, pa.ChunkedArray):  # of no rows
        return [], np.zeros(0, np.int64)
    return texts.dictionary.to_pylist(), texts.indices.to_numpy().astype(np.int64)


def panel_to_arrow(
    keys: Sequence[SeriesKey], offsets: Int64Array, columns: Columns, fields: Sequence[str]
) -> Any:
    """The table of `to_arrow` with symbol and exchange before it, as dictionaries."""
    import pyarrow as pa

    number = np.repeat(np.arange(len(keys), dtype=np.int32), np.diff(offsets))
    names = {
        "symbol": [key.symbol for key in keys],
        "exchange": [key.exchange for key in keys],
    }
    table = to_arrow(columns).select(["timestamp", *fields])
    for place, (name, values) in enumerate(names.items()):
        known, of_series = np.unique(np.array(values, np.str_), return_inverse=True)
        indices = pa.array(of_series.astype(np.int32).reshape(-1)[number])
        named = pa.DictionaryArray.from_arrays(indices, pa.array(known.tolist(), pa.string()))
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

    number = np.repeat(np.arange(len(keys)), np.diff(offsets))
    names = []
    for name in ("symbol", "exchange"):
        known, of_series = np.unique([getattr(key, name) for key in keys], return_inverse=True)
        codes = of_series.reshape(-1)[number]
        names.append(pd.Categorical.from_codes(codes, pd.Index(known.tolist(), dtype=object)))
    index = pd.MultiIndex.from_arrays(
        [*names, frame.index], names=["symbol", "exchange", "timestamp"]
    )
    return frame.set_axis(index, axis=0)
