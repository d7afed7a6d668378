"""What only real stores can show of data sets: rows that are not merged, and a damaged history."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.clickhouse.data_sets import ClickHouseDataSets
from jts_storage.errors import InvalidData
from jts_storage.mongo.documents import BacktestDocument
from jts_storage.testing.contracts.data_sets import KEYS, M1, RANGE, commit, minutes, proven, rows
from jts_storage.testing.contracts.samples import candle


@pytest.fixture
async def storage(emptied_settings: StorageSettings) -> AsyncIterator[Storage]:
    async with Storage.open(emptied_settings) as storage:
        yield storage


async def ask(storage: Storage, statement: str) -> None:
    await storage.clickhouse.run(storage.clickhouse.execute, statement)


async def test_rows_need_not_be_merged(storage: Storage) -> None:
    await ask(storage, "SYSTEM STOP MERGES candles")
    a, b, c, _ = KEYS
    await commit(storage, [minutes(KEYS[0], 30, "7")])  # rows that compete before the data set, too
    data_set, identity = await proven(storage)
    text = await storage.fingerprint(data_set)
    await commit(storage, [rows(a, candle(3, "99"))])
    await commit(storage, [rows(a, candle(3, "98"))])
    await commit(storage, [minutes(b)], [(c, 0, 9)])
    assert await storage.fingerprint(data_set) == text
    now = await storage.data_set(M1, *RANGE)
    unmerged = await storage.fingerprint(now), await storage.backtests.verify(identity)
    assert [each.rows for each in unmerged[1].differing] == [1, 10]
    await ask(storage, "SYSTEM START MERGES candles")
    await ask(storage, "OPTIMIZE TABLE candles FINAL")
    assert await storage.fingerprint(data_set) == text
    assert (await storage.fingerprint(now), await storage.backtests.verify(identity)) == unmerged


async def test_a_former_row_whose_commit_never_arrived_counts_once(storage: Storage) -> None:
    data_set, identity = await proven(storage)
    await ask(
        storage,
        "INSERT INTO candles_history SELECT symbol, exchange, timeframe, timestamp, open, high,"
        " low, close, volume, version, version + 1000, '' FROM candles LIMIT 5",
    )
    found = await storage.backtests.verify(identity)
    assert found.is_same
    later = replace(data_set, commit=(await storage.data_set(M1, *RANGE)).commit)
    assert await storage.fingerprint(later) == found.fingerprint


async def test_a_candle_that_is_corrected_during_the_count_counts_once(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_set, _ = await proven(storage)
    text = await storage.fingerprint(data_set)
    loop, present = asyncio.get_running_loop(), ClickHouseDataSets._present
    corrections = [rows(KEYS[0], candle(3, "99"))]

    def corrected_behind(self: ClickHouseDataSets, *given: Any) -> Any:
        found = present(self, *given)
        if corrections:
            correcting = commit(storage, [corrections.pop()])
            asyncio.run_coroutine_threadsafe(correcting, loop).result(60)
        return found

    monkeypatch.setattr(ClickHouseDataSets, "_present", corrected_behind)
    assert await storage.fingerprint(data_set) == text
    assert corrections == []


async def test_a_damaged_history_is_noticed(storage: Storage) -> None:
    _, identity = await proven(storage)
    await commit(storage, [rows(KEYS[0], candle(3, "99"))])
    assert (await storage.backtests.verify(identity)).is_reproducible
    await ask(storage, "TRUNCATE TABLE candles_history")
    assert not (await storage.backtests.verify(identity)).is_reproducible


async def test_a_history_that_begins_later_is_named(storage: Storage) -> None:
    _, identity = await proven(storage)
    later = (await commit(storage, [rows(KEYS[0], candle(3, "99"))])).version
    beginnings = storage.mongo.get_collection("uow_history")
    await beginnings.update_one({"_id": "candles"}, {"$set": {"began": later}})
    with pytest.raises(InvalidData, match=f"{identity} cannot be verified: .*before the history"):
        await storage.backtests.verify(identity)


async def test_a_result_of_before_has_no_data_set(storage: Storage) -> None:
    _, identity = await proven(storage)
    name = BacktestDocument.path("config.data_set")
    results = storage.mongo.get_collection(BacktestDocument.collection)
    await results.update_many({}, {"$unset": {name: 1}})
    saved = await storage.backtests.get_by_id(identity)
    assert saved is not None
    assert saved.config.data_set is None
