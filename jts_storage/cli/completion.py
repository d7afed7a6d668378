"""What the shell completes that only the stores know."""

from __future__ import annotations

import asyncio

from jts_storage.errors import StorageError


def keys(incomplete: str) -> list[str]:
    """Keys of stored series, asked of ClickHouse alone; none if it does not answer."""
    try:
        return [text for text in map(str, asyncio.run(_stored())) if text.startswith(incomplete)]
    except (StorageError, OSError):
        return []


async def _stored() -> list[object]:
    from jts_storage.cli.served import is_elsewhere
    from jts_storage.clickhouse.candle_reader import ClickHouseCandleReader
    from jts_storage.clickhouse.manager import ClickHouseManager
    from jts_storage.settings import StorageSettings
    from jts_storage.storage import Storage

    settings = StorageSettings.load()
    if is_elsewhere(settings):
        async with Storage.open(settings) as storage:
            return list(await storage.candles.list_keys(limit=100_000))
    with ClickHouseManager(settings.clickhouse()) as manager:
        return list(await ClickHouseCandleReader(manager).list_keys(limit=100_000))
