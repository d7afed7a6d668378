"""The stored candles as clients' units of work ask for them, with questions that are checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Market, Timeframe, member
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.resampling import check_coarser, zone_name
from jts_storage.errors import InvalidData


class StoredCandles:
    """What staged candles ask beside what every reader has.

    A client makes its questions itself, where nobody has checked them.
    """

    def __init__(self, stored: Any) -> None:
        self._stored = stored

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        found: CandlePanel = await self._stored.read_panel(checked(asked))
        return found

    async def read_resampled(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel:
        query, coarser = checked(asked), member(Timeframe, target, "target")
        check_coarser(query.timeframe, coarser)
        found: CandlePanel = await self._stored.read_resampled(query, coarser, zone_name(timezone))
        return found

    async def panel_sizes(self, asked: PanelQuery) -> Mapping[SeriesKey, int]:
        found: Mapping[SeriesKey, int] = await self._stored.panel_sizes(checked(asked))
        return found

    def stream_long(self, asked: PanelQuery, block_rows: int) -> AsyncIterator[CandlePanel]:
        checks.whole(block_rows, "block_rows", least=1)
        query = checked(asked)
        if query.keys is None or len(query.keys) != 1:
            raise InvalidData("must be of one series", field="asked")
        found: AsyncIterator[CandlePanel] = self._stored.stream_long(query, block_rows)
        return found

    async def symbols_of(self, market: Market) -> frozenset[str]:
        found: frozenset[str] = await self._stored.symbols_of(member(Market, market, "market"))
        return found


def checked(asked: object) -> PanelQuery:
    """
    :raises InvalidData: it is no question, or none that this kit would ask.
    """
    given = checks.instance(asked, PanelQuery, "asked")
    first, last = (
        checks.whole(each, "asked", least=checks.FIRST_MS, below=checks.LAST_MS + 1)
        for each in (given.first, given.last)
    )
    ends = checks.from_ms(first), checks.from_ms(last)
    query = PanelQuery.of(given.timeframe, *ends, given.keys, given.exchange)
    symbols = given.symbols
    if symbols is not None:
        symbols = frozenset(checks.several(symbols, str, "symbols"))
    return replace(query.limited(given.rows, given.fields, what="rows"), symbols=symbols)
