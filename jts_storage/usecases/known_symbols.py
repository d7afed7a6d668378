"""Candles are imported only for symbols that are known, or that may be created."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from jts_storage._runtime.surface import option
from jts_storage.domain.calendar import ALWAYS, calendar_of
from jts_storage.domain.enums import Market
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import NotFound
from jts_storage.usecases.any_storage import AnyStorage

MANY: Final = 20
"""So many questions for one symbol or series each cost more than one for all."""


class KnownSymbols:
    """The symbols that an import has met.

    Those that are not stored yet are created with their first candles, so that an import that is
    refused leaves none behind.

    :param market: where to create those that are not known yet; None refuses them.
    """

    def __init__(self, storage: AnyStorage, market: Market | None) -> None:
        self._storage = storage
        self._market = market
        self._known: set[str] = set()
        self._unknown: set[str] = set()

    async def require(self, exchanges: Mapping[str, str]) -> None:
        """
        :param exchanges: of each symbol, by which an error proposes a market for it.
        :raises NotFound: a symbol is not known, and is not to be created.
        """
        # Asked once for each symbol, not for each block.
        asked = [code for code in exchanges if code not in self._known]
        stored = await self._stored(asked)
        missing = [code for code in asked if code not in stored]
        if missing and self._market is None:
            raise NotFound(
                f"Symbol {missing[0]} is not known, so its candles were not imported.",
                remedy=f"Save the symbol first, or {_creating(missing[0], exchanges[missing[0]])}.",
            )
        self._known.update(asked)
        self._unknown.update(missing)

    async def _stored(self, codes: list[str]) -> set[str]:
        if len(codes) >= MANY:
            return await self._all_stored()
        symbols = self._storage.symbols
        return {code for code in codes if await symbols.get_by_code(code) is not None}

    async def _all_stored(self) -> set[str]:
        codes: list[str] = []
        while True:
            page = await self._storage.symbols.list(after=codes[-1] if codes else None)
            if not page:
                return set(codes)
            codes += [symbol.code for symbol in page]

    def unknown_among(self, codes: Iterable[str]) -> list[str]:
        """Return those that are not stored yet."""
        return [code for code in dict.fromkeys(codes) if code in self._unknown]

    async def create(self, codes: Iterable[str]) -> None:
        """Store symbols that are not stored yet."""
        market = self._market
        new = self.unknown_among(codes)
        if not new or market is None:
            return
        # Not with the candles: a commit of both would write all of them to the journal first.
        async with self._storage.unit_of_work() as uow:
            await uow.symbols.save_many(Symbol(code, code, market) for code in new)
            await uow.commit()
        self._unknown.difference_update(new)


def _creating(code: str, exchange: str) -> str:
    """What may well create a symbol, by its exchange or, without one, by its code."""
    first, *others = (_options(market, exchange) for market in _markets_of(code, exchange))
    return "; ".join([f"{first} creates it", *(f"so does {other}" for other in others)])


def _options(market: Market, exchange: str) -> str:
    created = option("create", market)
    if exchange or market not in (Market.NASDAQ, Market.NYSE):
        return created
    # Without its exchange no calendar is known, and each week-end is taken for a gap.
    return f"{created} with {option('exchange', market.value)}"


def _markets_of(code: str, exchange: str) -> Sequence[Market]:
    name = exchange.upper()
    name = _SHORT_NAMES.get(name, name)
    if name in (named := {market.value: market for market in Market}):
        return [named[name]]
    found = _OF_CALENDARS.get(calendar_of(name) or name)
    if found is not None:
        return found
    of_code = (markets for form, markets in _OF_CODES if form.fullmatch(code.upper()))
    return next(of_code, [Market.OTHER]) if not exchange else [Market.OTHER]


_SHORT_NAMES: Final = {"XNAS": "NASDAQ", "XKOS": "KOSDAQ", "XKON": "KONEX"}
"""Exchanges that trade by the calendar of another market."""
_OF_CALENDARS: Final[Mapping[str, Sequence[Market]]] = {
    "XKRX": [Market.KOSPI, Market.KOSDAQ],
    "XNYS": [Market.NYSE],
    "24/5": [Market.FX],
    ALWAYS: [Market.CRYPTO],
}
_MONEY: Final = "USD|EUR|JPY|GBP|CHF|AUD|NZD|CAD|KRW|CNY|CNH|HKD|SGD|SEK|NOK|DKK|PLN|MXN|ZAR|TRY"
_GOODS: Final = "XAU|XAG|XPT|XPD|GOLD|SILVER|PLATINUM|PALLADIUM|COPPER|OIL|WTI|BRENT|UKOIL|USOIL"
"""What brokers trade for money by the hours of currencies."""
_OF_CODES: Final[Sequence[tuple[re.Pattern[str], Sequence[Market]]]] = [
    # Six digits; preferred shares and new listings have letters behind the first.
    (re.compile(r"\d{6}|\d[\dA-Z]{4}[\dKLM]"), [Market.KOSPI, Market.KOSDAQ]),
    (re.compile(r"\d{6}\.KS"), [Market.KOSPI]),
    (re.compile(r"\d{6}\.KQ"), [Market.KOSDAQ]),
    (re.compile(rf"({_MONEY}|{_GOODS})[-/_]?({_MONEY})(=X)?"), [Market.FX]),
    (
        re.compile(
            r"[\dA-Z]{2,}[-/_]?(USDT|USDC|BUSD|FDUSD|TUSD)|[\dA-Z]{2,}[-/_](USD|EUR|KRW|BTC|ETH)"
            r"|(KRW|BTC|USDT)-[\dA-Z]{2,}|(BTC|ETH|XRP|SOL|DOGE|ADA|LTC)(USD|EUR|KRW|BTC|ETH)"
        ),
        [Market.CRYPTO],
    ),
    (re.compile(r"[A-Z]{1,5}([.-][A-Z])?"), [Market.NASDAQ, Market.NYSE]),
]
"""What codes look like, where no exchange is named; the first that fits counts."""
