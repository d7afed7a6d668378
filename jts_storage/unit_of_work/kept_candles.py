"""Reads as of a moment that say so where what they read was purged or forgotten.

It is asked after each read, since a purge notes where the history begins before it erases
anything: what was read before the note was whole.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from jts_storage.domain import checks
from jts_storage.domain.beginnings import Reach
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.coarser import CoarserQuery
from jts_storage.domain.enums import Market
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.results import Coverage, Page
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.streams import ReadsPieces
from jts_storage.ports.candles import CandleReader
from jts_storage.ports.formulas import FormulaReader
from jts_storage.ports.history import View
from jts_storage.ports.strategies import StrategyReader


class Purges(Protocol):
    """Purges what candles were, and tells where their history begins since."""

    async def purge(
        self, keys: Sequence[SeriesKey] | None, before: AsOf | None, *, despite_snapshots: bool
    ) -> int: ...

    async def began(self, key: SeriesKey) -> int:
        """The first version as of which a series can be read; 0 if it was never purged."""
        ...

    async def reach(self, key: SeriesKey) -> Reach:
        """How far back corrections of a series are told."""
        ...

    async def check(self, commit: Commit, is_wanted: Callable[[SeriesKey], bool]) -> None:
        """
        :raises InvalidData: a series that is wanted was purged as of that commit, or what was
            replaced since then is not kept any more.
        """
        ...


class PastCandles(CandleReader, Protocol):
    """Reads what was, and what panels and streams are made of."""

    async def read_panel(self, asked: PanelQuery) -> CandlePanel: ...

    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]: ...

    async def symbols_of(self, market: Market) -> frozenset[str]: ...

    def read_pieces(
        self, key: SeriesKey, first: int, last: int, rows: int
    ) -> AsyncIterator[CandleSeries]: ...


class PastView(View, Protocol):
    @property
    def candles(self) -> PastCandles: ...


class KeptCandles(ReadsPieces):
    """A `CandleReader` over one that does not know of purges."""

    def __init__(self, candles: PastCandles, commit: Commit, purges: Purges) -> None:
        self._candles, self._commit, self._purges = candles, commit, purges

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        found = await self._candles.get_range(key, start, end)
        await self._check(key)
        return found

    async def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        unique = tuple(dict.fromkeys(checks.several(keys, SeriesKey, "keys")))
        found = await self._candles.get_ranges(unique, start, end)
        await self._check(*unique)
        return found

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        found = await self._candles.read_panel(asked)
        await self._purges.check(self._commit, asked.is_of)
        return found

    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        return await self._candles.panel_sizes(asked)

    async def symbols_of(self, market: Market) -> frozenset[str]:
        return await self._candles.symbols_of(market)

    async def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        found = await self._candles.get_latest(key, count)
        await self._check(key)
        return found

    async def get_coverage(self, key: SeriesKey) -> Coverage:
        found = await self._candles.get_coverage(key)
        await self._check(key)
        return found

    async def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        found = await self._candles.coverage_by_day(key, timezone=timezone)
        await self._check(key)
        return found

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        found = await self._candles.count(key, start, end)
        await self._check(key)
        return found

    async def read_coarser(self, asked: CoarserQuery) -> CandleSeries:
        key, zone = asked.key, asked.timezone
        found = await self._candles.resample(key, asked.target, *asked.ends, timezone=zone)
        await self._check(key)
        return found

    async def read_pieces(
        self, key: SeriesKey, first: int, last: int, rows: int
    ) -> AsyncIterator[CandleSeries]:
        async for piece in self._candles.read_pieces(key, first, last, rows):
            await self._check(key)
            yield piece

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None
    ) -> Page[SeriesKey]:
        found = await self._candles.list_keys(limit=limit, after=after)
        await self._purges.check(self._commit, lambda _: True)
        return found

    async def _check(self, *keys: SeriesKey) -> None:
        await self._purges.check(self._commit, keys.__contains__)


@dataclass(frozen=True, slots=True)
class KeptView:
    """A `View` whose candles say so where they were purged."""

    commit: Commit
    candles: KeptCandles
    formulas: FormulaReader
    strategies: StrategyReader

    @classmethod
    def of(cls, view: PastView, purges: Purges) -> KeptView:
        candles = KeptCandles(view.candles, view.commit, purges)
        return cls(view.commit, candles, view.formulas, view.strategies)
