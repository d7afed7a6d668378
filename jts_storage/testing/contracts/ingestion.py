"""The contracts of the bookkeeping of ingestion."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jts_storage.domain.bookkeeping import SymbolBars
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.results import SaveResult
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import Conflict, InvalidData
from jts_storage.ports.ingestion import (
    CheckpointRepository,
    OHLCVRepository,
    SymbolBarsRepository,
)
from jts_storage.testing.contracts.samples import flat
from jts_storage.testing.factories import START, make_candles

DAY = date(2024, 1, 2)
KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")
FOREVER = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC))


@pytest.mark.asyncio
class SymbolBarsRepositoryContract:
    """Give it a fixture `symbol_bars_repository` of an empty store."""

    async def test_a_new_aggregate_is_stored_as_version_1(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        new = SymbolBars("005930", DAY).start_collection().add_bars(380)
        saved = await symbol_bars_repository.save(new)
        assert saved.version == 1
        assert saved.created_at == saved.updated_at is not None
        assert replace(saved, version=0, created_at=None, updated_at=None) == new
        assert await symbol_bars_repository.get("005930", DAY) == saved

    async def test_an_unknown_one_is_none(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        await symbol_bars_repository.save(SymbolBars("A", DAY))
        assert await symbol_bars_repository.get("A", DAY + timedelta(days=1)) is None
        assert await symbol_bars_repository.get("' OR 1=1 --", DAY) is None

    async def test_a_new_state_counts_the_version_up(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        first = await symbol_bars_repository.save(SymbolBars("A", DAY).start_collection())
        second = await symbol_bars_repository.save(first.add_bars(5).complete())
        assert (second.version, second.created_at) == (2, first.created_at)
        assert second.is_complete
        assert await symbol_bars_repository.get("A", DAY) == second

    async def test_a_stale_version_is_a_conflict(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        first = await symbol_bars_repository.save(SymbolBars("A", DAY))
        second = await symbol_bars_repository.save(first.start_collection())
        for stale in (SymbolBars("A", DAY), first, replace(first, version=9)):
            with pytest.raises(Conflict):
                await symbol_bars_repository.save(stale)
        with pytest.raises(Conflict):
            await symbol_bars_repository.save(SymbolBars("B", DAY, version=1))
        assert await symbol_bars_repository.get("A", DAY) == second

    async def test_one_made_anew_under_the_same_version_is_another(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        first = await symbol_bars_repository.save(SymbolBars("A", DAY))
        await symbol_bars_repository.delete("A", DAY)
        await asyncio.sleep(0.005)  # it was made at another moment, of which milliseconds are kept
        anew = await symbol_bars_repository.save(SymbolBars("A", DAY))
        assert anew.version == first.version
        with pytest.raises(Conflict):
            await symbol_bars_repository.save(first.start_collection())
        assert await symbol_bars_repository.get("A", DAY) == anew

    async def test_of_concurrent_saves_one_wins(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        first = await symbol_bars_repository.save(SymbolBars("A", DAY))
        outcomes = await asyncio.gather(
            *(symbol_bars_repository.save(first) for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(outcome, SymbolBars) for outcome in outcomes) == 1
        assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7

    async def test_lists_come_in_pages_by_day(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        days = [DAY + timedelta(days=n) for n in range(4)]
        for day in reversed(days):
            await symbol_bars_repository.save(SymbolBars("A", day))
        await symbol_bars_repository.save(SymbolBars("B", DAY))
        assert [b.trading_day for b in await symbol_bars_repository.list("A")] == days
        page = await symbol_bars_repository.list("A", limit=2, after=days[0])
        assert [b.trading_day for b in page] == days[1:3]
        assert list(await symbol_bars_repository.list("C")) == []

    async def test_delete_tells_whether_there_was_one(
        self, symbol_bars_repository: SymbolBarsRepository
    ) -> None:
        await symbol_bars_repository.save(SymbolBars("A", DAY))
        assert await symbol_bars_repository.delete("A", DAY) is True
        assert await symbol_bars_repository.delete("A", DAY) is False
        assert await symbol_bars_repository.get("A", DAY) is None


@pytest.mark.asyncio
class CheckpointRepositoryContract:
    """Give it a fixture `checkpoint_repository` of an empty store."""

    async def test_every_json_value_comes_back(
        self, checkpoint_repository: CheckpointRepository
    ) -> None:
        data = {
            "text": "삼성 '\"\\ %s",
            "int": 2**53 + 1,
            "float": 0.1,
            "none": None,
            "flags": [True, False],
            "deep": {"a": [{"b": []}]},
        }
        saved = await checkpoint_repository.save("x", data)
        assert saved.data == data
        assert await checkpoint_repository.get("x") == saved
        assert await checkpoint_repository.get("y") is None

    async def test_the_later_write_wins(self, checkpoint_repository: CheckpointRepository) -> None:
        await checkpoint_repository.save("x", {"a": 1, "b": 1})
        await checkpoint_repository.save("x", {"a": 2})
        found = await checkpoint_repository.get("x")
        assert found is not None
        assert found.data == {"a": 2}

    @pytest.mark.parametrize(
        "data", [{"a": float("nan")}, {"a": {1, 2}}, {"a": Decimal(1)}, {1: "a"}, ["list"]]
    )
    async def test_what_json_cannot_hold_is_refused(
        self, checkpoint_repository: CheckpointRepository, data: Any
    ) -> None:
        with pytest.raises(InvalidData):
            await checkpoint_repository.save("x", data)
        assert await checkpoint_repository.get("x") is None

    async def test_stored_objects_are_not_the_callers(
        self, checkpoint_repository: CheckpointRepository
    ) -> None:
        data: dict[str, Any] = {"list": [1]}
        saved = await checkpoint_repository.save("x", data)
        data["list"].append(2)
        saved.data["list"].append(3)
        found = await checkpoint_repository.get("x")
        assert found is not None
        assert found.data == {"list": [1]}

    async def test_update_gets_the_old_value_and_loses_none(
        self, checkpoint_repository: CheckpointRepository
    ) -> None:
        def add_one(old: Mapping[str, Any] | None) -> Mapping[str, Any]:
            return {"n": 1 if old is None else old["n"] + 1}

        assert (await checkpoint_repository.update("x", add_one)).data == {"n": 1}
        await asyncio.gather(*(checkpoint_repository.update("x", add_one) for _ in range(20)))
        found = await checkpoint_repository.get("x")
        assert found is not None
        assert found.data == {"n": 21}

    async def test_an_update_that_fails_changes_nothing(
        self, checkpoint_repository: CheckpointRepository
    ) -> None:
        await checkpoint_repository.save("x", {"n": 1})

        def fail(old: Mapping[str, Any] | None) -> Mapping[str, Any]:
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            await checkpoint_repository.update("x", fail)
        found = await checkpoint_repository.get("x")
        assert found is not None
        assert found.data == {"n": 1}

    async def test_lists_come_in_pages_by_name(
        self, checkpoint_repository: CheckpointRepository
    ) -> None:
        for name in "dacb":
            await checkpoint_repository.save(name, {})
        assert [c.name for c in await checkpoint_repository.list()] == list("abcd")
        page = await checkpoint_repository.list(limit=2, after="a")
        assert [c.name for c in page] == ["b", "c"]

    async def test_delete_tells_whether_there_was_one(
        self, checkpoint_repository: CheckpointRepository
    ) -> None:
        await checkpoint_repository.save("x", {})
        assert await checkpoint_repository.delete("x") is True
        assert await checkpoint_repository.delete("x") is False


@pytest.mark.asyncio
class OHLCVRepositoryContract:
    """Give it a fixture `ohlcv_repository` of an empty store."""

    async def test_what_was_saved_is_read(self, ohlcv_repository: OHLCVRepository) -> None:
        series = make_candles(KEY, 500)
        assert await ohlcv_repository.save_many(KEY, series) == SaveResult(500)
        assert await ohlcv_repository.get_range(KEY, *FOREVER) == series
        assert await ohlcv_repository.count(KEY) == 500

    async def test_nothing_stored_is_empty(self, ohlcv_repository: OHLCVRepository) -> None:
        assert await ohlcv_repository.save_many(KEY, []) == SaveResult(0)
        assert await ohlcv_repository.get_range(KEY, *FOREVER) == CandleSeries.empty(KEY)
        assert [block async for block in ohlcv_repository.stream(KEY, *FOREVER)] == []
        assert await ohlcv_repository.count(KEY) == 0
        assert await ohlcv_repository.delete_range(KEY, *FOREVER) == 0

    async def test_extreme_values_come_back_exactly(
        self, ohlcv_repository: OHLCVRepository
    ) -> None:
        largest = Decimal("99999999999999.9999")
        series = CandleSeries(
            KEY,
            [
                Candle(FOREVER[0], largest, largest, -largest, Decimal("0.0001"), 2**64 - 1),
                flat(FOREVER[1], "0.1", 2**63),
            ],
        )
        await ohlcv_repository.save_many(KEY, series)
        assert await ohlcv_repository.get_range(KEY, *FOREVER) == series

    async def test_a_bar_is_an_upsert(self, ohlcv_repository: OHLCVRepository) -> None:
        old, new = make_candles(KEY, 50), make_candles(KEY, 50, seed=1)
        await ohlcv_repository.save_many(KEY, old)
        await ohlcv_repository.save_many(KEY, new[20:30])
        assert await ohlcv_repository.get_range(KEY, *FOREVER) == old.merge(new[20:30])

    async def test_series_do_not_mix(self, ohlcv_repository: OHLCVRepository) -> None:
        other = SeriesKey("005930", Timeframe.M5, "KRX")
        await ohlcv_repository.save_many(KEY, make_candles(KEY, 5))
        await ohlcv_repository.save_many(other, make_candles(other, 7))
        assert await ohlcv_repository.delete_range(KEY, *FOREVER) == 5
        assert await ohlcv_repository.count(other) == 7

    async def test_both_ends_are_included(self, ohlcv_repository: OHLCVRepository) -> None:
        series = make_candles(KEY, 10)
        await ohlcv_repository.save_many(KEY, series)
        start, end = START + timedelta(minutes=2), START + timedelta(minutes=4)
        assert await ohlcv_repository.get_range(KEY, start, end) == series[2:5]
        assert await ohlcv_repository.count(KEY, start, end) == 3
        assert await ohlcv_repository.count(KEY, start=end) == 6
        assert await ohlcv_repository.delete_range(KEY, start, end) == 3
        assert await ohlcv_repository.count(KEY) == 7

    async def test_a_stream_tiles_the_range(self, ohlcv_repository: OHLCVRepository) -> None:
        series = make_candles(KEY, 1_000)
        await ohlcv_repository.save_many(KEY, series)
        blocks = [b async for b in ohlcv_repository.stream(KEY, *FOREVER, block_rows=64)]
        assert all(0 < len(block) <= 64 for block in blocks)
        assert CandleSeries(KEY, [c for block in blocks for c in block]) == series

    async def test_bad_rows_are_refused_before_anything_is_written(
        self, ohlcv_repository: OHLCVRepository
    ) -> None:
        columns = {
            name: column.copy() for name, column in make_candles(KEY, 5).to_columns().items()
        }
        columns["low"][2] = 10**17
        with pytest.raises(InvalidData, match="row 2"):
            await ohlcv_repository.save_many(KEY, columns)
        assert await ohlcv_repository.count(KEY) == 0
