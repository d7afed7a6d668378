"""Symbols that a unit of work has written but not committed, laid over what is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.domain import checks
from jts_storage.domain.changes import stamp
from jts_storage.domain.enums import Market, member
from jts_storage.domain.symbol import Symbol
from jts_storage.ports.symbols import SymbolReader
from jts_storage.unit_of_work.staged.pages import merged_page


class StagedSymbols:
    """A `SymbolRepository` whose writes stay here until they are handed over."""

    def __init__(self, stored: SymbolReader, lifetime: Lifetime | None = None) -> None:
        self._stored = stored
        self._lifetime = lifetime or Lifetime()
        self._symbols: dict[str, Symbol] = {}

    @property
    def changes(self) -> list[Symbol]:
        return list(self._symbols.values())

    async def save(self, symbol: Symbol) -> Symbol:
        return (await self.save_many([symbol]))[0]

    async def save_many(self, symbols: Iterable[Symbol]) -> Sequence[Symbol]:
        self._lifetime.check()
        stamped = [stamp(symbol) for symbol in checks.several(symbols, Symbol, "symbols")]
        self._symbols.update({symbol.code: symbol for symbol in stamped})
        return stamped

    async def get_by_code(self, code: str) -> Symbol | None:
        checks.instance(code, str, "code")
        return self._symbols.get(code) or await self._stored.get_by_code(code)

    async def get_by_market(
        self, market: Market, *, limit: int = 1_000, after: str | None = None
    ) -> Sequence[Symbol]:
        wanted = member(Market, market, "market")

        async def page(limit: int, after: str | None) -> Sequence[Symbol]:
            return await self._stored.get_by_market(wanted, limit=limit, after=after)

        return await self._page(page, lambda symbol: symbol.market is wanted, limit, after)

    async def get_all_active(
        self, *, limit: int = 10_000, after: str | None = None
    ) -> Sequence[Symbol]:
        async def page(limit: int, after: str | None) -> Sequence[Symbol]:
            return await self._stored.get_all_active(limit=limit, after=after)

        return await self._page(page, lambda symbol: symbol.is_active, limit, after)

    async def search(
        self, query: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[Symbol]:
        async def page(limit: int, after: str | None) -> Sequence[Symbol]:
            return await self._stored.search(query, limit=limit, after=after)

        return await self._page(page, lambda symbol: symbol.matches(query), limit, after)

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Symbol]:
        async def page(limit: int, after: str | None) -> Sequence[Symbol]:
            return await self._stored.list(limit=limit, after=after)

        return await self._page(page, lambda symbol: True, limit, after)

    async def _page(
        self,
        page: Callable[[int, str | None], Awaitable[Sequence[Symbol]]],
        belongs: Callable[[Symbol], bool],
        limit: int,
        after: str | None,
    ) -> Sequence[Symbol]:
        staged = [symbol for symbol in self._symbols.values() if belongs(symbol)]
        return await merged_page(
            page,
            staged,
            set(self._symbols),
            key_of=lambda symbol: symbol.code,
            order=str,
            limit=limit,
            after=after,
        )
