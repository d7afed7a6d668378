"""Pages of stored and staged items together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from jts_storage.domain.enums import Market
from jts_storage.ports.symbols import SymbolReader

T = TypeVar("T")
K = TypeVar("K")

_CODES = 10_000


async def merged_page(
    page: Callable[[int, K | None], Awaitable[Sequence[T]]],
    staged: Iterable[T],
    hidden: set[K],
    *,
    key_of: Callable[[T], K],
    order: Callable[[K], tuple[str, ...] | str],
    limit: int,
    after: K | None,
) -> list[T]:
    """One page of stored and staged items together, staged ones hiding the stored of their key."""
    found: list[T] = []
    cursor = after
    while True:
        stored = await page(limit, cursor)
        more = len(stored) == limit and limit > 0
        bound = key_of(stored[-1]) if more else None
        found += [item for item in stored if key_of(item) not in hidden]
        found += [
            item
            for item in staged
            if (cursor is None or order(key_of(item)) > order(cursor))  # type: ignore[operator]
            and (bound is None or order(key_of(item)) <= order(bound))  # type: ignore[operator]
        ]
        if not more or len(found) >= limit:
            return sorted(found, key=lambda item: order(key_of(item)))[:limit]
        cursor = bound


async def codes_of(symbols: SymbolReader, market: Market) -> frozenset[str]:
    """The codes of all symbols of a market, page by page."""
    codes: list[str] = []
    after = None
    while page := await symbols.get_by_market(market, limit=_CODES, after=after):
        codes += (symbol.code for symbol in page)
        after = codes[-1]
    return frozenset(codes)
