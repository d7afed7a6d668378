"""Calls are counted and timed as they happen, and the stores tell of themselves."""

from __future__ import annotations

import logging
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from bson import ObjectId
from prometheus_client.parser import text_string_to_metric_families

from jts_storage import Candle, Conflict, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage._runtime.steps import listener
from jts_storage.clickhouse.usage import free_bytes, running
from jts_storage.observe import Metrics, Observers, SlowCalls
from jts_storage.observe.catalogue import CATALOGUE, PREFIX
from jts_storage.observe.disks import _sizes_of_mongo
from jts_storage.testing.factories import make_formula

KEY = SeriesKey("BTC/KRW", Timeframe.M1, exchange="UPBIT")
START = datetime(2026, 3, 2, tzinfo=UTC)


def candles(count: int) -> list[Candle]:
    price = Decimal("71000.5")
    return [
        Candle(START + timedelta(minutes=n), price, price + 1, price - 1, price, 7)
        for n in range(count)
    ]


class Read:
    """Samples by their name and the values of their labels, in any order."""

    def __init__(self, text: str) -> None:
        self.samples = {
            (sample.name.removeprefix(PREFIX), *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def __getitem__(self, name: tuple[str, ...]) -> float:
        return self.samples[name[0], *sorted(name[1:])]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def storage(metrics: Metrics) -> AsyncIterator[Storage]:
    async with Storage.in_memory(observer=Observers(SlowCalls(), metrics)) as storage:
        yield storage


async def test_calls_rows_and_commits_are_counted_exactly(storage: Storage) -> None:
    for _ in range(3):
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, candles(100))
            await uow.commit()
    for _ in range(7):
        await storage.candles.get_range(KEY, START, START + timedelta(minutes=49))
    blocks = [block async for block in storage.candles.stream(KEY, START, START + timedelta(1))]

    found = Read(await storage.metrics())
    assert found["call_seconds_count", "memory", "candles", "save_many"] == 3
    assert found["call_seconds_count", "memory", "candles", "get_range"] == 7
    assert found["call_seconds_count", "memory", "unit_of_work", "commit"] == 3
    assert found["commits_total", "direct", "committed"] == 3
    assert found["rows_total", "memory", "candles", "written"] == 300
    assert found["rows_total", "memory", "candles", "read"] == 7 * 50 + sum(map(len, blocks))
    assert found["bytes_total", "memory", "candles", "written"] == 300 * 48
    assert found["calls_running",] == 0
    assert found["up", "memory"] == 1


async def test_what_follows_a_call_is_no_step_of_it(storage: Storage) -> None:
    async def fail() -> None:
        with pytest.raises(ValueError, match="limit"):
            await storage.formulas.list(limit=-1)

    await storage.formulas.list()
    assert listener.get() is None
    await fail()
    assert listener.get() is None
    async with storage.unit_of_work() as uow:
        await uow.commit()
    assert listener.get() is None


async def test_errors_are_counted_by_class(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        formula = await uow.formulas.save(make_formula())
        await uow.commit()
    with pytest.raises(Conflict):
        async with storage.unit_of_work() as first, storage.unit_of_work() as second:
            await first.formulas.save(replace(formula, name="first"))
            await second.formulas.get_by_id(formula.id or "")
            await first.commit()
            await second.formulas.save(replace(formula, name="second"))
            await second.commit()
    found = Read(await storage.metrics())
    errors = {name: n for name, n in found.samples.items() if name[0] == "call_errors_total"}
    assert errors == {("call_errors_total", "Conflict", "commit", "memory", "unit_of_work"): 1}
    assert found["commits_total", "direct", "conflict"] == 1


async def test_running_calls_are_known_with_their_age(storage: Storage, metrics: Metrics) -> None:
    stream = storage.candles.stream(KEY, START, START + timedelta(1), block_rows=1)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, candles(2))
        await uow.commit()
    async for _ in stream:
        ((call, seconds),) = metrics.running()
        assert call[:3] == ("memory", "candles", "stream")
        assert seconds > 0
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert metrics.running() == []


async def test_an_embedded_storage_tells_of_its_stores(
    tmp_path: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    settings = StorageSettings(data_dir=tmp_path / "jts", env_file=None)
    caplog.set_level(logging.INFO, logger="jts_storage")
    observer = Observers(metrics, SlowCalls(threshold=0.0))
    async with Storage.open(settings, observer=observer) as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, candles(5))
            await uow.formulas.save(make_formula())
            await uow.commit()
        await storage.candles.get_latest(KEY)
        await storage.candles.get_latest(KEY)
        text = await storage.metrics()
        page = (await storage.diagnose()).text
        statements = await storage.clickhouse.run(running, storage.clickhouse)
        asked = await storage.clickhouse.run(free_bytes, storage.clickhouse)
        size, used = await _sizes_of_mongo(storage.mongo) or (0, 0)
    # As its server would be asked; both are of the disk that these files are on.
    disk = shutil.disk_usage(tmp_path)
    assert 0 < (asked or 0) <= disk.total
    assert (size, 0 < used <= size) == (disk.total, True)
    assert all(word.isupper() for _, word in statements)
    opened = [each for each in caplog.messages if each.startswith("Opened ")]
    assert len(opened) == 1
    (commit,) = [each for each in caplog.records if each.__dict__.get("operation") == "commit"]
    assert ObjectId.is_valid(commit.__dict__["commit_id"])
    found = Read(text)
    for store in ("clickhouse", "mongo", "database"):
        assert found["pool_capacity", store] >= found["pool_open", store] > 0
        assert found["pool_waiting", store] == found["pool_timeouts_total", store] == 0
    assert [found["up", store] for store in ("clickhouse", "mongo", "database")] == [1, 1, 1]
    assert found["commits_total", "journalled", "committed"] == 1
    assert found["commit_step_seconds_count", "decided"] == 1
    assert found["held_answers_total", "get_latest"] == 1
    assert found["clickhouse_rows", "candles"] == 5
    assert (
        found["candles_newest_timestamp_seconds", "UPBIT", "1m"]
        == candles(5)[-1].timestamp.timestamp()
    )
    assert found["candles_late_seconds", "UPBIT", "1m"] > 0
    assert [found["migrations_pending", each] for each in ("clickhouse", "mongo", "database")] == [
        0
    ] * 3
    assert found["journal_unfinished",] == 0
    assert found["disk_free_bytes", "clickhouse"] > 0
    assert [each for each in found.samples if each[0] == "disk_free_bytes"] == [
        ("disk_free_bytes", "clickhouse")
    ], "one disk is told once"
    assert "clickhouse: answers" in page
    assert "jts_storage " in page
    assert "BTC/KRW" not in text + page


async def test_every_metric_that_is_told_is_in_the_catalogue(storage: Storage) -> None:
    names = {each.exposed for each in CATALOGUE}
    for family in text_string_to_metric_families(await storage.metrics()):
        if not family.name.endswith("_created"):  # what the client adds to each counter
            assert family.name + ("_total" if family.type == "counter" else "") in names
