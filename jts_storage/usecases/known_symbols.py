"""Candles are imported only for symbols that are known, or that may be created."""

from __future__ import annotations

from jts_storage.domain.enums import Market
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import NotFound
from jts_storage.usecases.any_storage import AnyStorage


class KnownSymbols:
    """The symbols that an import has met.

    :param market: where to create those that are not known yet; None refuses them.
    """

    def __init__(self, storage: AnyStorage, market: Market | None) -> None:
        self._storage = storage
        self._market = market
        self._known: set[str] = set()

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

    async def _create(self, code: str) -> None:
        if self._market is None:
            raise NotFound(
                f"Symbol {code} is not known, so its candles were not imported.",
                remedy="Save the symbol first, or say in which market to create it.",
            )
        async with self._storage.unit_of_work() as uow:
            await uow.symbols.save(Symbol(code, code, self._market))
            await uow.commit()
