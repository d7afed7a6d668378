"""How much a call gave or took."""

from __future__ import annotations

from typing import Any, NamedTuple

from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.results import SaveResult
from jts_storage.domain.series import CandleSeries

_BYTES_A_CANDLE = 48
"""Six columns of eight bytes."""


class Size(NamedTuple):
    """Rows, and their bytes where the columns have them."""

    rows: int
    bytes: int


NOTHING = Size(0, 0)


def size_of(result: Any) -> Size:
    """How much of what is stored a result holds; an answer such as a number holds nothing."""
    kind = type(result)
    if kind is CandleSeries or kind is CandlePanel:
        rows = _rows_of(result)
        return Size(rows, rows * _BYTES_A_CANDLE)
    if kind is SaveResult:
        return Size(result.written, result.written * _BYTES_A_CANDLE)
    if isinstance(result, list | tuple) and not hasattr(result, "_fields"):
        return Size(len(result), 0)
    if isinstance(result, dict):
        sizes = [size_of(each) for each in result.values()]
        return Size(sum(size.rows for size in sizes), sum(size.bytes for size in sizes))
    if result is None or isinstance(result, bool | int | str):
        return NOTHING
    return Size(1, 0) if hasattr(result, "__dataclass_fields__") else NOTHING


def _rows_of(result: CandleSeries | CandlePanel) -> int:
    return len(result) if isinstance(result, CandleSeries) else result.rows
