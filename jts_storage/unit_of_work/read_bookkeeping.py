"""The bookkeeping as a storage gives it: what is stored can write, and this cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime

from jts_storage._runtime.reads_only import ReadsOnly
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.series import CandleSeries
from jts_storage.ports.ingestion import (
    CheckpointReader,
    IngestionReader,
    OHLCVReader,
    SymbolBarsReader,
)


class ReadIngestion:
    """An `IngestionReader` and nothing more."""

    def __init__(self, stored: IngestionReader) -> None:
        self.symbol_bars = ReadSymbolBars(stored.symbol_bars)
        self.bars = ReadBars(stored.bars)
        self.checkpoints = ReadCheckpoints(stored.checkpoints)


class ReadSymbolBars(ReadsOnly):
    place = "ingestion.symbol_bars"

    def __init__(self, stored: SymbolBarsReader) -> None:
        self._stored = stored

    async def get(self, symbol: str, trading_day: date) -> SymbolBars | None:
        return await self._stored.get(symbol, trading_day)

    async def list(
        self, symbol: str, *, limit: int = 1_000, after: date | None = None
    ) -> Sequence[SymbolBars]:
        return await self._stored.list(symbol, limit=limit, after=after)


class ReadCheckpoints(ReadsOnly):
    place = "ingestion.checkpoints"

    def __init__(self, stored: CheckpointReader) -> None:
        self._stored = stored

    async def get(self, name: str) -> Checkpoint | None:
        return await self._stored.get(name)

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Checkpoint]:
        return await self._stored.list(limit=limit, after=after)


class ReadBars(ReadsOnly):
    place = "ingestion.bars"

    def __init__(self, stored: OHLCVReader) -> None:
        self._stored = stored

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        return await self._stored.get_range(key, start, end)

    def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 10_000
    ) -> AsyncIterator[CandleSeries]:
        return self._stored.stream(key, start, end, block_rows=block_rows)

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        return await self._stored.count(key, start, end)
