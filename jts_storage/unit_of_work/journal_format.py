"""The net effect of a unit of work outside of MongoDB, and its form in the journal.

It is written and read in chunks, so that a large commit costs no more memory than its columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, TypeAlias

import numpy as np
import pyarrow as pa

from jts_storage.clickhouse.symbol_model import SYMBOLS
from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges, SeriesChanges
from jts_storage.domain.changes import (
    AggregateChange,
    CheckpointChange,
    CommitChanges,
    TableChange,
)
from jts_storage.domain.columns import NAMES, Columns
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.symbol import Symbol

_COMPRESSION = pa.ipc.IpcWriteOptions(compression="zstd")
_SMALL_COMPRESSION = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_SMALL_BYTES = 64 * 1024
"""Up to so many, not yet compressed, zstd takes longer to set up than to run, and so do threads for
the columns: a day of a series took 0.12 ms to write and 0.1 to read, and takes 0.02 each.
"""

_ALONE = pa.ipc.IpcReadOptions(use_threads=False)
Plain: TypeAlias = dict[str, Any]
Kind: TypeAlias = Literal["work", "candles", "bars", "table"]

# A document holds at most 16 MiB, and texts may make a chunk twice as large (`_small_enough`).
CHUNK_BYTES = 7 * 1024 * 1024
CHUNK_ROWS = CHUNK_BYTES // 56
"""52 bytes a row, and 4 to spare for what surrounds them, if nothing can be compressed."""

_ROW_BYTES = 48
_SERIES = "series"
_COLUMNS = pa.schema([*((name, pa.int64()) for name in NAMES[:-1]), (NAMES[-1], pa.uint64())])


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of the work small enough for one document.

    :param kind: ``"work"`` for a piece of the JSON, ``"candles"``, ``"bars"`` or ``"table"`` for
        rows.
    :param key: of the series whose rows these are; None where rows of several are together.
    :param table: the declared table whose rows these are.
    """

    kind: Kind
    data: bytes
    key: SeriesKey | None = None
    table: str | None = None


def encode(work: CommitChanges) -> Iterator[Chunk]:
    """The work in chunks, each made when it is asked for: rows as Arrow IPC, all else as JSON."""
    described = json.dumps(
        {
            "source": work.candles.source,
            "candles": _described(work.candles),
            "bars": _described(work.bars),
            "symbols": [_symbol(symbol) for symbol in _symbols(work)],
            "aggregates": [_aggregate(change) for change in work.aggregates],
            "tables": [[change.name, change.store, change.mode] for change in work.tables],
            "checkpoints": [
                {"name": change.name, "becomes": change.becomes, "base": change.base}
                for change in work.checkpoints
            ],
        }
    ).encode()  # in ASCII: a lone surrogate in a checkpoint has no bytes of its own
    for start in range(0, len(described), CHUNK_BYTES):
        yield Chunk("work", described[start : start + CHUNK_BYTES])
    for piece in work.candles.pieces(CHUNK_ROWS):
        yield Chunk("candles", *_rows_to_bytes(piece))
    for series in work.bars.upserts:
        for piece in SeriesRows.of(series).pieces(CHUNK_ROWS):
            yield Chunk("bars", *_rows_to_bytes(piece))
    for table in work.tables:
        # As many rows as take CHUNK_BYTES on average, before they are compressed.
        rows = max(1, table.rows.num_rows * CHUNK_BYTES // max(table.rows.nbytes, CHUNK_BYTES))
        for start in range(0, table.rows.num_rows, rows):
            for data in _small_enough(table.rows.slice(start, rows)):
                yield Chunk("table", data, table=table.name)


def decode(described: bytes) -> CommitChanges:
    """The work without its rows, which `decode_rows` reads chunk by chunk."""
    found = json.loads(described)
    return CommitChanges(
        candles=_changes(found["candles"], found.get("source", "")),
        bars=_changes(found["bars"]),
        symbols=_read_symbols(found["symbols"]),
        aggregates=[_read_aggregate(item) for item in found["aggregates"]],
        # Entries of releases without declared tables have none.
        tables=[
            TableChange(name, store, mode, None) for name, store, mode in found.get("tables", ())
        ],
        checkpoints=[
            CheckpointChange(item["name"], item["becomes"], item.get("base"), "base" in item)
            for item in found["checkpoints"]
        ],
    )


def decode_rows(key: SeriesKey | None, data: bytes) -> SeriesRows:
    """:param key: of the series whose rows these are; the rows of several have it beside them."""
    with open_rows(data) as stream:
        return rows_of_batch(key, stream.read_next_batch())


def open_rows(data: bytes) -> pa.RecordBatchStreamReader:
    """The Arrow stream of a chunk of rows."""
    return pa.ipc.open_stream(data, options=_ALONE if len(data) <= _SMALL_BYTES else None)


def rows_of_batch(key: SeriesKey | None, batch: pa.RecordBatch) -> SeriesRows:
    """The rows of a batch, whose columns must be as this module writes them."""
    values: Sequence[Any] = [column.to_numpy() for column in batch.select(NAMES).columns]
    columns = Columns(*values)
    if key is not None:
        return SeriesRows.of(CandleSeries.trusted(key, columns))
    named = batch.column(_SERIES)
    keys = [key_from_plain(json.loads(text)) for text in named.dictionary.to_pylist()]
    return SeriesRows.grouped(keys, named.indices.to_numpy(), columns)


def are_rows(schema: pa.Schema, *, of_several: bool) -> bool:
    """Whether a batch of this schema may have rows of candles: what it has beside them is ignored.

    :param of_several: series, of which each row names its own.
    """
    if not all(
        schema.get_field_index(field.name) >= 0 and schema.field(field.name).type == field.type
        for field in _COLUMNS
    ):
        return False
    named = pa.dictionary(pa.int32(), pa.string())
    return not of_several or (
        schema.get_field_index(_SERIES) >= 0 and schema.field(_SERIES).type == named
    )


def decode_table(data: bytes) -> pa.Table:
    with open_rows(data) as stream:
        return stream.read_all()


def key_to_plain(key: SeriesKey) -> list[str]:
    return [key.symbol, key.timeframe.value, key.exchange]


def key_from_plain(plain: Sequence[str]) -> SeriesKey:
    symbol, timeframe, exchange = plain
    return SeriesKey(symbol, Timeframe(timeframe), exchange)


def _rows_to_bytes(rows: SeriesRows) -> tuple[bytes, SeriesKey | None]:
    """Rows as Arrow IPC, and their key; where there are several, each row has its own."""
    batch = pa.record_batch([pa.array(column) for column in rows.columns], _COLUMNS)
    size = rows.rows * _ROW_BYTES
    if len(rows.keys) == 1:
        return _table_to_bytes(pa.Table.from_batches([batch]), size), rows.keys[0]
    names = pa.array([json.dumps(key_to_plain(key)) for key in rows.keys])
    number = pa.array(rows.number.astype(np.int32))
    named = batch.append_column(_SERIES, pa.DictionaryArray.from_arrays(number, names))
    return _table_to_bytes(pa.Table.from_batches([named]), size), None


def _small_enough(rows: pa.Table) -> Iterator[bytes]:
    """Split the rows until each piece fits a document: one half may have the longer texts."""
    data = _table_to_bytes(rows, rows.nbytes)
    if len(data) <= 2 * CHUNK_BYTES or rows.num_rows == 1:
        yield data
        return
    half = rows.num_rows // 2
    yield from _small_enough(rows.slice(0, half))
    yield from _small_enough(rows.slice(half))


def _table_to_bytes(rows: pa.Table, size: int) -> bytes:
    """:param size: of the rows in bytes, about; to ask Arrow for it takes as long as to write."""
    sink = pa.BufferOutputStream()
    options = _SMALL_COMPRESSION if size <= _SMALL_BYTES else _COMPRESSION
    with pa.ipc.new_stream(sink, rows.schema, options=options) as stream:
        stream.write_table(rows)
    return memoryview(sink.getvalue()).tobytes()


def _described(changes: CandleChanges) -> list[Plain]:
    deleted: dict[SeriesKey, list[tuple[int, int]]] = {key: [] for key in changes.keys}
    for key, first, last in changes.deletions:
        deleted[key].append((first, last))
    return [{"key": key_to_plain(key), "deleted": ranges} for key, ranges in deleted.items()]


def _changes(described: Sequence[Plain], source: str = "") -> CandleChanges:
    changes = (
        SeriesChanges(key_from_plain(item["key"]), list(map(tuple, item["deleted"])))
        for item in described
    )
    return CandleChanges(changes, source)


def _symbols(work: CommitChanges) -> list[Symbol]:
    return SYMBOLS.from_columns(work.symbols) if work.symbols else []


def _read_symbols(items: Sequence[Plain]) -> pa.Table | None:
    return SYMBOLS.to_columns(map(_read_symbol, items)) if items else None


def _symbol(symbol: Symbol) -> Plain:
    assert symbol.updated_at is not None
    return {
        "code": symbol.code,
        "name": symbol.name,
        "market": symbol.market.value,
        "sector": symbol.sector,
        "is_active": symbol.is_active,
        "updated_at": checks.to_ms(symbol.updated_at),
    }


def _read_symbol(item: Plain) -> Symbol:
    return Symbol(
        code=item["code"],
        name=item["name"],
        market=Market.own(item["market"]),
        sector=item["sector"],
        is_active=item["is_active"],
        updated_at=checks.from_ms(item["updated_at"]),
    )


def _aggregate(change: AggregateChange) -> Plain:
    bars = change.becomes
    return {
        "symbol": change.symbol,
        "trading_day": change.trading_day.isoformat(),
        "base": change.base,
        "created_at": change.created_at and checks.to_ms(change.created_at),
        "becomes": bars
        and {
            "version": bars.version,
            "collection_started": bars.collection_started,
            "is_complete": bars.is_complete,
            "bar_count": bars.bar_count,
            "created_at": bars.created_at and checks.to_ms(bars.created_at),
            "updated_at": bars.updated_at and checks.to_ms(bars.updated_at),
        },
    }


def _read_aggregate(item: Plain) -> AggregateChange:
    day, state = date.fromisoformat(item["trading_day"]), item["becomes"]
    becomes = state and SymbolBars(
        symbol=item["symbol"],
        trading_day=day,
        version=state["version"],
        collection_started=state["collection_started"],
        is_complete=state["is_complete"],
        bar_count=state["bar_count"],
        created_at=state["created_at"] and checks.from_ms(state["created_at"]),
        updated_at=state["updated_at"] and checks.from_ms(state["updated_at"]),
    )
    created_at = item.get("created_at")
    return AggregateChange(
        item["symbol"], day, item["base"], becomes, created_at and checks.from_ms(created_at)
    )
