"""Commits of candles, and candles that differ from others in their volume."""

from __future__ import annotations

import numpy as np

from jts_storage import Storage
from jts_storage.domain.moments import Commit
from jts_storage.domain.series import CandleSeries


def with_volume(series: CandleSeries, volume: int) -> CandleSeries:
    volumes = np.full(len(series), volume, np.uint64)
    return CandleSeries.trusted(series.key, series.columns._replace(volume=volumes))


async def save(storage: Storage, series: CandleSeries) -> Commit:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(series.key, series)
        result = await uow.commit()
    assert result.commit is not None
    return result.commit
