"""Candles and rows of declared tables as the wire has them: whole columns in Arrow batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pyarrow as pa

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import FIELDS, Columns, concatenate, empty
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.proto.jts.storage.v1 import values_pb2 as pb

ROWS: Final = 65_536
"""Of a batch: 3.1 MB of candles, below the 4 MiB that gRPC takes for one message by itself."""

BATCH_BYTES: Final = 3 * 2**20


def are_columns(given: object) -> bool:
    """Whether a value travels in columns."""
    if isinstance(given, CandleSeries | CandlePanel | pa.Table):
        return True
    return (
        isinstance(given, dict)
        and bool(given)
        and all(isinstance(each, CandleSeries) for each in given.values())
    )


def message_of(given: Any, *, compressed: bool = False) -> tuple[pb.Columns, Iterator[memoryview]]:
    """What tells of the columns, and their batches, each made when it is asked for."""
    message, columns = _message_of(given)
    if columns is None:
        pieces = list(_table_pieces(given, compressed=compressed))
        message.batches = len(pieces)
        return message, iter(pieces)
    message.is_compressed = compressed
    return message, batches_of(columns, message.fields, compressed=compressed)


def _message_of(given: Any) -> tuple[pb.Columns, Columns | None]:
    if isinstance(given, CandleSeries):
        return _message(pb.Columns.SERIES, [given.key], [0, len(given)], [given.columns], FIELDS)
    if isinstance(given, CandlePanel):
        parts = [_columns_of(given)]
        found = _message(pb.Columns.PANEL, given, given.offsets.tolist(), parts, given.fields)
        found[0].timeframe = given.timeframe.value
        return found
    if isinstance(given, Mapping):
        sizes = [0, *map(len, given.values())]
        each = [series.columns for series in given.values()]
        return _message(pb.Columns.RANGES, given, np.cumsum(sizes).tolist(), each, FIELDS)
    return pb.Columns(shape=pb.Columns.TABLE), None


class Arriving:
    """Columns whose batches come one after the other, each copied to its place as it comes.

    :raises InvalidData: from each method, where they are not as they say.
    """

    def __init__(self, message: pb.Columns) -> None:
        self._message, self._left = message, message.batches
        self._tables: list[pa.Table] = []
        self._fields = tuple(message.fields)
        self._offsets = np.array(message.offsets, np.int64)
        self._columns: Columns | None = None
        self._filled = 0
        if message.shape != pb.Columns.TABLE:
            self._check()

    @property
    def is_complete(self) -> bool:
        return not self._left

    def add(self, data: memoryview | bytes) -> None:
        self._left -= 1
        try:
            if self._message.shape == pb.Columns.TABLE:
                self._tables.append(_read_table(data))
            else:
                self._fill(data)
        except (pa.ArrowException, ValueError, OSError) as exc:
            raise InvalidData(f"is no Arrow batch of such columns: {exc}", field="batch") from exc

    def made(self) -> Any:
        """What the columns belong to. That its rows are possible candles is not checked."""
        message = self._message
        if message.shape == pb.Columns.TABLE:
            return pa.concat_tables(self._tables)
        columns = empty() if self._columns is None else self._columns
        if columns.rows != self._offsets[-1] or self._filled != columns.rows:
            raise InvalidData("does not hold the rows that it says", field="batch")
        keys = [SeriesKey(k.symbol, _timeframe(k.timeframe), k.exchange) for k in message.keys]
        if message.shape == pb.Columns.PANEL:
            timeframe = _timeframe(message.timeframe)
            return CandlePanel.trusted(timeframe, keys, self._offsets, columns, self._fields)
        ends = self._offsets.tolist()
        series = [
            CandleSeries.trusted(key, columns.take(slice(begin, end)))
            for key, begin, end in zip(keys, ends, ends[1:], strict=False)
        ]
        if message.shape == pb.Columns.SERIES:
            return series[0]
        return dict(zip(keys, series, strict=True))

    def _check(self) -> None:
        offsets, message = self._offsets, self._message
        if not set(self._fields) <= set(FIELDS):
            raise InvalidData("must be of a candle", field="fields")
        if len(offsets) != len(message.keys) + 1 or offsets[0] or (np.diff(offsets) < 0).any():
            raise InvalidData("must ascend from 0", field="offsets")
        if message.batches != -(-int(offsets[-1]) // ROWS):
            raise InvalidData("are not as many as the rows need", field="batches")

    def _fill(self, data: memoryview | bytes) -> None:
        batch = self._read(data)
        batch.validate(full=True)
        rows, begin = int(self._offsets[-1]), self._filled
        if begin + batch.num_rows > rows or batch.num_rows > ROWS:
            raise InvalidData("holds more rows than it says", field="batch")
        self._filled += batch.num_rows
        names = batch.schema.names
        if self._message.batches == 1:  # used where they arrived
            arrays = {name: batch.column(name).to_numpy() for name in names}
            self._columns = _complete(arrays, rows)
            return
        if self._columns is None:
            made = {name: np.empty(rows, _DTYPES.get(name, np.int64)) for name in names}
            self._columns = _complete(made, rows)
        for name in names:
            getattr(self._columns, name)[begin : self._filled] = batch.column(name).to_numpy()

    def _read(self, data: memoryview | bytes) -> pa.RecordBatch:
        schema = _schema(self._fields)
        if not self._message.is_compressed:
            return pa.ipc.read_record_batch(pa.py_buffer(data), schema)
        with pa.ipc.open_stream(data) as stream:
            batch = stream.read_next_batch()
        if not batch.schema.equals(schema):
            raise InvalidData("has other columns than it says", field="batch")
        return batch


_DTYPES: Final = {"volume": np.uint64}


def _complete(arrays: dict[str, Any], rows: int) -> Columns:
    """All columns, those that were not asked for as zeros that take no memory."""
    absent: dict[str, Any] = {
        name: np.broadcast_to(np.zeros((), _DTYPES.get(name, np.int64)), rows)
        for name in FIELDS
        if name not in arrays
    }
    return Columns(**absent, **arrays)


def _message(
    shape: pb.Columns.Shape,
    keys: Iterable[SeriesKey],
    offsets: Sequence[int],
    parts: Sequence[Columns],
    fields: Sequence[str],
) -> tuple[pb.Columns, Columns]:
    message = pb.Columns(shape=shape, offsets=offsets, fields=fields)
    for key in keys:
        message.keys.add(symbol=key.symbol, timeframe=key.timeframe.value, exchange=key.exchange)
    rows = offsets[-1] if len(offsets) else 0
    message.batches = -(-rows // ROWS)
    return message, parts[0] if len(parts) == 1 else concatenate(list(parts))


def batches_of(
    columns: Columns, fields: Sequence[str] = FIELDS, *, compressed: bool = False
) -> Iterator[memoryview]:
    """The rows in batches of `ROWS`."""
    schema = _schema(tuple(fields))
    for start in range(0, columns.rows, ROWS):
        piece = columns.take(slice(start, start + ROWS))
        arrays = [pa.array(getattr(piece, name)) for name in schema.names]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        yield _stream(batch) if compressed else memoryview(batch.serialize())


def _columns_of(panel: CandlePanel) -> Columns:
    named = {name: panel.column(name) for name in ("timestamp", *panel.fields)}
    nothing = np.broadcast_to(np.int64(0), panel.rows)
    return Columns(*(named.get(name, nothing) for name in Columns._fields))


@lru_cache
def _schema(fields: tuple[str, ...]) -> pa.Schema:
    names = ("timestamp", *fields)
    return pa.schema(
        [
            pa.field(name, pa.uint64() if name == "volume" else pa.int64(), nullable=False)
            for name in names
        ]
    )


def _table_pieces(table: pa.Table, *, compressed: bool) -> Iterator[memoryview]:
    """Whole streams, each with the schema: of a table without rows, too."""
    rows = max(1, table.num_rows * BATCH_BYTES // max(table.nbytes, BATCH_BYTES))
    for start in range(0, max(table.num_rows, 1), rows):
        yield _stream(table.slice(start, rows), compressed=compressed)


def _stream(rows: Any, *, compressed: bool = True) -> memoryview:
    """A whole Arrow stream, with the schema."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd" if compressed else None)
    with pa.ipc.new_stream(sink, rows.schema, options=options) as stream:
        stream.write(rows)
    return memoryview(sink.getvalue())


def _read_table(data: memoryview | bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as stream:
        table = stream.read_all()
    table.validate(full=True)
    return table


def _timeframe(value: str) -> Timeframe:
    return member(Timeframe, value, "timeframe")
