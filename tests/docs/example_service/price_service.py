"""A small service: it stores bars as they come, and answers what a price was and is."""

from __future__ import annotations

from decimal import Decimal

from clickhouse_driver import Client

from jts_storage import BacktestSummary, CandleSeries, Metric, SeriesKey, Storage, StorageSettings
from jts_storage.errors import StorageError
from jts_storage.ports import CandleReader, UnitOfWork
from jts_storage.sync import Storage as SyncStorage

CHECKPOINT = "price-service"


async def collect(storage: Storage, bars: CandleSeries) -> int:
    """Store bars, and how far we are, as one; how many are stored now."""

    async def work(uow: UnitOfWork) -> None:
        await uow.candles.save_many(bars.key, bars)
        await uow.ingestion.checkpoints.save(CHECKPOINT, {"last": str(bars.end)})

    await storage.run(work)
    return await storage.candles.count(bars.key)


async def last_change(candles: CandleReader, key: SeriesKey) -> Decimal | None:
    """By how much the last close differs from the one before."""
    last = await candles.get_latest(key, 2)
    return last[1].close - last[0].close if len(last) == 2 else None


async def last_price(settings: StorageSettings, key: SeriesKey) -> Decimal | None:
    """The last close; None also when storage cannot tell."""
    try:
        async with Storage.open(settings) as storage:
            latest = await storage.candles.get_latest(key)
    except StorageError:
        return None
    return latest[0].close if latest else None


async def best(storage: Storage, strategy_id: str) -> BacktestSummary | None:
    found = await storage.backtests.best(Metric.SHARPE_RATIO, strategy_id=strategy_id)
    return found[0] if found else None


def report(storage: SyncStorage, key: SeriesKey) -> str:
    """For the terminal of an operator."""
    return f"{key}: {storage.candles.count(key)} bars"


def busiest_symbol(client: Client) -> str | None:
    """By SQL of our own, past the repositories."""
    rows = client.execute("SELECT symbol FROM candles FINAL ORDER BY volume DESC LIMIT 1")
    return rows[0][0] if rows else None
