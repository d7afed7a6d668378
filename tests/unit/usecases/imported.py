"""An import of minutes of one symbol, which is made with it."""

from __future__ import annotations

from typing import Any

from jts_storage import Market, Storage, Timeframe
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.results import ImportResult


async def imported(storage: Storage, source: Any, **more: Any) -> ImportResult:
    options = ImportOptions(**{"create": Market.KOSPI, **more})
    return await ImportCandles(storage).run(source, Timeframe.M1, symbol="A", options=options)
