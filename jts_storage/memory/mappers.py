"""Symbols and bookkeeping to rows of plain values and back, field by field.

A row shares nothing that can change with the entity it was made of.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.symbol import Symbol
from jts_storage.memory.tables import Row


def symbol_to_row(symbol: Symbol) -> Row:
    return _row(
        code=symbol.code,
        name=symbol.name,
        market=symbol.market.value,
        sector=symbol.sector,
        is_active=symbol.is_active,
        updated_at=symbol.updated_at,
    )


def symbol_from_row(row: Row) -> Symbol:
    return Symbol(
        code=row["code"],
        name=row["name"],
        market=row["market"],
        sector=row["sector"],
        is_active=row["is_active"],
        updated_at=row["updated_at"],
    )


def symbol_bars_to_row(bars: SymbolBars) -> Row:
    return _row(
        symbol=bars.symbol,
        trading_day=bars.trading_day,
        version=bars.version,
        collection_started=bars.collection_started,
        is_complete=bars.is_complete,
        bar_count=bars.bar_count,
        created_at=bars.created_at,
        updated_at=bars.updated_at,
    )


def symbol_bars_from_row(row: Row) -> SymbolBars:
    return SymbolBars(
        symbol=row["symbol"],
        trading_day=row["trading_day"],
        version=row["version"],
        collection_started=row["collection_started"],
        is_complete=row["is_complete"],
        bar_count=row["bar_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def checkpoint_to_row(checkpoint: Checkpoint) -> Row:
    data = checks.json_value(checkpoint.data, "data")  # a copy: the entity is in others' hands
    return _row(name=checkpoint.name, data=data, updated_at=checkpoint.updated_at)


def checkpoint_from_row(row: Row) -> Checkpoint:
    return Checkpoint(name=row["name"], data=row["data"], updated_at=row["updated_at"])


def _row(**values: Any) -> Row:
    return MappingProxyType(values)
