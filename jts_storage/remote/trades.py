"""The trades of a result as the wire has them: whole columns, decimals as text with every digit.

A message for each value of each trade would cost ten times as much as storing them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final

import pyarrow as pa

from jts_storage.domain import checks
from jts_storage.domain.backtest import Trade
from jts_storage.domain.enums import TradeSide, member
from jts_storage.domain.trades import FIELDS, plain_trades
from jts_storage.errors import InvalidData
from jts_storage.remote.weighing import unpacked_bytes

_MICROSECOND: Final = timedelta(microseconds=1)
_MOMENTS: Final = ("entry_time", "exit_time")
_DECIMALS: Final = ("entry_price", "quantity", "exit_price", "pnl")
_SCHEMA: Final = pa.schema(
    [(name, pa.int64() if name in _MOMENTS else pa.string()) for name in FIELDS]
)

_WRONG: Final = (
    *(pa.ArrowException, TypeError, AttributeError, LookupError, ValueError, ArithmeticError),
    *(OSError, EOFError),
)
"""What reading them may fail with."""


def written(trades: Sequence[Trade]) -> bytes:
    """The trades in columns."""
    columns = {name: list(map(attrgetter(name), trades)) for name in FIELDS}
    columns["side"] = [each.value for each in columns["side"]]
    for name in _MOMENTS:
        columns[name] = [
            None if each is None else (each - checks.EPOCH) // _MICROSECOND
            for each in columns[name]
        ]
    for name in _DECIMALS:
        columns[name] = [None if each is None else str(each) for each in columns[name]]
    arrays = [pa.array(columns[field.name], field.type) for field in _SCHEMA]
    batch = pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)
    return memoryview(batch.serialize()).tobytes()


def read(data: bytes) -> list[Trade]:
    """The trades of columns that anybody may have sent.

    :raises InvalidData: they are none.
    """
    try:
        if unpacked_bytes(data) > len(data):  # what is compressed could become any size
            raise InvalidData("holds more than was sent", field="trades")
        batch = pa.ipc.read_record_batch(pa.py_buffer(data), _SCHEMA)
        batch.validate(full=True)
        columns = {name: batch.column(name).to_pylist() for name in FIELDS}
        _convert(columns)
        trades = plain_trades(columns) if batch.num_rows else ()
        return list(_careful(columns) if trades is None else trades)
    except InvalidData:
        raise
    except _WRONG as exc:
        raise InvalidData(f"are no trades: {exc}", field="trades") from exc


def _convert(columns: dict[str, list[Any]]) -> None:
    sides = {each: member(TradeSide, each, "side") for each in set(columns["side"])}
    columns["side"] = [sides[each] for each in columns["side"]]
    for name in _MOMENTS:
        columns[name] = [
            None if each is None else checks.EPOCH + timedelta(microseconds=each)
            for each in columns[name]
        ]
    for name in _DECIMALS:
        columns[name] = [None if each is None else Decimal(each) for each in columns[name]]


def _careful(columns: Mapping[str, Sequence[Any]]) -> Iterator[Trade]:
    """One by one: `Trade` says what is wrong with a value, or that nothing is."""
    for row in zip(*columns.values(), strict=True):
        yield Trade(**dict(zip(columns, row, strict=True)))
