"""The net effect of a unit of work outside of MongoDB, and its form in the journal.

In the journal it is one Arrow IPC stream: a record batch a series, and all else as JSON beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import pyarrow as pa

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import NAMES, Columns
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.symbol import Symbol
from jts_storage.staging import AggregateChange, CheckpointChange, SeriesChanges

_COMPRESSION = pa.ipc.IpcWriteOptions(compression="lz4")
Plain = dict[str, Any]


@dataclass(slots=True)
class StagedWork:
    """The net effect of a unit of work outside of MongoDB."""

    candles: list[SeriesChanges] = field(default_factory=list)
    symbols: list[Symbol] = field(default_factory=list)
    aggregates: list[AggregateChange] = field(default_factory=list)
    checkpoints: list[CheckpointChange] = field(default_factory=list)
    bars: list[SeriesChanges] = field(default_factory=list)

    @property
    def touches_clickhouse(self) -> bool:
        return bool(self.candles or self.symbols)

    @property
    def touches_database(self) -> bool:
        return bool(self.aggregates or self.checkpoints or self.bars)


_COLUMNS = pa.schema([*((name, pa.int64()) for name in NAMES[:-1]), (NAMES[-1], pa.uint64())])


def encode(work: StagedWork) -> bytes:
    """The work as one Arrow IPC stream: a record batch a series, all else as JSON beside it."""
    described = {
        "candles": [_described(change) for change in work.candles],
        "bars": [_described(change) for change in work.bars],
        "symbols": [_symbol(symbol) for symbol in work.symbols],
        "aggregates": [_aggregate(change) for change in work.aggregates],
        "checkpoints": [
            {"name": change.name, "becomes": change.becomes} for change in work.checkpoints
        ],
    }
    metadata = {"work": json.dumps(described, ensure_ascii=False)}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, _COLUMNS.with_metadata(metadata), options=_COMPRESSION) as stream:
        for change in (*work.candles, *work.bars):
            arrays = [pa.array(column) for column in change.upserts]
            stream.write_batch(pa.record_batch(arrays, schema=_COLUMNS))
    return memoryview(sink.getvalue()).tobytes()


def decode(payload: bytes) -> StagedWork:
    with pa.ipc.open_stream(payload) as stream:
        described = json.loads(stream.schema.metadata[b"work"])
        batches = iter(list(stream))
        candles = [_changes(item, next(batches)) for item in described["candles"]]
        bars = [_changes(item, next(batches)) for item in described["bars"]]
    return StagedWork(
        candles=candles,
        bars=bars,
        symbols=[_read_symbol(item) for item in described["symbols"]],
        aggregates=[_read_aggregate(item) for item in described["aggregates"]],
        checkpoints=[
            CheckpointChange(item["name"], item["becomes"]) for item in described["checkpoints"]
        ],
    )


def _described(change: SeriesChanges) -> Plain:
    key = change.key
    return {
        "key": [key.symbol, key.timeframe.value, key.exchange],
        "deleted": [list(ends) for ends in change.deleted],
    }


def _changes(described: Plain, batch: Any) -> SeriesChanges:
    symbol, timeframe, exchange = described["key"]
    deleted = [(first, last) for first, last in described["deleted"]]
    change = SeriesChanges(SeriesKey(symbol, Timeframe(timeframe), exchange), deleted)
    columns: Sequence[Any] = [column.to_numpy() for column in batch.columns]
    change.save(Columns(*columns))
    return change


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
        market=item["market"],
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
    return AggregateChange(item["symbol"], day, item["base"], becomes)
