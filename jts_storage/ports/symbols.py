"""The contract of a store of symbols."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from jts_storage.domain.enums import Market
from jts_storage.domain.symbol import Symbol


class SymbolReader(Protocol):
    """Reads symbols. Lists are ordered by code; `after` is the last code of the page before."""

    async def get_by_code(self, code: str) -> Symbol | None:
        """The symbol of that code, None if there is none."""
        ...

    async def get_by_market(
        self, market: Market, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Symbol]:
        """The symbols of a market, active or not."""
        ...

    async def get_all_active(
        self, *, limit: int = 10_000, after: str | None = None
    ) -> Sequence[Symbol]:
        """The symbols that are active."""
        ...

    async def search(
        self, query: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[Symbol]:
        """The symbols whose code or name contains `query`, whatever its case.

        Every character counts as itself: there are no wildcards. An empty query finds nothing.
        """
        ...

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Symbol]:
        """All symbols."""
        ...


class SymbolRepository(SymbolReader, Protocol):
    """Reads and writes symbols. A symbol is an upsert by its code: the later write wins, in a unit
    of work the later commit, whatever `updated_at` says.
    """

    async def save(self, symbol: Symbol) -> Symbol:
        """Store a symbol; what is returned carries the `updated_at` under which it is stored."""
        ...

    async def save_many(self, symbols: Iterable[Symbol]) -> Sequence[Symbol]:
        """Store several in one go; of equal codes the last counts."""
        ...
