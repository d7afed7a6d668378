"""Collects bars until it is killed: ``python ingesting_service.py FOLDER MONGO DATABASE``.

After each flush it prints how many minutes were added before, which it now counts as stored.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from pydantic import SecretStr

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.testing.factories import make_candles

KEYS = [SeriesKey(f"S{number}", Timeframe.M1, "KRX") for number in range(40)]
BARS = list(make_candles(KEYS[0], 2_000))


async def main(folder: str, mongo: str, database: str) -> None:
    settings = StorageSettings(
        data_dir=Path(folder), mongo_url=SecretStr(mongo), mongo_database=database, migrate=True
    )
    async with (
        Storage.open(settings) as storage,
        storage.ingest(every=0.01, rows=100, limit=1_000) as ingest,
    ):
        for minute, bar in enumerate(BARS, start=1):
            for key in KEYS:
                await ingest.add(key, bar)
            if not minute % 5:
                await ingest.flush()
                sys.stdout.write(f"{minute}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
