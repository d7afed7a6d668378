"""What a `CandleRepository` refuses."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.ports.candles import CandleRepository
from jts_storage.testing.contracts.samples import FOREVER, KEY, minute
from jts_storage.testing.factories import make_candles


@pytest.mark.asyncio
class CandleRefusals:
    """A part of `CandleRepositoryContract`."""

    async def test_a_stream_of_no_rows_a_block_is_refused(
        self, candle_repository: CandleRepository
    ) -> None:
        with pytest.raises(InvalidData, match="block_rows"):
            async for _ in candle_repository.stream(KEY, *FOREVER, block_rows=0):
                pass

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (minute(5), minute(4)),
            (datetime(2024, 1, 2), minute(4)),  # noqa: DTZ001 - what must be refused
            (minute(4), datetime(2024, 1, 3)),  # noqa: DTZ001
        ],
    )
    async def test_impossible_ranges_are_refused(
        self, candle_repository: CandleRepository, start: datetime, end: datetime
    ) -> None:
        with pytest.raises(InvalidData):
            await candle_repository.get_range(KEY, start, end)
        with pytest.raises(InvalidData):
            await candle_repository.delete_range(KEY, start, end)

    async def test_what_is_no_key_no_zone_and_no_limit_is_refused(
        self, candle_repository: CandleRepository
    ) -> None:
        repository: Any = candle_repository
        for refused in (
            repository.get_range("A", *FOREVER),
            repository.get_ranges(KEY, *FOREVER),
            repository.get_latest("A"),
            repository.count("A"),
            repository.resample("A", Timeframe.H1, *FOREVER),
            repository.list_keys(limit=-1),
            repository.coverage_by_day(KEY, timezone=None),
        ):
            with pytest.raises(InvalidData):
                await refused
        for given in (make_candles(KEY, 1), list(make_candles(KEY, 1))):
            with pytest.raises(InvalidData, match="must be a SeriesKey"):
                await repository.save_many("A", given)
        await repository.save_many(KEY, make_candles(KEY, 1))
        seoul = ZoneInfo("Asia/Seoul")
        by_name = await repository.coverage_by_day(KEY, timezone="Asia/Seoul")
        assert await repository.coverage_by_day(KEY, timezone=seoul) == by_name

    async def test_a_batch_with_one_bad_row_is_refused_as_a_whole(
        self, candle_repository: CandleRepository
    ) -> None:
        columns = {
            name: column.copy() for name, column in make_candles(KEY, 5).to_columns().items()
        }
        columns["high"][3] = 0
        with pytest.raises(InvalidData, match="row 3") as caught:
            await candle_repository.save_many(KEY, columns)
        assert (caught.value.row, caught.value.field) == (3, "high")
        assert await candle_repository.count(KEY) == 0

    async def test_a_series_of_another_key_is_refused(
        self, candle_repository: CandleRepository
    ) -> None:
        with pytest.raises(InvalidData):
            await candle_repository.save_many(SeriesKey("A", Timeframe.M1), make_candles(KEY, 1))
