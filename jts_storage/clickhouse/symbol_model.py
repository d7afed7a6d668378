"""Symbols as a declared table: its columns, its mapper, and the repository of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from clickhouse_sqlalchemy import types
from sqlalchemy import Column, MetaData, Table, text

from jts_storage.domain import checks
from jts_storage.domain.changes import stamp_all
from jts_storage.domain.enums import Market, member
from jts_storage.domain.symbol import Symbol
from jts_storage.models.columns import Row
from jts_storage.models.conditions import Where, has_text
from jts_storage.models.mapper import Mapper
from jts_storage.models.table_repository import TableRepository
from jts_storage.models.tables import TableModel

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a symbol that was never stored: the column holds no NULL."""


def symbol_to_row(symbol: Symbol) -> Row:
    return {
        "code": symbol.code,
        "name": symbol.name,
        "market": symbol.market.value,
        "sector": symbol.sector or "",
        "is_active": int(symbol.is_active),
        "updated_at": symbol.updated_at or _NEVER,
    }


def symbol_from_row(row: Row) -> Symbol:
    """
    :raises InvalidData: the row names a market that is none, with the code of the symbol.
    """
    return Symbol(
        code=row["code"],
        name=row["name"],
        market=member(Market, row["market"], "market", document=row["code"]),
        sector=row["sector"] or None,
        is_active=bool(row["is_active"]),
        updated_at=None if row["updated_at"] == _NEVER else row["updated_at"],
    )


class DeclaredSymbols(TableRepository[Symbol]):
    """The `SymbolRepository` over rows of the table."""

    async def save(self, symbol: Symbol) -> Symbol:
        return (await self.save_many([symbol]))[0]

    async def save_many(self, symbols: Iterable[Symbol]) -> Sequence[Symbol]:
        return await super().save_many(stamp_all(symbols))

    async def get_by_code(self, code: str) -> Symbol | None:
        is_known = _may_be_stored(checks.instance(code, str, "code"))
        return await self.get(code) if is_known else None

    async def get_by_market(
        self, market: Market, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Symbol]:
        value = member(Market, market, "market").value
        return await self._page(lambda c: c.market == value, limit, after)

    async def get_all_active(
        self, *, limit: int = 10_000, after: str | None = None
    ) -> Sequence[Symbol]:
        return await self._page(lambda c: c.is_active == 1, limit, after)

    async def search(
        self, query: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[Symbol]:
        if not query or not _may_be_stored(query):
            return []
        return await self._page(
            lambda c: has_text(c.code, query) | has_text(c.name, query), limit, after
        )

    async def list(  # type: ignore[override]
        self, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Symbol]:
        return await self._page(None, limit, after)

    async def _page(self, where: Where | None, limit: int, after: str | None) -> Sequence[Symbol]:
        key = None if after is None else (after,)
        return await super().list(where=where, limit=limit, after=key, strict=True)


class SymbolModel(TableModel[Symbol, DeclaredSymbols]):
    """Tried by a test, and not wherever it is imported: Arrow imports pandas for its first list."""

    def _tried(self, examples: Iterable[Symbol]) -> tuple[Symbol, ...]:
        return tuple(examples)


SYMBOLS: Final = SymbolModel(
    Symbol,
    Table(
        "symbols",
        MetaData(),
        Column("code", types.String, primary_key=True),
        Column("name", types.String),
        Column("market", types.LowCardinality(types.String)),
        Column("sector", types.String),
        Column("is_active", types.UInt8),
        Column("updated_at", types.DateTime64(3, "UTC")),
        # Other programs name no version: theirs is the moment of their write.
        Column("version", types.UInt64, server_default=text("toUnixTimestamp64Nano(now64(9))")),
    ),
    Mapper(symbol_to_row, symbol_from_row),
    mode="upsert",
    key=("code",),
    repository=DeclaredSymbols,
)


def _may_be_stored(text: Any) -> bool:
    """Whether any symbol may hold it; a driver chokes on what is no text at all."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
