"""How candles look in Arrow, and in the Parquet files that the kit writes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.columns import NAMES, PRICES, Int64Array, blocks

ROW_GROUP_ROWS: Final = 65_536
_ZSTD_LEVEL: Final = 1
_FEW: Final = 10_000
"""Texts that are put together here; of more Arrow makes an array several times as fast."""


def candle_schema(*, nullable: bool = True) -> Any:
    """Return the Arrow schema of candles: timestamp[ms, UTC], decimal128(18, 4), uint64.

    :param nullable: False for files: ClickHouse reads columns without nulls as plain columns.
    """
    import pyarrow as pa

    types = (pa.timestamp("ms", "UTC"), *[price_type()] * len(PRICES), pa.uint64())
    fields = zip(NAMES, types, strict=True)
    return pa.schema([pa.field(name, kind, nullable=nullable) for name, kind in fields])


def price_type() -> Any:
    import pyarrow as pa

    return pa.decimal128(18, checks.PRICE_DECIMALS)


def decimals_of(scaled: Int64Array, declared: Any = None) -> Any:
    """Return scaled values as an Arrow array of decimals.

    :param declared: their type, if they are not prices times 10**4.
    """
    import pyarrow as pa

    # A decimal128 is two 64-bit words; the high one only repeats the sign of the low one.
    words = np.empty((len(scaled), 2), np.int64)
    for block in blocks(len(scaled)):
        words[block, 0] = scaled[block]
        np.right_shift(scaled[block], 63, out=words[block, 1])
    return pa.Array.from_buffers(declared or price_type(), len(scaled), [None, pa.py_buffer(words)])


def plain_array(values: Any, declared: Any) -> Any:
    """Return a column as an Arrow array without Arrow's converter, or None if it needs that one.

    Arrow's imports pandas wherever it is installed, which takes longer than the read of some rows.

    :param values: a NumPy array.
    """
    import pyarrow as pa

    if values.dtype == object:
        return texts_of(values, declared)
    # The bytes of a number in the other order would be those of another number.
    if not values.dtype.isnative:
        return None
    if values.dtype.kind not in "iuf" or pa.from_numpy_dtype(values.dtype) != declared:
        return None
    held = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(declared, len(values), [None, held])


def texts_of(values: Sequence[Any], declared: Any) -> Any:
    """As `plain_array`, for texts; None also where they are many, or not all of them are texts."""
    import pyarrow as pa

    is_few = len(values) <= _FEW
    if not is_few or declared != pa.string() or not all(type(value) is str for value in values):
        return None
    try:
        texts = [value.encode() for value in values]
    except UnicodeEncodeError:  # half of a pair: Arrow says what is wrong
        return None
    ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    if ends[-1] > np.iinfo(np.int32).max:
        return None
    held = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(b"".join(texts))]
    return pa.Array.from_buffers(declared, len(texts), held)


def parquet_options(compression: str = "zstd") -> dict[str, Any]:
    """Return the options with which pyarrow writes a Parquet file of candles."""
    return {
        "compression": compression,
        "compression_level": _ZSTD_LEVEL if compression == "zstd" else None,
        # Prices as 64-bit integers and differences between rows take the least space.
        "store_decimal_as_integer": True,
        "column_encoding": dict.fromkeys(NAMES, "DELTA_BINARY_PACKED"),
        "use_dictionary": False,
        "write_statistics": ["timestamp"],
        "write_page_checksum": True,
    }


def open_parquet(path: Path) -> Any:
    """Open a Parquet file whose pages are compared with their checksums as they are read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    source: Any = path
    try:
        str(path).encode()
    except UnicodeEncodeError:  # a name that is no text: only plain files are opened by bytes
        source = pa.OSFile(os.fsencode(path))
    return pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=False)
