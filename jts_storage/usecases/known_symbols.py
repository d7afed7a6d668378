"""Candles are imported only for symbols that are known, or that may be created."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jts_storage.domain.enums import Market
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import NotFound
from jts_storage.usecases.any_storage import AnyStorage

MANY: Final = 20
"""So many questions for one symbol or series each cost more than one for all."""


class KnownSymbols:
    """The symbols that an import has met.

    :param market: where to create those that are not known yet; None refuses them.
    """

    def __init__(self, storage: AnyStorage, market: Market | None) -> None:
        self._storage = storage
        self._market = market
        self._known: set[str] = set()

    async def require_all(self, codes: Iterable[str]) -> list[str]:
        """Make sure that symbols are stored; which of them were created for that.

        :raises NotFound: one is not known, and is not to be created.
        """
        asked = [code for code in dict.fromkeys(codes) if code not in self._known]
        if len(asked) < MANY:
            return [code for code in asked if await self.require(code)]
        stored = await self._all_stored()
        created = [code for code in asked if code not in stored]
        if created:
            await self._create(*created)
        self._known.update(asked)
        return created

    async def _all_stored(self) -> set[str]:
        codes: list[str] = []
        while True:
            page = await self._storage.symbols.list(after=codes[-1] if codes else None)
            if not page:
                return set(codes)
            codes += [symbol.code for symbol in page]

    async def require(self, code: str) -> bool:
        """Make sure that a symbol is stored; whether it was created for that.

        :raises NotFound: it is not known, and is not to be created.
        """
        # Asked once for each symbol, not for each block.
        if code in self._known:
            return False
        is_new = await self._storage.symbols.get_by_code(code) is None
        if is_new:
            await self._create(code)
        self._known.add(code)
        return is_new

    async def _create(self, *codes: str) -> None:
        if self._market is None:
            raise NotFound(
                f"Symbol {codes[0]} is not known, so its candles were not imported.",
                remedy="Save the symbol first, or say in which market to create it.",
            )
        async with self._storage.unit_of_work() as uow:
            await uow.symbols.save_many(Symbol(code, code, self._market) for code in codes)
            await uow.commit()
