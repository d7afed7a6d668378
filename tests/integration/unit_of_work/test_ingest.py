"""Live candles over the real engines: what was acknowledged is there, whatever dies or hangs."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import pytest
from bson import ObjectId
from pydantic import SecretStr

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.backend import StoreBackend
from jts_storage.domain import checks
from jts_storage.errors import StorageError
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.testing.factories import START, make_candles
from jts_storage.testing.fault_proxy import FaultProxy
from tests import forked

sys.path.insert(0, str(Path(__file__).parent))
try:
    import ingesting_service as service  # type: ignore[import-not-found]
finally:
    sys.path.pop(0)

SERVICE = Path(__file__).with_name("ingesting_service.py")
KEYS = [SeriesKey(f"S{number}", Timeframe.M1, "KRX") for number in range(50)]
BARS = list(make_candles(KEYS[0], 20))
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
MINUTES = 15
"""Flushed before the service is killed."""


@pytest.fixture
def settings(fresh_settings: StorageSettings) -> StorageSettings:
    """Of stores that no engine of this process holds: other processes open them, and others."""
    return fresh_settings


async def test_minutes_of_many_symbols_are_stored_together(storage: Storage) -> None:
    async with storage.ingest(every=60, rows=10 * len(KEYS), limit=20 * len(KEYS)) as ingest:
        for bar in BARS:
            for key in KEYS:
                await ingest.add(key, bar)
        await ingest.flush()
        assert (ingest.stored, ingest.pending) == (len(BARS) * len(KEYS), 0)
        assert 2 <= ingest.commits <= 3
    panel = await storage.candles.get_panel(Timeframe.M1, *ALWAYS)
    assert list(panel) == sorted(KEYS, key=lambda key: key.sort_key)
    assert all(list(series) == BARS for series in panel.values())


def killed_after_flushes(settings: StorageSettings, seconds_later: float) -> int:
    """How many minutes the service has flushed when it is killed."""
    assert settings.mongo_url is not None
    arguments = [settings.data_dir, settings.mongo_url.get_secret_value(), settings.mongo_database]
    command = [str(SERVICE), *map(str, arguments)]
    with forked.Process(command, stdout=forked.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= MINUTES:
                break
        time.sleep(seconds_later)
        process.kill()
        return int([line, *process.stdout][-1])


@pytest.mark.parametrize("seconds_later", [0.0, 0.02])
async def test_what_a_flush_acknowledged_outlives_a_killed_process(
    settings: StorageSettings, seconds_later: float
) -> None:
    flushed = killed_after_flushes(settings, seconds_later)
    assert flushed >= MINUTES
    async with Storage(StoreBackend(settings)) as storage:
        found = await storage.candles.get_panel(Timeframe.M1, *ALWAYS)
    assert sorted(found, key=lambda key: int(key.symbol[1:])) == service.KEYS
    for key, series in found.items():
        stored = list(series)
        assert len(stored) >= flushed, key
        # Of what came later there may be some, in the order in which it came.
        assert stored == service.BARS[: len(stored)], key


@pytest.mark.slow
async def test_a_mongod_that_is_cut_off_holds_candles_up_and_loses_none(
    mongod: LocalMongod, tmp_path: Path
) -> None:
    with FaultProxy("127.0.0.1", mongod.port) as proxy:
        settings = StorageSettings(
            data_dir=tmp_path,
            mongo_url=SecretStr(
                f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
                "&serverSelectionTimeoutMS=500&connectTimeoutMS=500&socketTimeoutMS=500"
            ),
            mongo_database=f"ingest{ObjectId()}",
            migrate=True,
        )
        async with (
            Storage(StoreBackend(settings)) as storage,
            storage.ingest(every=0.05, rows=5, limit=10) as ingest,
        ):
            for fault in (proxy.faults.refuse, proxy.faults.hang):
                await ingest.flush()
                stored = ingest.stored
                fault()
                await ingest.add(KEYS[0], BARS[stored])
                with pytest.raises(StorageError, match="not stored yet"):
                    async with asyncio.timeout(60):
                        await ingest.flush()
                assert ingest.pending == 1
                assert ingest.oldest is not None
                proxy.faults.clear()
                async with asyncio.timeout(60):
                    while ingest.pending:  # noqa: ASYNC110 - it is tried again without being asked
                        await asyncio.sleep(0.02)
            found = await storage.candles.get_range(KEYS[0], START, ALWAYS[1])
            assert list(found) == BARS[:2]
