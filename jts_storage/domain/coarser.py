"""Which coarser candles are wanted of a series, and the reading that every store does by it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.resampling import check_coarser, zone_name
from jts_storage.domain.series import CandleSeries


@dataclass(frozen=True, slots=True)
class CoarserQuery:
    """Which candles make up the ones that are wanted.

    :param target: the timeframe that is wanted.
    :param timezone: the name of that by whose days they are made.
    """

    key: SeriesKey
    target: Timeframe
    first: int
    last: int
    timezone: str

    @property
    def ends(self) -> tuple[datetime, datetime]:
        return checks.from_ms(self.first), checks.from_ms(self.last)


class ReadsCoarser(ABC):
    """The part of a `CandleReader` that gives a series in coarser candles."""

    async def resample(
        self,
        key: SeriesKey,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        timezone: str = "UTC",
    ) -> CandleSeries:
        target = member(Timeframe, timeframe, "timeframe")
        check_coarser(checks.instance(key, SeriesKey, "key").timeframe, target)
        ends, zone = checks.range_ms(start, end), zone_name(timezone)
        return await self.read_coarser(CoarserQuery(key, target, *ends, zone))

    async def read_coarser(self, asked: CoarserQuery) -> CandleSeries:
        """What is asked, checked before; where the store cannot make it, made here."""
        series = await self.get_range(asked.key, *asked.ends)
        return series.resample(asked.target, timezone=asked.timezone)

    @abstractmethod
    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries: ...
