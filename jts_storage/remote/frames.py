"""Candles and rows of declared tables as the wire has them: whole columns in Arrow batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import FIELDS, Columns, checked, concatenate, empty
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


def message_of(given: Any) -> tuple[pb.Columns, Iterator[bytes]]:
    """What tells of the columns, and their batches, each made when it is asked for."""
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
    pieces = list(_table_pieces(given))
    return pb.Columns(shape=pb.Columns.TABLE, batches=len(pieces)), iter(pieces)


def made_of(message: pb.Columns, batches: Sequence[bytes], *, checks_rows: bool = False) -> Any:
    """What the columns belong to.

    :param checks_rows: whether each row must be a possible candle, as those of a stranger must.
    :raises InvalidData: they are not as they say.
    """
    try:
        if message.shape == pb.Columns.TABLE:
            return pa.concat_tables([_read_table(batch) for batch in batches])
        columns = _read_columns(batches, tuple(message.fields))
    except (pa.ArrowException, ValueError, OSError) as exc:
        raise InvalidData(f"is no Arrow batch of such columns: {exc}", field="batch") from exc
    keys = [
        SeriesKey(each.symbol, _timeframe(each.timeframe), each.exchange) for each in message.keys
    ]
    offsets = np.array(message.offsets, np.int64)
    if len(offsets) != len(keys) + 1 or offsets[0] != 0 or offsets[-1] != columns.rows:
        raise InvalidData("does not hold the rows that it says", field="offsets")
    if (np.diff(offsets) < 0).any():
        raise InvalidData("must ascend", field="offsets")
    if checks_rows:
        checked(columns)
    if message.shape == pb.Columns.PANEL:
        timeframe = _timeframe(message.timeframe)
        return CandlePanel.trusted(timeframe, keys, offsets, columns, tuple(message.fields))
    series = [
        CandleSeries.trusted(key, columns.take(slice(begin, end)))
        for key, begin, end in zip(keys, offsets.tolist(), offsets.tolist()[1:], strict=False)
    ]
    if message.shape == pb.Columns.SERIES:
        return series[0]
    return dict(zip(keys, series, strict=True))


def _message(
    shape: pb.Columns.Shape,
    keys: Iterable[SeriesKey],
    offsets: Sequence[int],
    parts: Sequence[Columns],
    fields: Sequence[str],
) -> tuple[pb.Columns, Iterator[bytes]]:
    message = pb.Columns(shape=shape, offsets=offsets, fields=fields)
    for key in keys:
        message.keys.add(symbol=key.symbol, timeframe=key.timeframe.value, exchange=key.exchange)
    rows = offsets[-1] if len(offsets) else 0
    message.batches = -(-rows // ROWS)
    columns = parts[0] if len(parts) == 1 else concatenate(list(parts))
    return message, batches_of(columns, fields)


def batches_of(columns: Columns, fields: Sequence[str] = FIELDS) -> Iterator[bytes]:
    """The rows in batches of `ROWS`."""
    schema = _schema(tuple(fields))
    for start in range(0, columns.rows, ROWS):
        piece = columns.take(slice(start, start + ROWS))
        arrays = [pa.array(getattr(piece, name)) for name in schema.names]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        yield batch.serialize().to_pybytes()


def _columns_of(panel: CandlePanel) -> Columns:
    named = {name: panel.column(name) for name in ("timestamp", *panel.fields)}
    nothing = np.broadcast_to(np.int64(0), panel.rows)
    return Columns(*(named.get(name, nothing) for name in Columns._fields))


def _read_columns(batches: Sequence[bytes], fields: tuple[str, ...]) -> Columns:
    if not set(fields) <= set(FIELDS):
        raise InvalidData("must be of a candle", field="fields", value=", ".join(fields))
    schema = _schema(fields)
    parts = []
    for data in batches:
        batch = pa.ipc.read_record_batch(pa.py_buffer(data), schema)
        batch.validate(full=True)
        found = {name: batch.column(name).to_numpy() for name in schema.names}
        nothing = np.broadcast_to(np.int64(0), batch.num_rows)
        unsigned = np.broadcast_to(np.uint64(0), batch.num_rows)
        absent = dict.fromkeys(FIELDS[:-1], nothing) | {"volume": unsigned}
        parts.append(Columns(**{**absent, **found}))
    if not parts:
        return empty()
    return parts[0] if len(parts) == 1 else concatenate(parts)


def _schema(fields: tuple[str, ...]) -> pa.Schema:
    names = ("timestamp", *fields)
    return pa.schema(
        [
            pa.field(name, pa.uint64() if name == "volume" else pa.int64(), nullable=False)
            for name in names
        ]
    )


def _table_pieces(table: pa.Table) -> Iterator[bytes]:
    """Whole streams, each with the schema: of a table without rows, too."""
    rows = max(1, table.num_rows * BATCH_BYTES // max(table.nbytes, BATCH_BYTES))
    for start in range(0, max(table.num_rows, 1), rows):
        sink = pa.BufferOutputStream()
        piece = table.slice(start, rows)
        with pa.ipc.new_stream(sink, piece.schema) as stream:
            stream.write_table(piece)
        yield sink.getvalue().to_pybytes()


def _read_table(data: bytes) -> pa.Table:
    with pa.ipc.open_stream(data) as stream:
        table = stream.read_all()
    table.validate(full=True)
    return table


def _timeframe(value: str) -> Timeframe:
    return member(Timeframe, value, "timeframe")
