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
from jts_storage.domain.unreadable import LeftOut
from jts_storage.errors import InvalidData
from jts_storage.models.columns import Row, rows_of
from jts_storage.models.conditions import Where, behind, has_text
from jts_storage.models.mapper import Mapper
from jts_storage.models.table_repository import TableQuery, TableRepository
from jts_storage.models.tables import TableModel

_left_out: Final = LeftOut("symbols")

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
    :raises InvalidData: it is no symbol, such as one without a market; with its code.
    """
    try:
        market = Market.own(row["market"])
    except InvalidData as exc:
        raise InvalidData(
            "is no market", field="market", value=row["market"], document=row["code"]
        ) from exc
    return Symbol(
        code=row["code"],
        name=row["name"],
        market=market,
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
        """A page, full where there are enough symbols: of rows that are none, none counts."""
        checks.whole(limit, "limit", below=2**31)
        given = self._condition(where)
        found: list[Symbol] = []
        while True:
            rest, asked = given, limit - len(found)
            if after is not None:
                later = behind(self._model.table, self._model.key, self._key((after,)))
                rest = later if given is None else later & given
            rows = await self._source.read(TableQuery(rest, limit=asked))
            for row in rows_of(rows):
                try:
                    found.append(self._model.from_row(row))
                except InvalidData as exc:
                    _left_out.tell(row["code"], str(exc))
                after = row["code"]
            if rows.num_rows < asked or len(found) >= limit:
                return found


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
