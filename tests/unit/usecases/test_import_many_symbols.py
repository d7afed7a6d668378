"""Imports of files that hold many symbols ask and write for all of them at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from jts_storage import Market, SeriesKey, Storage, Symbol, Timeframe
from jts_storage.errors import NotFound
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions

ROWS = 4
ALWAYS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))


def key(number: int) -> SeriesKey:
    return SeriesKey(f"S{number:04}", Timeframe.M1, "KRX")


def market(count: int, rows: int = ROWS) -> tuple[dict[SeriesKey, Any], pa.Table]:
    """Series, and their rows in one table, minute by minute."""
    many = {key(n): make_candles(key(n), rows, seed=n) for n in range(count)}
    tables = [
        series.to_arrow().append_column("symbol", pa.array([each.symbol] * rows))
        for each, series in many.items()
    ]
    return many, pa.concat_tables(tables).sort_by("timestamp")


async def save(storage: Storage, *series: Any) -> None:
    async with storage.unit_of_work() as uow:
        for each in series:
            await uow.candles.save_many(each.key, each)
        await uow.commit()


async def test_each_row_is_stored_under_its_symbol_whatever_the_order_of_rows() -> None:
    many, table = market(1_100)
    async with Storage.in_memory() as storage:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save_many(
                Symbol(each.symbol, "Known", Market.KOSPI) for each in list(many)[:1_050]
            )
            await uow.commit()
        options = ImportOptions(create=Market.KOSDAQ, block_rows=3_000)
        result = await ImportCandles(storage).run(
            table, Timeframe.M1, exchange="KRX", options=options
        )
        assert result.created_symbols == tuple(each.symbol for each in list(many)[1_050:])
        assert result.inserted == 1_100 * ROWS
        for each, series in many.items():
            assert await storage.candles.get_range(each, *ALWAYS) == series
        known = await storage.symbols.get_by_code(key(1_049).symbol)
        assert known is not None
        assert known.name == "Known"


async def test_an_unknown_symbol_among_many_is_refused_before_a_row_is_stored() -> None:
    many, table = market(40)
    async with Storage.in_memory() as storage:
        async with storage.unit_of_work() as uow:
            codes = [each.symbol for each in many if each != key(33)]
            await uow.symbols.save_many(Symbol(code, code, Market.KOSPI) for code in codes)
            await uow.commit()
        with pytest.raises(NotFound, match=key(33).symbol):
            await ImportCandles(storage).run(table, Timeframe.M1, exchange="KRX")
        assert list(await storage.candles.list_keys()) == []


@pytest.mark.parametrize("mode", ["full", "incremental"])
async def test_what_is_stored_of_some_of_many_is_counted_as_it_is(mode: Any) -> None:
    many, table = market(1_100)
    partly, wholly, apart = many[key(7)], many[key(1_099)], many[key(5)]
    later = make_candles(apart.key, 2, start=ALWAYS[0] + timedelta(days=20_000))
    async with Storage.in_memory() as storage:
        await save(storage, *(series[:1] for series in list(many.values())[:1_060]))
        await save(storage, partly[1:3], wholly, later)
        options = ImportOptions(create=Market.KOSPI, mode=mode)
        result = await ImportCandles(storage).run(
            table, Timeframe.M1, exchange="KRX", options=options
        )
        stored_before = 1_060 + 2 + ROWS
        assert result.inserted == 1_100 * ROWS - stored_before
        is_skipped = mode == "incremental"
        assert result.skipped == stored_before * is_skipped
        assert result.unchanged == stored_before * (not is_skipped)
        for each, series in many.items():
            assert (await storage.candles.get_range(each, *ALWAYS))[:ROWS] == series
