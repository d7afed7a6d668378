"""Each fixture of jts_storage's plugin at work; docs/how-to/test-your-service.md explains them."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import price_service
import pytest
from clickhouse_driver import Client
from pymongo import MongoClient

from jts_storage import (
    BacktestResult,
    CandleSeries,
    Formula,
    SeriesKey,
    Storage,
    StorageSettings,
    Strategy,
    Symbol,
    Timeframe,
)
from jts_storage.ports import UnitOfWork
from jts_storage.sync import Storage as SyncStorage
from jts_storage.testing.address import Address
from jts_storage.testing.assertions import assert_same
from jts_storage.testing.snapshots import storage_state

KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
MakeCandles = Callable[..., CandleSeries]


@pytest.mark.asyncio
async def test_collected_bars_are_stored(jts_storage: Storage, make_candles: MakeCandles) -> None:
    bars = make_candles(KEY, 50, seed=7)
    assert await price_service.collect(jts_storage, bars) == 50
    assert_same(bars, await jts_storage.candles.get_latest(KEY, 50))


@pytest.mark.asyncio
async def test_collecting_again_changes_nothing(
    jts_storage: Storage, make_candles: MakeCandles
) -> None:
    await price_service.collect(jts_storage, make_candles(KEY))
    before = await storage_state(jts_storage)
    await price_service.collect(jts_storage, make_candles(KEY))
    assert_same(before, await storage_state(jts_storage), ignoring=["updated_at"])


@pytest.mark.asyncio
async def test_a_symbol_is_seen_by_others_once_committed(
    jts_storage: Storage, jts_uow: UnitOfWork, make_symbol: Callable[..., Symbol]
) -> None:
    await jts_uow.symbols.save(make_symbol("000660"))
    assert await jts_storage.symbols.get_by_code("000660") is None
    await jts_uow.commit()
    found = await jts_storage.symbols.get_by_code("000660")
    assert_same(make_symbol("000660"), found, ignoring=["updated_at"])


@pytest.mark.asyncio
async def test_the_change_of_a_price(
    jts_memory_storage: Storage, make_candles: MakeCandles
) -> None:
    bars = make_candles(KEY, 3)
    await price_service.collect(jts_memory_storage, bars)
    change = await price_service.last_change(jts_memory_storage.candles, KEY)
    assert change == bars[2].close - bars[1].close


def test_the_report_counts_bars(jts_sync_storage: SyncStorage, make_candles: MakeCandles) -> None:
    with jts_sync_storage.unit_of_work() as uow:
        uow.candles.save_many(KEY, make_candles(KEY, 4))
        uow.commit()
    assert price_service.report(jts_sync_storage, KEY) == "KRX:005930/1m: 4 bars"
    assert list(storage_state(jts_sync_storage)) == ["candles/KRX:005930/1m"]


@pytest.mark.asyncio
async def test_the_service_opens_its_own_storage(
    jts_settings: StorageSettings, make_candles: MakeCandles
) -> None:
    assert await price_service.last_price(jts_settings, KEY) is None
    bars = make_candles(KEY, 5)
    async with Storage.open(jts_settings) as storage:
        await price_service.collect(storage, bars)
    assert await price_service.last_price(jts_settings, KEY) == bars[4].close


@pytest.mark.asyncio
async def test_our_sql_finds_the_busiest_symbol(
    jts_clickhouse: Address, jts_settings: StorageSettings, make_candles: MakeCandles
) -> None:
    async with Storage.open(jts_settings) as storage:
        await price_service.collect(storage, make_candles(KEY))
    with Client(jts_clickhouse.host, jts_clickhouse.port, jts_clickhouse.database) as client:
        assert price_service.busiest_symbol(client) == "005930"


@pytest.mark.asyncio
async def test_a_price_is_unknown_while_storage_fails(
    jts_clickhouse: Address, jts_settings: StorageSettings, make_candles: MakeCandles
) -> None:
    bars = make_candles(KEY)
    async with Storage.open(jts_settings) as storage:
        await price_service.collect(storage, bars)
    jts_clickhouse.faults.refuse()
    assert await price_service.last_price(jts_settings, KEY) is None
    jts_clickhouse.faults.clear()
    assert await price_service.last_price(jts_settings, KEY) == bars[-1].close


@pytest.mark.asyncio
async def test_formulas_are_documents(
    jts_mongo: Address, jts_settings: StorageSettings, make_formula: Callable[..., Formula]
) -> None:
    async with Storage.open(jts_settings) as storage, storage.unit_of_work() as uow:
        await uow.formulas.save(make_formula(name="dead cross"))
        await uow.commit()
    with MongoClient[dict[str, Any]](jts_mongo.url) as client:
        (found,) = client[jts_mongo.database]["formulas"].find()
    assert found["name"] == "dead cross"


@pytest.mark.asyncio
async def test_checkpoints_are_rows(
    jts_postgres: Address, jts_settings: StorageSettings, make_candles: MakeCandles
) -> None:
    async with Storage.open(jts_settings) as storage:
        await price_service.collect(storage, make_candles(KEY))
    connection = await asyncpg.connect(jts_postgres.url)
    names = await connection.fetch("SELECT symbol FROM checkpoints")
    await connection.close()
    assert [row["symbol"] for row in names] == [price_service.CHECKPOINT]


@pytest.mark.asyncio
async def test_the_best_backtest_of_a_strategy(
    jts_storage: Storage,
    make_strategy: Callable[..., Strategy],
    make_backtest: Callable[..., BacktestResult],
) -> None:
    async with jts_storage.unit_of_work() as uow:
        strategy = await uow.strategies.save(make_strategy())
        assert strategy.id is not None
        good = make_backtest(strategy.id, trades=5)
        poor = replace(good, metrics=replace(good.metrics, sharpe_ratio=0.5))
        for result in (poor, good):
            await uow.backtests.save(result)
        await uow.commit()
    found = await price_service.best(jts_storage, strategy.id)
    assert_same(good.summary(), found, ignoring=["id", "strategy_version", "formula_versions"])


class TestInTheStyleOfUnittest(unittest.TestCase):
    storage: SyncStorage

    @pytest.fixture(autouse=True)
    def _storage(self, jts_sync_storage: SyncStorage) -> None:
        self.storage = jts_sync_storage

    def test_nothing_is_stored_at_first(self) -> None:
        self.assertEqual(price_service.report(self.storage, KEY), "KRX:005930/1m: 0 bars")
