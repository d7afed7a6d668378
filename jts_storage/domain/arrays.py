"""Columns from candles, and from a mapping of arrays or lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import repeat
from operator import attrgetter
from typing import Any

import numpy as np

from jts_storage.domain import checks, interchange
from jts_storage.domain.candle import Candle
from jts_storage.domain.columns import NAMES, PRICES, AnyArray, Columns, Int64Array
from jts_storage.errors import InvalidData

_SCALE = repeat(Decimal(checks.PRICE_SCALE))
_WORTH_ARROW = 500
"""From so many prices on Arrow reads them in half the time."""


def from_candles(candles: Iterable[object]) -> Columns:
    rows: list[Candle] = []
    for row, candle in enumerate(candles):
        if not isinstance(candle, Candle):
            raise InvalidData("must be a Candle", field="candles", value=candle, row=row)
        rows.append(candle)
    stamps, *prices, volumes = (map(attrgetter(name), rows) for name in NAMES)
    return Columns.of(
        _milliseconds(list(stamps)),
        (_prices(list(price)) for price in prices),
        np.fromiter(volumes, np.uint64, len(rows)),
    )


def _prices(prices: list[Decimal]) -> Int64Array:
    """Prices of candles, which have checked that they fit, times 10**4."""
    if len(prices) >= _WORTH_ARROW:
        scaled = interchange.scaled_decimals(prices)
        if scaled is not None:
            return scaled
    return np.fromiter(map(int, map(checks.EXACT.multiply, prices, _SCALE)), np.int64, len(prices))


def _milliseconds(stamps: list[datetime]) -> Int64Array:
    if stamps and stamps.count(stamps[0]) == len(stamps):  # bars of many series as they come in
        return np.full(len(stamps), checks.to_ms(stamps[0]))
    return np.fromiter(map(checks.to_ms, stamps), np.int64, len(stamps))


def from_mapping(columns: Mapping[str, Any]) -> Columns:
    missing = [name for name in NAMES if name not in columns]
    if missing:
        raise InvalidData(f"lacks {', '.join(missing)}", field="columns")
    return Columns.of(
        _integers(columns["timestamp"], "timestamp").astype(np.int64),
        (_scaled_prices(columns[name], name).astype(np.int64) for name in PRICES),
        _integers(columns["volume"], "volume").astype(np.uint64),
    )


def _scaled_prices(values: Any, field: str) -> AnyArray:
    array = _array(values, field)
    if array.dtype != object:
        if array.size and not isinstance(values, np.ndarray):
            # 78200 in a list could be a price, or the scaled form of 7.82.
            raise InvalidData(
                "must be Decimals, or a NumPy array of prices times 10**4",
                field=field,
                value=values[0] if isinstance(values, list | tuple) else type(values).__name__,
                remedy="Whole prices are taken from a frame, or as Decimal(78200).",
            )
        return _integers(array, field)
    return np.fromiter(
        (_scaled_decimal(value, field, row) for row, value in enumerate(array)),
        np.int64,
        len(array),
    )


def _scaled_decimal(value: object, field: str, row: int) -> int:
    if not isinstance(value, Decimal):  # an integer would be taken for a scaled one elsewhere
        raise InvalidData("must be a Decimal", field=field, value=value, row=row)
    number = checks.price(value, field, row=row)
    return checks.scaled_price(number, field, row=row)


def _integers(values: Any, field: str) -> AnyArray:
    array = _array(values, field)
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        return _checked_integers(array, field)
    if field == "volume" and array.dtype.kind == "i" and int(array.min()) < 0:
        row = int(np.flatnonzero(array < 0)[0])
        raise InvalidData("must not be negative", field=field, value=int(array[row]), row=row)
    if field != "volume" and array.dtype == np.uint64 and int(array.max()) >= 2**63:
        row = int(np.flatnonzero(array >= 2**63)[0])
        raise InvalidData("is out of range", field=field, value=int(array[row]), row=row)
    return array


def _checked_integers(values: Iterable[Any], field: str) -> AnyArray:
    """Python integers one by one; anything else is refused with its row."""
    least, below, kind = (
        (0, checks.VOLUME_LIMIT, np.uint64) if field == "volume" else (-(2**63), 2**63, np.int64)
    )
    whole = [
        checks.whole(value, field, least=least, below=below, row=row)
        for row, value in enumerate(values)
    ]
    return np.array(whole, kind)


def _array(values: Any, field: str) -> AnyArray:
    if np.ma.is_masked(values):
        row = int(np.flatnonzero(np.ma.getmaskarray(values))[0])
        raise InvalidData("must not be masked", field=field, row=row)
    try:
        array = np.asarray(values)
        if array.dtype.kind == "f" and not isinstance(values, np.ndarray):
            array = np.asarray(values, dtype=object)  # NumPy makes floats of [1, 2**63]
    except ValueError as exc:
        raise InvalidData("must have one dimension", field=field) from exc
    if array.ndim != 1:
        raise InvalidData("must have one dimension", field=field)
    return array
