"""Which candles of a market are wanted, and the reading that every store does by it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import groupby
from typing import Final, Self

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import FIELDS
from jts_storage.domain.enums import Market, Timeframe, member
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.resampling import check_coarser, zone_name
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData

_LEAST_ROWS: Final = 65_536
"""So many rows at least are read at once, as far as there are."""


@dataclass(frozen=True)
class PanelQuery:
    """Which candles of which series are wanted.

    :param keys: of the series; all there are if None.
    :param symbols: only series of these; of all if None.
    :param rows: only so many of the last of each.
    :param fields: what is wanted of a candle.
    """

    timeframe: Timeframe
    first: int
    last: int
    keys: tuple[SeriesKey, ...] | None
    exchange: str | None
    symbols: frozenset[str] | None = None
    rows: int | None = None
    fields: tuple[str, ...] = FIELDS

    @classmethod
    def of(
        cls,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        keys: Iterable[SeriesKey] | None,
        exchange: str | None,
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
        return cls(wanted, *checks.range_ms(start, end), named, exchange)

    def limited(self, rows: int | None, fields: Iterable[str] | None, *, what: str) -> Self:
        """The same with so many of the last rows of each series, and these fields.

        :param what: how the caller calls the number of rows.
        """
        if rows is not None:
            checks.whole(rows, what, least=1, below=2**31)
        return replace(self, rows=rows, fields=FIELDS if fields is None else fields_of(fields))

    def is_of(self, key: SeriesKey) -> bool:
        return (
            key.timeframe is self.timeframe
            and self.exchange in (None, key.exchange)
            and (self._named is None or key in self._named)
            and (self.symbols is None or key.symbol in self.symbols)
        )

    @cached_property
    def _named(self) -> frozenset[SeriesKey] | None:
        """The keys: each of thousands of series is looked for among as many."""
        return None if self.keys is None else frozenset(self.keys)

    def panel(self, series: Iterable[CandleSeries]) -> CandlePanel:
        """What is wanted of series, each in its whole length."""
        ranges = (each.slice_ms(self.first, self.last) for each in series if self.is_of(each.key))
        panel = CandlePanel(self.timeframe, ranges).only(*self.fields)
        return panel if self.rows is None else panel.tail(self.rows)


def fields_of(given: Iterable[str]) -> tuple[str, ...]:
    """Fields in the order of a candle.

    :raises InvalidData: there is none among them, or something that is no field.
    """
    if isinstance(given, str):
        given = (given,)
    named = set(checks.several(given, str, "fields"))
    if not named or not named <= set(FIELDS):
        raise InvalidData(
            f"must be some of {', '.join(FIELDS)}", field="fields", value=", ".join(sorted(named))
        )
    return tuple(name for name in FIELDS if name in named)


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
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        last: int | None = None,
    ) -> CandlePanel:
        asked = PanelQuery.of(timeframe, start, end, keys, exchange)
        wanted = asked.limited(last, fields, what="last")
        return await self.read_panel(await self._of_market(wanted, market))

    async def get_latest_panel(
        self,
        timeframe: Timeframe,
        count: int = 1,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
    ) -> CandlePanel:
        ends = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
        asked = PanelQuery.of(timeframe, *ends, keys, exchange)
        wanted = asked.limited(checks.whole(count, "count", least=1), fields, what="count")
        return await self.read_panel(await self._of_market(wanted, market))

    async def resample_panel(
        self,
        timeframe: Timeframe,
        target: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        timezone: str = "UTC",
    ) -> CandlePanel:
        asked = PanelQuery.of(timeframe, start, end, keys, exchange)
        coarser = member(Timeframe, target, "target")
        check_coarser(asked.timeframe, coarser)
        zone = zone_name(timezone)
        return await self.read_resampled(await self._of_market(asked, market), coarser, zone)

    async def stream_panels(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        block_rows: int = 1_000_000,
    ) -> AsyncIterator[CandlePanel]:
        checks.whole(block_rows, "block_rows", least=1)
        asked = PanelQuery.of(timeframe, start, end, keys, exchange)
        wanted = await self._of_market(asked.limited(None, fields, what="last"), market)
        sizes = {} if wanted.keys == () else await self.panel_sizes(wanted)
        at_once = rows_at_once(block_rows)
        for is_long, group in groupby(sizes, lambda key: sizes[key] > at_once):
            if not is_long:
                for keys in _together({key: sizes[key] for key in group}, at_once):
                    panel = await self.read_panel(replace(wanted, keys=keys))
                    for block in panel.pieces(block_rows):
                        yield block
                continue
            for key in group:
                async for block in self.stream_long(replace(wanted, keys=(key,)), block_rows):
                    yield block

    async def _of_market(self, asked: PanelQuery, market: Market | None) -> PanelQuery:
        if market is None:
            return asked
        return replace(asked, symbols=await self.symbols_of(member(Market, market, "market")))

    @abstractmethod
    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        """What is asked, checked before."""

    async def read_resampled(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel:
        """What is asked in coarser candles; where the store cannot make them, made here."""
        return (await self.read_panel(asked)).resample(target, timezone=timezone)

    async def stream_long(self, asked: PanelQuery, block_rows: int) -> AsyncIterator[CandlePanel]:
        """What is asked of one series that is too long to be read at once; no empty blocks."""
        (key,) = asked.keys or ()
        ends = checks.from_ms(asked.first), checks.from_ms(asked.last)
        async for piece in self.stream(key, *ends, block_rows=block_rows):
            yield asked.panel([piece])

    @abstractmethod
    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        """The series of what is asked, in order, and about how many rows each has.

        None may be left out; more rows than there are cost a shorter read and no more.
        """

    @abstractmethod
    async def symbols_of(self, market: Market) -> frozenset[str]:
        """The codes of the symbols of a market."""

    @abstractmethod
    def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = ...
    ) -> AsyncIterator[CandleSeries]: ...


def rows_at_once(block_rows: int) -> int:
    """How many rows to read for blocks: small ones several at once.

    A question costs more than the rows of a small block.
    """
    return -(-_LEAST_ROWS // block_rows) * block_rows


def _together(sizes: Mapping[SeriesKey, int], rows: int) -> Iterator[tuple[SeriesKey, ...]]:
    """Keys whose series fit into so many rows together, or a single key."""
    block: list[SeriesKey] = []
    left = rows
    for key, size in sizes.items():
        if block and size > left:
            yield tuple(block)
            block, left = [], rows
        block.append(key)
        left -= size
    if block:
        yield tuple(block)
