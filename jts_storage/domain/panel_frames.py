"""Panels from and to Arrow and pandas: the columns of series, and which series a row is of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import AnyArray, Columns, Int64Array
from jts_storage.domain.interchange import PandasPrices, first_null, to_arrow, to_pandas
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    import pandas as pd


def names_of_series(table: Any) -> tuple[AnyArray, AnyArray]:
    """The columns `symbol` and `exchange` of a table of several series; no exchange is ""."""
    if "symbol" not in table.schema.names:
        raise InvalidData("lacks symbol, which names the series of a row", field="columns")
    symbols = _texts(table.column("symbol"), "symbol")
    if "exchange" not in table.schema.names:
        return symbols, np.full(len(symbols), "")
    return symbols, _texts(table.column("exchange"), "exchange")


def _texts(column: Any, name: str) -> AnyArray:
    import pyarrow as pa

    if column.null_count:
        raise InvalidData("must not be null", field=name, row=first_null(column))
    try:
        texts: AnyArray = np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False))
    except (pa.ArrowException, TypeError) as exc:
        raise InvalidData(f"must be texts, not {column.type}", field=name) from exc
    return texts.astype(np.str_)


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
