"""Columns from and to Arrow, pandas and polars.

Everything goes through Arrow, whose decimal128 is a scaled integer: no float and no Python loop
touches a price. The frame libraries are imported when they are first used.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.arrow import candle_schema, decimals_of
from jts_storage.domain.columns import (
    NAMES,
    PRICES,
    AnyArray,
    Columns,
    Int64Array,
    UInt64Array,
    blocks,
    empty,
)
from jts_storage.domain.decimal_text import DIGITS, to_decimals
from jts_storage.errors import InvalidConfiguration, InvalidData

if TYPE_CHECKING:
    from decimal import Decimal

    import pandas as pd

Floats = Literal["refuse", "exact"]
PandasPrices = Literal["decimal", "float"]

_TICKS_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
# Below this a float, rounded when it was made and again times 10**4, still gives its price.
_EXACT_FLOAT_LIMIT = 2**51 / checks.PRICE_SCALE
# What Arrow reads as a number; Python would take blanks and underscores too.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def from_arrow(table: Any, floats: Floats = "refuse") -> Columns:
    """Columns of an Arrow table or record batch with the names of `NAMES`, others ignored."""
    import pyarrow as pa

    if not isinstance(table, pa.Table | pa.RecordBatch):
        raise InvalidData("must be an Arrow, pandas or polars table", field="table", value=table)
    _check_names(table.schema.names)
    if not table.num_rows:  # the columns of an empty frame may have any type
        return empty()
    raw = {name: table.column(name) for name in NAMES}
    for name, column in raw.items():
        if column.null_count:
            raise InvalidData("must not be null", field=name, row=first_null(column))
    return Columns.of(
        _timestamps(raw["timestamp"]),
        (_prices(raw[name], name, floats) for name in PRICES),
        _volumes(raw["volume"]),
    )


def to_arrow(columns: Columns) -> Any:
    """A table of timestamp[ms, UTC], decimal128(18, 4) and uint64; shares what it can."""
    import pyarrow as pa

    schema = candle_schema()
    arrays = [
        _shared(schema.field("timestamp").type, columns.timestamp),
        *(decimals_of(getattr(columns, name)) for name in PRICES),
        _shared(schema.field("volume").type, columns.volume),
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def from_pandas(frame: pd.DataFrame, floats: Floats = "refuse") -> Columns:
    """Columns of a DataFrame; an index named timestamp, or of datetimes, is the timestamp."""
    import pandas as pd
    import pyarrow as pa

    if not isinstance(frame, pd.DataFrame):
        raise InvalidData("must be a DataFrame", field="frame", value=frame)
    index = frame.index
    if "timestamp" not in frame.columns and (
        index.name == "timestamp" or isinstance(index, pd.DatetimeIndex)
    ):
        frame = frame.reset_index(names="timestamp")
    _check_names(list(frame.columns))
    arrays = [_from_pandas_column(frame[name], name) for name in NAMES]
    return from_arrow(pa.table(arrays, names=list(NAMES)), floats)


def _from_pandas_column(column: Any, name: str) -> Any:
    import pyarrow as pa

    if name == "timestamp" and column.dtype == object:
        return pa.array(_moments(column))
    try:
        return pa.array(column, from_pandas=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        return _from_objects(column, name, exc)


def _moments(column: Any) -> Int64Array:
    """Milliseconds of datetime objects; Arrow would take a naive one among them for UTC."""
    values = (checks.utc(value, "timestamp", row=row) for row, value in enumerate(column))
    return np.fromiter(map(checks.to_ms, values), np.int64, len(column))


def to_pandas(columns: Columns, prices: PandasPrices) -> pd.DataFrame:
    """A frame indexed by UTC timestamps; prices as Arrow decimals, or as the nearest floats."""
    library("pandas")
    import pandas as pd

    index = pd.DatetimeIndex(columns.timestamp.view("M8[ms]"), name="timestamp").tz_localize("UTC")
    if prices == "float":
        data: dict[str, Any] = {
            name: getattr(columns, name) / checks.PRICE_SCALE for name in PRICES
        }
    elif prices == "decimal":
        table = to_arrow(columns)
        data = {name: pd.arrays.ArrowExtensionArray(table.column(name)) for name in PRICES}
    else:
        raise InvalidData("must be 'decimal' or 'float'", field="prices", value=prices)
    # The frame is the caller's to write to; the series' own columns are not.
    return pd.DataFrame({**data, "volume": columns.volume.copy()}, index=index, copy=False)


def from_polars(frame: Any, floats: Floats = "refuse") -> Columns:
    import polars as pl
    import pyarrow as pa

    if not isinstance(frame, pl.DataFrame):
        raise InvalidData("must be a polars DataFrame", field="frame", value=frame)
    _check_names(frame.columns)
    try:
        table = frame.select(NAMES).to_arrow()
    except pa.ArrowException as exc:
        raise InvalidData(f"cannot be read: {frame.schema}", field="columns") from exc
    return from_arrow(table, floats)


def to_polars(columns: Columns) -> Any:
    pl = library("polars")
    return pl.from_arrow(to_arrow(columns))


def library(name: str) -> Any:
    """Import a frame library.

    :raises InvalidConfiguration: it is missing; names the extra that brings it.
    """
    try:
        return import_module(name)
    except ImportError as exc:
        raise InvalidConfiguration(
            f"{name} is not installed", remedy=f"Run pip install 'jts-storage[{name}]'."
        ) from exc


def _check_names(names: list[Any]) -> None:
    missing = [name for name in NAMES if name not in names]
    if missing:
        present = ", ".join(map(str, names))
        raise InvalidData(f"lacks {', '.join(missing)}; it has {present}", field="columns")
    repeated = [name for name in NAMES if names.count(name) > 1]
    if repeated:
        raise InvalidData(f"has {', '.join(repeated)} more than once", field="columns")


def _shared(kind: Any, values: Any) -> Any:
    import pyarrow as pa

    return pa.Array.from_buffers(
        kind, len(values), [None, pa.py_buffer(np.ascontiguousarray(values))]
    )


def _chunks(column: Any) -> list[Any]:
    return list(column.chunks) if hasattr(column, "chunks") else [column]


def _int64(column: Any, kind: Any) -> Int64Array:
    """The 8-byte values of a column of that Arrow type as int64.

    They are copied: Arrow shares memory with the arrays and frames that it was made from.
    """
    parts = [
        np.frombuffer(chunk.buffers()[1], np.int64, len(chunk), chunk.offset * 8)
        for chunk in _chunks(column.cast(kind))
        if len(chunk)
    ]
    return np.concatenate(parts)


def _timestamps(column: Any) -> Int64Array:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind):
        return _whole(column, "timestamp")
    if not pa.types.is_timestamp(kind):
        remedy = "pandas: pd.to_datetime(..., utc=True); polars: .str.to_datetime(time_zone='UTC')."
        raise InvalidData(f"must be timestamps, not {kind}", field="timestamp", remedy=remedy)
    ticks = _int64(column, pa.timestamp(kind.unit))
    moments = ticks.view(f"M8[{kind.unit}]")
    if kind.tz is None:
        raise InvalidData(
            "must carry a time zone",
            field="timestamp",
            value=str(moments[0]),
            row=0,
            remedy="Attach the zone it was recorded in: dt.tz_localize('UTC') in pandas, for"
            " example, or dt.replace_time_zone('UTC') in polars.",
        )
    per_second = _TICKS_PER_SECOND[kind.unit]
    if per_second < 1_000:
        # Seconds beyond this would overflow 64 bits as milliseconds.
        _refuse_rows((ticks > 2**53) | (ticks < -(2**53)), moments, "timestamp", "is out of range")
        return ticks * 1_000
    if per_second == 1_000:
        return ticks
    milliseconds, finer = np.divmod(ticks, per_second // 1_000)
    _refuse_rows(finer != 0, moments, "timestamp", "must be whole milliseconds")
    return milliseconds


def _prices(column: Any, field: str, floats: Floats) -> Int64Array:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_integer(kind):
        whole = _whole(column, field)
        limit = checks.PRICE_LIMIT // checks.PRICE_SCALE
        _refuse_rows((whole >= limit) | (whole <= -limit), whole, field, "must fit Decimal(18, 4)")
        scaled: Int64Array = whole * checks.PRICE_SCALE
        return scaled
    if pa.types.is_floating(kind):
        return _prices_from_floats(column, field, floats)
    if not (
        pa.types.is_decimal(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
    ):
        raise InvalidData(f"must be decimals, not {kind}", field=field)
    if not pa.types.is_decimal128(kind) or kind.scale != checks.PRICE_DECIMALS:
        try:
            column = _as_prices(column)
        except pa.ArrowInvalid as exc:
            _refuse_prices(column, field, exc)
    return _prices_from_decimals(column, field)


def _as_prices(column: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        return column.cast(pa.decimal128(DIGITS, checks.PRICE_DECIMALS))
    parts = [to_decimals(chunk, checks.PRICE_DECIMALS) for chunk in _chunks(column)]
    return pa.chunked_array(parts, pa.decimal128(DIGITS, checks.PRICE_DECIMALS))


def scaled_decimals(prices: list[Decimal]) -> Int64Array | None:
    """Decimals times 10**4; None where Arrow does not see that they have four decimals."""
    import pyarrow as pa

    try:
        column = pa.array(prices, pa.decimal128(18, checks.PRICE_DECIMALS))
    except pa.ArrowInvalid:  # such as 1.00000
        return None
    return _prices_from_decimals(column, "price")


def _prices_from_decimals(column: Any, field: str) -> Int64Array:
    scaled = np.empty(len(column), np.int64)
    done = 0
    for chunk in _chunks(column):
        words = np.frombuffer(chunk.buffers()[1], np.int64, 2 * len(chunk), chunk.offset * 16)
        low, high = words[0::2], words[1::2]
        for block in blocks(len(chunk)):
            part = scaled[done + block.start : done + min(block.stop, len(chunk))]
            part[:] = low[block]
            if not np.array_equal(part >> 63, high[block]):
                wide = part >> 63 != high[block]
                row = done + block.start + int(np.flatnonzero(wide)[0])
                raise InvalidData(
                    "must fit Decimal(18, 4)", field=field, value=str(column[row]), row=row
                )
        done += len(chunk)
    return scaled


def _prices_from_floats(column: Any, field: str, floats: Floats) -> Int64Array:
    """Return scaled prices of floats that are each the nearest float to a four-decimal price."""
    values = np.asarray(column.to_numpy(), np.float64)
    if floats != "exact":
        raise InvalidData(
            "must not be floats, which cannot hold prices exactly",
            field=field,
            value=float(values[0]),
            row=0,
            remedy="Pass decimals or strings, or make a series or panel of the frame with"
            " floats='exact', as CandleSeries.from_pandas(key, frame, floats='exact') does: it"
            " takes floats that are the nearest to a price of at most four decimals, no others.",
        )
    _refuse_rows(~np.isfinite(values), values, field, "must be finite")
    _refuse_rows(
        np.abs(values) >= _EXACT_FLOAT_LIMIT, values, field, "is too large to be exact as a float"
    )
    scaled: Int64Array = np.rint(values * checks.PRICE_SCALE).astype(np.int64)
    _refuse_rows(
        scaled / checks.PRICE_SCALE != values, values, field, "must have at most four decimals"
    )
    return scaled


def _volumes(column: Any) -> UInt64Array:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_uint64(kind):
        return _int64(column, kind).view(np.uint64)
    if pa.types.is_integer(kind):
        whole = _whole(column, "volume")
        _refuse_rows(whole < 0, whole, "volume", "must not be negative")
        return whole.view(np.uint64)
    if not (pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise InvalidData(f"must be whole numbers, not {kind}", field="volume")
    try:
        # A whole number may be written as a float or a decimal without a fraction.
        return _int64(column.cast(pa.uint64()), pa.uint64()).view(np.uint64)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        for row, value in enumerate(column.to_pylist()):
            if value != value or value < 0 or value >= checks.VOLUME_LIMIT or value != int(value):
                raise InvalidData(
                    "must be a whole number below 2**64",
                    field="volume",
                    value=str(value),
                    row=row,
                ) from exc
        raise InvalidData(f"must be whole numbers, not {kind}", field="volume") from exc


def _whole(column: Any, field: str) -> Int64Array:
    import pyarrow as pa

    if pa.types.is_uint64(column.type):
        values = _int64(column, column.type)
        _refuse_rows(values < 0, values.view(np.uint64), field, "is out of range")
        return values
    return _int64(column, pa.int64())


def _refuse_rows(at_fault: Any, values: AnyArray, field: str, rule: str) -> None:
    if at_fault.any():
        row = int(np.flatnonzero(at_fault)[0])
        value = values[row]
        shown = str(value) if isinstance(value, np.datetime64) else value.item()
        raise InvalidData(rule, field=field, value=shown, row=row)


def _refuse_prices(column: Any, field: str, cause: Exception) -> NoReturn:
    """Find the row that Arrow could not convert to a price: slow, so only after it has failed."""
    from decimal import Decimal, InvalidOperation

    for row, value in enumerate(column.to_pylist()):
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            raise InvalidData("must be a number", field=field, value=value, row=row) from cause
        try:
            number = Decimal(value, checks.EXACT)
            if isinstance(value, Decimal):  # of Arrow, with zeros at its end
                number = number.normalize(checks.EXACT)
            number = checks.decimal(number, field, digits=checks.EXACT.prec, row=row)
            checks.scaled_price(number, field, row=row)
        except InvalidOperation:
            raise InvalidData("is out of range", field=field, value=value, row=row) from cause
        except InvalidData as exc:
            raise exc from cause
    raise InvalidData(f"must be prices, not {column.type}", field=field) from cause


def _from_objects(column: Any, field: str, cause: Exception) -> Any:
    """Read Python objects that Arrow refused to: name the first at fault, or large volumes."""
    import pyarrow as pa

    rows = enumerate(column)
    if field == "volume":
        below = checks.VOLUME_LIMIT
        volumes = [checks.whole(value, field, below=below, row=row) for row, value in rows]
        return pa.array(volumes, pa.uint64())
    for row, value in rows:
        checks.price(value, field, row=row)
    raise InvalidData("cannot be read as prices", field=field) from cause


def first_null(column: Any) -> int:
    return int(np.flatnonzero(np.asarray(column.is_null()))[0])
