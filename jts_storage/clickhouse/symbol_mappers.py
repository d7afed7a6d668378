"""Symbols to the rows that ClickHouse holds, and back, field by field."""

from __future__ import annotations

from typing import Any

from jts_storage.domain.enums import Market, member
from jts_storage.domain.symbol import Symbol


def symbol_to_row(symbol: Symbol) -> dict[str, Any]:
    return {
        "code": symbol.code,
        "name": symbol.name,
        "market": symbol.market.value,
        "sector": symbol.sector or "",
        "is_active": int(symbol.is_active),
        "updated_at": symbol.updated_at,
    }


def symbol_from_row(row: tuple[Any, ...]) -> Symbol:
    """
    :raises InvalidData: the row names a market that is none, with the code of the symbol.
    """
    code, name, market, sector, is_active, updated_at = row
    return Symbol(
        code=code,
        name=name,
        market=member(Market, market, "market", document=code),
        sector=sector or None,
        is_active=bool(is_active),
        updated_at=updated_at,
    )
