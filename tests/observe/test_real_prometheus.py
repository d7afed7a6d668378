"""Prometheus scrapes a storage at work, and every query of the dashboards finds series."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from jts_storage import (
    DomainEvent,
    InvalidData,
    PerSecond,
    RateLimits,
    SeriesKey,
    Storage,
    StorageSettings,
    Timeframe,
)
from jts_storage._runtime.tasks import stopped
from jts_storage.observe import Exposition, Metrics, MetricsServer
from jts_storage.testing.factories import make_candles, make_formula
from tests.observe.prometheus import Stack, queries, running

KEY = SeriesKey("BTC/KRW", Timeframe.M1, "UPBIT")


class Traded(DomainEvent):
    """Waits for a handler that never comes."""


async def work(storage: Storage) -> None:
    """One of everything that a dashboard shows, errors included."""
    candles = make_candles(KEY, 50)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, candles)
        await uow.formulas.save(make_formula())
        await uow.ingestion.checkpoints.save("feed", {"at": time.time()})
        uow.events.add(Traded())
        await uow.commit()
    for _ in range(2):
        await storage.candles.get_range(KEY, candles[0].timestamp, candles[-1].timestamp)
    async with storage.rate_limits.acquire("kis"):
        pass
    with suppress(InvalidData):
        await storage.candles.get_latest(KEY, count=-1)
    with suppress(InvalidData):
        await storage.formulas.list(limit=-1)
    with suppress(InvalidData):
        await storage.ingestion.checkpoints.list(limit=-1)


async def work_on(storage: Storage) -> None:
    while True:
        with suppress(Exception):
            await work(storage)
        await asyncio.sleep(0.5)


async def seen(found: Callable[[], bool], seconds: float) -> bool:
    """Whether it is so within some seconds."""
    until = time.monotonic() + seconds
    while True:
        if await asyncio.to_thread(found):
            return True
        if time.monotonic() > until:
            return False
        await asyncio.sleep(0.25)


# By day their names are checked against the catalogue; what is told of a hung store is with the day
# of faults.
@pytest.mark.slow
async def test_dashboards_show_series(tmp_path: Path, engine_used: Callable[[str], None]) -> None:
    """UT-INFRA-04.3"""
    engine_used("Prometheus and Alertmanager")
    metrics = Metrics()
    settings = StorageSettings(
        data_dir=tmp_path / "jts",
        env_file=None,
        health_timeout=0.4,
        mongo={"max_retries": 0},
        cache="local",
        rate_limits=RateLimits(kis=[PerSecond(100)]),
    )
    async with Storage.open(settings, observer=metrics) as storage:
        exposition = Exposition(storage, metrics)

        async def health() -> tuple[bool, dict[str, bool]]:
            return True, {}

        server = await MetricsServer(exposition, health).start("127.0.0.1", 0)
        working = asyncio.create_task(work_on(storage))
        with running(tmp_path, f"127.0.0.1:{server.port}") as stack:
            try:
                await see_every_query(stack)
            finally:
                await stopped(working)
        await server.stop()


async def see_every_query(stack: Stack) -> None:
    """Each query of each dashboard returns series."""
    asked = [query for each in queries().values() for query in each]
    empty = {query.replace("$__rate_interval", "1m") for query in asked}

    def look() -> bool:
        for query in tuple(empty):
            if stack.query(query):
                empty.discard(query)
        return not empty

    assert await seen(look, 240), empty
