"""Reading more series at once than the engine would take by default, and telling them apart."""

from __future__ import annotations

import numpy as np
import pytest

from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_candles

D1 = Timeframe.D1
MANY = [SeriesKey(f"SYMBOL {number:020}", D1, "EXCHANGE") for number in range(12_000)]
"""Half a megabyte of SQL, of which ClickHouse takes a quarter by default."""


async def test_thousands_of_series_are_read_by_one_statement(
    candles: ClickHouseCandleRepository,
) -> None:
    stored = [make_candles(MANY[number], 3, seed=number) for number in (0, 5_000, 11_999)]
    await candles.save_panel(CandlePanel(D1, stored))
    panel = CandlePanel(D1, stored)
    assert await candles.get_panel(D1, *FOREVER, keys=MANY) == panel
    assert await candles.get_latest_panel(D1, keys=MANY) == panel.tail(1)
    weeks = await candles.resample_panel(D1, Timeframe.W1, *FOREVER, keys=MANY)
    assert weeks == panel.resample(Timeframe.W1)
    found = await candles.get_ranges(MANY, *FOREVER)
    assert list(found) == MANY
    assert CandlePanel(D1, found.values()) == panel
    symbols = frozenset(key.symbol for key in MANY)
    asked = PanelQuery.of(D1, *FOREVER, None, None)
    of_market = PanelQuery(D1, asked.first, asked.last, None, None, symbols=symbols)
    assert await candles.read_panel(of_market) == panel
    assert list(await candles.panel_sizes(of_market)) == list(panel)


async def test_series_of_several_timeframes_come_in_the_order_asked_for(
    candles: ClickHouseCandleRepository,
) -> None:
    keys = [SeriesKey(f"S{n}", timeframe) for n in range(5) for timeframe in (Timeframe.M1, D1)]
    series = {key: make_candles(key, 3, seed=n) for n, key in enumerate(keys[1:])}
    for each in series.values():
        await candles.save_many(each.key, each)
    found = await candles.get_ranges(reversed(keys), *FOREVER)
    assert list(found) == keys[::-1]
    assert len(found.pop(keys[0])) == 0
    assert found == series
    memory = [each.columns.close for each in found.values()]
    assert not any(np.shares_memory(memory[0], other) for other in memory[1:])


@pytest.mark.parametrize(("one", "other"), [(("A", "B"), ("A", "C")), (("A", "B"), ("C", "B"))])
async def test_neighbours_of_one_symbol_or_one_exchange_are_two_series(
    candles: ClickHouseCandleRepository, one: tuple[str, str], other: tuple[str, str]
) -> None:
    keys = [SeriesKey(symbol, D1, exchange) for symbol, exchange in (one, other)]
    panel = CandlePanel(D1, [make_candles(key, 2) for key in keys])
    await candles.save_panel(panel)
    assert await candles.get_panel(D1, *FOREVER) == panel
