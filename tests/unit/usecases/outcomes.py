"""What an import comes to, for tests that compare it in blocks of several sizes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine

ALWAYS = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 1, 1, tzinfo=UTC)
SECOND = 1_704_153_600  # 2 January 2024
WHOLE = 1_000


async def outcome(
    path: Path, block_rows: int = WHOLE, timeframe: Timeframe = Timeframe.M1, **more: Any
) -> dict[str, Any]:
    """What an import of blocks of that size has stored, set aside and refused."""
    options = ImportOptions(create=Market.KOSPI, block_rows=block_rows, **more)
    async with Storage.in_memory() as storage:
        refused = None
        try:
            await ImportCandles(storage).run(path, timeframe, symbol="A", options=options)
        except InvalidData as exc:
            refused = str(exc)
        candles = await storage.candles.get_range(SeriesKey("A", timeframe), *ALWAYS)
        return {
            "refused": refused,
            "stored": [(c.timestamp, str(c.close.normalize()), c.volume) for c in candles],
            "aside": [(row.line, row.reasons) for row in await Quarantine(storage).review()],
        }


async def quarantined(path: Path, **more: Any) -> dict[str, Any]:
    """The outcome with a quarantine, after a look that blocks of all sizes come to the same."""
    whole = await outcome(path, on_error="quarantine", **more)
    for size in (1, 2):
        assert await outcome(path, size, on_error="quarantine", **more) == whole
    return whole
