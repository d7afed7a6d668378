"""What a use case needs of a storage: `jts_storage.Storage` has it, in memory or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Final, Protocol, TypeVar

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet
from jts_storage.domain.enums import Timeframe
from jts_storage.ports.candles import CandleStore
from jts_storage.ports.ingestion import IngestionReader
from jts_storage.ports.observation import Observation
from jts_storage.ports.symbols import SymbolReader
from jts_storage.ports.unit_of_work import UnitOfWork

T = TypeVar("T")

BLOCK_ROWS: Final = 262_144
"""How many rows a use case reads or stores at a time."""


class AnyStorage(Protocol):
    """The read side of candles, symbols and bookkeeping, and units of work to write with."""

    @property
    def candles(self) -> CandleStore: ...
    @property
    def symbols(self) -> SymbolReader: ...
    @property
    def ingestion(self) -> IngestionReader: ...

    async def data_set(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
    ) -> DataSet: ...

    def unit_of_work(self, *, source: str = "") -> UnitOfWork: ...


async def told(
    storage: AnyStorage, use_case: str, name: str, work: Callable[[], Awaitable[T]]
) -> T:
    """Await `work`, and tell whoever observes the storage, if anybody does."""
    observation: Observation | None = getattr(storage, "observation", None)
    return await work() if observation is None else await observation.told(use_case, name, work)
