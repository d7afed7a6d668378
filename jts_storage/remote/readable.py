"""All that a storage behind a gateway gives to read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jts_storage.domain.arrow import open_parquet
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import DataSet, DataSetQuery
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.errors import InvalidData, NotFound
from jts_storage.models import Models
from jts_storage.models.document_repository import ReadOnlyDocuments
from jts_storage.models.table_repository import ReadOnly
from jts_storage.ports.candles import CandleReader
from jts_storage.ports.formulas import FormulaReader
from jts_storage.ports.history import View
from jts_storage.ports.lake import Lake
from jts_storage.ports.models import Model
from jts_storage.ports.strategies import StrategyReader
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.remote.connection import Connection
from jts_storage.remote.declared import RemoteDocuments, RemoteTable
from jts_storage.remote.repositories import (
    RemoteBacktests,
    RemoteBars,
    RemoteCandles,
    RemoteCheckpoints,
    RemoteFormulas,
    RemotePastCandles,
    RemotePastFormulas,
    RemotePastStrategies,
    RemoteSnapshots,
    RemoteStorage,
    RemoteStoredCandles,
    RemoteStoredDocuments,
    RemoteStrategies,
    RemoteSymbolBars,
    RemoteSymbols,
)
from jts_storage.remote.target import Target

R = TypeVar("R")


class RemoteCandleStore(RemoteCandles):
    """A `CandleStore` whose lakes are on the client's side.

    :param begin: begins a unit of work.
    """

    def __init__(self, connection: Connection, begin: Callable[[], UnitOfWork]) -> None:
        super().__init__(Target(connection, "Candles"))
        self._begin = begin

    async def import_lake(self, lake: Lake, job_id: str) -> int:
        import pyarrow as pa

        files = await asyncio.to_thread(lake.job_files, job_id)
        if not files:
            raise NotFound(
                f"The lake has no job {job_id!r}.", remedy="list_jobs() has their names."
            )
        rows = 0
        for file in files:
            try:
                table = await asyncio.to_thread(_read_file, file.path)
            except (OSError, pa.ArrowException) as exc:
                raise InvalidData(
                    f"cannot be read as Parquet: {exc}", field=str(file.path)
                ) from exc
            async with self._begin() as uow:
                await uow.candles.save_many(file.key, table)
                await uow.commit()
            rows += table.num_rows
        return rows


def _read_file(path: Path) -> Any:
    return open_parquet(path).read()


class RemoteStored(RemotePastCandles):
    """Candles as a unit of work lays what it staged over them."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(Target(connection, "Candles"))
        self._stored = RemoteStoredCandles(Target(connection, "StoredCandles"))

    async def read_panel(self, asked: PanelQuery) -> CandlePanel:
        return await self._stored.read_panel(asked)

    async def read_resampled(
        self, asked: PanelQuery, target: Timeframe, timezone: str
    ) -> CandlePanel:
        return await self._stored.read_resampled(asked, target, timezone)

    async def panel_sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        return dict(await self._stored.panel_sizes(asked))

    def stream_long(self, asked: PanelQuery, block_rows: int) -> AsyncIterator[CandlePanel]:
        return self._stored.stream_long(asked, block_rows)

    async def symbols_of(self, market: Market) -> frozenset[str]:
        return await self._stored.symbols_of(market)


class RemoteIngestion:
    """An `IngestionReader`."""

    def __init__(self, connection: Connection) -> None:
        self.symbol_bars = RemoteSymbolBars(Target(connection, "SymbolBars"))
        self.bars = RemoteBars(Target(connection, "Bars"))
        self.checkpoints = RemoteCheckpoints(Target(connection, "Checkpoints"))


@dataclass(frozen=True, slots=True)
class RemoteView:
    """A `View`; what is read names its commit each time."""

    commit: Commit
    candles: CandleReader
    formulas: FormulaReader
    strategies: StrategyReader


class RemoteReadable:
    """`Readable` through a connection."""

    def __init__(
        self, connection: Connection, models: Models, begin: Callable[[], UnitOfWork]
    ) -> None:
        self._connection, self._models = connection, models
        self._storage = RemoteStorage(Target(connection, "Storage"))
        self._documents = RemoteStoredDocuments(Target(connection, "StoredDocuments"))
        self.candles = RemoteCandleStore(connection, begin)
        self.symbols = RemoteSymbols(Target(connection, "Symbols"))
        self.formulas = RemoteFormulas(Target(connection, "Formulas"))
        self.strategies = RemoteStrategies(Target(connection, "Strategies"))
        self.backtests = RemoteBacktests(Target(connection, "Backtests"))
        self.ingestion = RemoteIngestion(connection)
        self.snapshots = RemoteSnapshots(Target(connection, "Snapshots"))

    async def as_of(self, moment: AsOf) -> View:
        commit = await self._storage.as_of(moment)
        connection = self._connection
        return RemoteView(
            commit,
            RemotePastCandles(Target(connection, "PastCandles", view=commit)),
            RemotePastFormulas(Target(connection, "PastFormulas", view=commit)),
            RemotePastStrategies(Target(connection, "PastStrategies", view=commit)),
        )

    async def data_set(self, asked: DataSetQuery) -> DataSet:
        return await self._storage.data_set(
            asked.timeframe,
            asked.start,
            asked.end,
            keys=asked.keys,
            market=asked.market,
            exchange=asked.exchange,
            as_of=asked.as_of,
        )

    async def fingerprint(self, data_set: DataSet) -> str:
        return await self._storage.fingerprint(data_set)

    async def health(self) -> Mapping[str, object]:
        """What the gateway says of its stores."""
        return await self._storage.health()

    def repository(self, model: Model[R]) -> R:
        return self._models.repository(
            model,
            documents=lambda model: ReadOnlyDocuments(RemoteDocuments(self._documents, model)),
            tables=lambda model: ReadOnly(RemoteTable(self._connection, model)),
        )
