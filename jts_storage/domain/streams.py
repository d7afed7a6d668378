"""Long series, read in pieces and given in blocks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from datetime import datetime

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.coarser import ReadsCoarser
from jts_storage.domain.columns import concatenate
from jts_storage.domain.panel_query import ReadsPanels, rows_at_once
from jts_storage.domain.series import CandleSeries


class ReadsPieces(ReadsPanels, ReadsCoarser):
    """The parts of a `CandleReader` that read many series, coarser candles, and long series."""

    async def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 262_144
    ) -> AsyncIterator[CandleSeries]:
        first, last = checks.range_ms(start, end)
        checks.whole(block_rows, "block_rows", least=1)
        left = CandleSeries.empty(key)
        async for piece in self.read_pieces(key, first, last, rows_at_once(block_rows)):
            if len(left):
                columns = concatenate([left.columns, piece.columns])
                piece = CandleSeries.trusted(key, columns)
            whole = len(piece) - len(piece) % block_rows
            for at in range(0, whole, block_rows):
                yield piece[at : at + block_rows]
            left = piece[whole:]
        if len(left):
            yield left

    @abstractmethod
    def read_pieces(
        self, key: SeriesKey, first: int, last: int, rows: int
    ) -> AsyncIterator[CandleSeries]:
        """A range in consecutive pieces of about so many rows, one for each time it is read.

        Pieces may be empty: whoever looks whether what was read may be given looks once for each.
        """
