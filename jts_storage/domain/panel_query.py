"""Which candles of a market are wanted, and the reading that every store does by it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData


@dataclass(frozen=True, slots=True)
class PanelQuery:
    """Which candles of which series are wanted.

    :param keys: of the series; all there are if None.
    :param rows: only so many of the last of each.
    """

    timeframe: Timeframe
    first: int
    last: int
    keys: tuple[SeriesKey, ...] | None
    exchange: str | None
    rows: int | None

    @classmethod
    def of(
        cls,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        keys: Iterable[SeriesKey] | None,
        exchange: str | None,
        rows: int | None,
    ) -> Self:
        """:raises InvalidData: a key is of another timeframe, or an argument is of no use."""
        wanted = member(Timeframe, timeframe, "timeframe")
        named = None
        if keys is not None:
            named = tuple(dict.fromkeys(checks.several(keys, SeriesKey, "keys")))
            for key in named:
                if key.timeframe is not wanted:
                    raise InvalidData(f"must be of {wanted.value}", field="keys", value=str(key))
        if exchange is not None:
            checks.instance(exchange, str, "exchange")
        if rows is not None:
            checks.whole(rows, "last", least=1, below=2**31)
        return cls(wanted, *checks.range_ms(start, end), named, exchange, rows)

    @classmethod
    def latest(
        cls,
        timeframe: Timeframe,
        count: int,
        keys: Iterable[SeriesKey] | None,
        exchange: str | None,
    ) -> Self:
        checks.whole(count, "count", least=1, below=2**31)
        ends = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
        return cls.of(timeframe, *ends, keys, exchange, count)

    def is_of(self, key: SeriesKey) -> bool:
        return (
            key.timeframe is self.timeframe
            and self.exchange in (None, key.exchange)
            and (self.keys is None or key in self.keys)
        )

    def panel(self, series: Iterable[CandleSeries]) -> CandlePanel:
        """What is wanted of series, each in its whole length."""
        ranges = (each.slice_ms(self.first, self.last) for each in series if self.is_of(each.key))
        panel = CandlePanel(self.timeframe, ranges)
        return panel if self.rows is None else panel.tail(self.rows)


class ReadsPanels(ABC):
    """The part of a `CandleReader` that reads many series at once."""

    async def get_panel(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        last: int | None = None,
    ) -> CandlePanel:
        return await self.read_panel(PanelQuery.of(timeframe, start, end, keys, exchange, last))

    async def get_latest_panel(
        self,
        timeframe: Timeframe,
        count: int = 1,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
    ) -> CandlePanel:
        return await self.read_panel(PanelQuery.latest(timeframe, count, keys, exchange))

    @abstractmethod
    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        """What is asked, checked before."""
