"""Imports a file into embedded stores; a test kills it at some moment.

Nothing here imports chDB before it is called: a process forked after that would hang.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import jts_storage.backend  # noqa: F401 - loaded once, for every process forked from here
from jts_storage import CandleSeries, Market, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.domain import checks
from jts_storage.unit_of_work import clock
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import Action, QualityPolicy, Rule
from jts_storage.usecases.quarantine import Quarantine, QuarantinedRow

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
OPTIONS = ImportOptions(
    block_rows=1_000,
    create=Market.KOSPI,
    policy=QualityPolicy(actions={Rule.ZERO_VOLUME: Action.QUARANTINE}),
)
Ends = tuple[CandleSeries, list[QuarantinedRow]]


def run(folder: Path, file: Path, answers: Connection) -> None:
    """Tell when the stores are open, import, and tell what is stored then."""
    # What the engine of a dead process had not stored is on its way no more.
    clock.LANDING = timedelta(seconds=0.1)

    async def work() -> None:
        async with Storage.open(StorageSettings.load(data_dir=folder)) as storage:
            answers.send("ready")
            await import_into(storage, file)
            series, rows = await ends_of(storage)
            answers.send((series.to_columns(), rows))

    asyncio.run(work())


async def import_into(storage: Storage, file: Path) -> None:
    await ImportCandles(storage).run(
        file, KEY.timeframe, symbol=KEY.symbol, exchange=KEY.exchange, options=OPTIONS
    )


async def ends_of(storage: Storage) -> Ends:
    every = checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP
    return await storage.candles.get_range(KEY, *every), await Quarantine(storage).review()
