"""The contract of the bookkeeping of ingestion."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.results import SaveResult
from jts_storage.domain.series import CandleSeries
from jts_storage.ports.candles import CandleData


class SymbolBarsReader(Protocol):
    """Reads aggregates of one symbol and day. Lists are ordered by day."""

    async def get(self, symbol: str, trading_day: date) -> SymbolBars | None:
        """The aggregate of that symbol and day, None if there is none."""
        ...

    async def list(
        self, symbol: str, *, limit: int = 1_000, after: date | None = None
    ) -> Sequence[SymbolBars]:
        """The aggregates of a symbol; `after` is the last day of the page before."""
        ...


class SymbolBarsRepository(SymbolBarsReader, Protocol):
    """Reads and writes aggregates with optimistic concurrency."""

    async def save(self, bars: SymbolBars) -> SymbolBars:
        """Store a new aggregate (version 0) or a new state of one; its new version returns.

        :raises Conflict: the stored version is not the aggregate's.
        """
        ...

    async def delete(self, symbol: str, trading_day: date) -> bool:
        """Remove an aggregate; whether there was one."""
        ...


class CheckpointReader(Protocol):
    """Reads checkpoints."""

    async def get(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name, None if there is none."""
        ...

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Checkpoint]:
        """All checkpoints by name; `after` is the last name of the page before."""
        ...


class CheckpointRepository(CheckpointReader, Protocol):
    """Reads and writes checkpoints. The later write wins; in a unit of work, a checkpoint that was
    changed since the unit read or wrote it is a `Conflict` when it commits.
    """

    async def save(self, name: str, data: Mapping[str, Any]) -> Checkpoint:
        """Store a JSON object under a name.

        :raises InvalidData: it holds what JSON cannot hold exactly.
        """
        ...

    async def update(
        self, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Checkpoint:
        """Replace the object by `change` of it (of None, if there is none) in one atomic step.

        `change` may be called again when somebody was faster, so it should do nothing else.
        """
        ...

    async def delete(self, name: str) -> bool:
        """Remove a checkpoint; whether there was one."""
        ...


class OHLCVReader(Protocol):
    """Reads raw bars. Ends of ranges are included, the order is ascending."""

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        """The bars from `start` to `end`; an empty series where there are none."""
        ...

    def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 10_000
    ) -> AsyncIterator[CandleSeries]:
        """The range in consecutive, non-empty series of at most `block_rows` each."""
        ...

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        """Return how many bars there are; an open end is no bound."""
        ...


class OHLCVRepository(OHLCVReader, Protocol):
    """Reads and writes raw bars as they came in. A bar is an upsert: the later write wins."""

    async def save_many(self, key: SeriesKey, candles: CandleData) -> SaveResult:
        """Store bars in one transaction.

        :raises InvalidData: with row and field, before anything is written.
        """
        ...

    async def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        """Remove the bars from `start` to `end`; how many there were."""
        ...


class IngestionReader(Protocol):
    """The read side of the bookkeeping."""

    @property
    def symbol_bars(self) -> SymbolBarsReader: ...
    @property
    def bars(self) -> OHLCVReader: ...
    @property
    def checkpoints(self) -> CheckpointReader: ...


class IngestionRepository(Protocol):
    """The bookkeeping of ingestion: aggregates a symbol and day, raw bars, checkpoints."""

    @property
    def symbol_bars(self) -> SymbolBarsRepository: ...
    @property
    def bars(self) -> OHLCVRepository: ...
    @property
    def checkpoints(self) -> CheckpointRepository: ...
