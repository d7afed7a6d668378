"""Panels of rows that are not merged yet, and answers that a write overtakes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.held_answers import NumberOfCandles
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import SAMPLE_KEY as KEY
from jts_storage.testing.factories import START, make_candles
from tests.runs import some_by_day

# What the statements mean is the same whatever the way to the engine.
pytestmark = pytest.mark.parametrize(
    "bare_manager", some_by_day(["embedded", "tcp"], 2), indirect=True
)

M1, D1 = Timeframe.M1, Timeframe.D1
MINUTE = timedelta(minutes=1)


@pytest.fixture
def unmerged(manager: ClickHouseManager) -> ClickHouseCandleRepository:
    manager.execute("SYSTEM STOP MERGES candles")
    return ClickHouseCandleRepository(manager)


async def test_panels_of_rows_that_compete(unmerged: ClickHouseCandleRepository) -> None:
    series = make_candles(SeriesKey("A", M1), 10)
    again = make_candles(series.key, 10, seed=9)[4:6]
    await unmerged.save_many(series.key, series)
    await unmerged.save_many(series.key, again)
    expected = CandlePanel(M1, [series.merge(again)])
    assert await unmerged.get_panel(M1, *FOREVER) == expected
    for count in (1, 5, 20):
        assert await unmerged.get_latest_panel(M1, count) == expected.tail(count)
    assert await unmerged.resample_panel(M1, D1, *FOREVER) == expected.resample(D1)


@pytest.mark.parametrize("versions", [(300, 200), (200, 300)])
async def test_the_first_of_the_last_rows_competes_with_one_behind_it(
    unmerged: ClickHouseCandleRepository, versions: tuple[int, int]
) -> None:
    keys = [SeriesKey(name, M1) for name in "ABCD"]
    for seed, version in enumerate(versions):
        for key in keys:
            unmerged.write(make_candles(key, 5, seed=seed), version)
    newest = versions.index(max(versions))
    expected = CandlePanel(M1, [make_candles(key, 5, seed=newest) for key in keys])
    for count in range(1, 6):
        assert await unmerged.get_latest_panel(M1, count) == expected.tail(count)


async def test_last_minutes_are_found_by_their_times(
    unmerged: ClickHouseCandleRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey(name, M1), 9) for name in "ABC"])
    await unmerged.save_panel(panel)
    read: list[int] = []

    def rows_read(manager: ClickHouseManager, *given: Any, **more: Any) -> Any:
        found = read_columns(manager, *given, **more)
        read.append(len(found["ms"]))
        return found

    read_columns = ClickHouseManager.read_columns
    monkeypatch.setattr(ClickHouseManager, "read_columns", rows_read)
    assert await unmerged.get_latest_panel(M1) == panel.tail(1)
    last = START + 8 * MINUTE
    await unmerged.delete_range(SeriesKey("B", M1), last, last)
    expected = CandlePanel(
        M1, [each[: 8 if key.symbol == "B" else 9] for key, each in panel.items()]
    )
    assert await unmerged.get_latest_panel(M1) == expected.tail(1)
    assert read == [3, 4, 6, 3], "then one that is deleted competes, and the engine decides"


async def test_last_minutes_that_go_while_they_are_looked_for(
    candles: ClickHouseCandleRepository,
    manager: ClickHouseManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    panel = CandlePanel(M1, [make_candles(SeriesKey(name, M1), 9) for name in "AB"])
    await candles.save_panel(panel)
    execute = manager.execute

    def then_gone(query: str, *given: Any, **more: Any) -> Any:
        found = execute(query, *given, **more)
        if "max(" in query:
            monkeypatch.undo()
            execute("DELETE FROM candles WHERE symbol = 'B' AND timestamp >= '2024-01-02 00:05:00'")
        return found

    monkeypatch.setattr(manager, "execute", then_gone)
    b = list(panel.values())[1][:5]
    expected = CandlePanel(M1, [panel[SeriesKey("A", M1)].tail(1), b.tail(1)])
    assert await candles.get_latest_panel(M1) == expected


async def test_panels_of_deleted_rows_alone(unmerged: ClickHouseCandleRepository) -> None:
    """As after a merge, which leaves the row that says deleted and none that competes with it."""
    series = make_candles(SeriesKey("A", M1), 10)
    await unmerged.save_many(series.key, series)
    await unmerged.delete_range(series.key, START + 8 * MINUTE, START + 9 * MINUTE)
    manager = unmerged._manager
    manager.execute("SYSTEM START MERGES candles")
    manager.execute("OPTIMIZE TABLE candles FINAL")
    expected = CandlePanel(M1, [series[:8]])
    assert manager.execute("SELECT count() FROM candles") == [(10,)]
    assert await unmerged.get_panel(M1, *FOREVER) == expected
    for count in (1, 2, 3, 20):
        assert await unmerged.get_latest_panel(M1, count) == expected.tail(count)
    for target in (Timeframe.M5, D1):
        assert await unmerged.resample_panel(M1, target, *FOREVER) == expected.resample(target)


async def test_a_panel_of_the_past_of_which_no_row_is_left(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager
) -> None:
    """As where somebody has cleaned up what was deleted: what is former is kept all the same."""
    series = make_candles(SeriesKey("GONE", M1), 5)
    candles.write(series, 10)
    candles.erase(series.key, FIRST_MS, LAST_MS, 20)
    manager.execute("TRUNCATE TABLE candles")
    was = candles.as_of(15)
    assert await was.get_panel(M1, *FOREVER) == CandlePanel(M1, [series])
    assert await was.get_panel(D1, *FOREVER) == CandlePanel(D1)


async def test_a_stream_of_a_long_series_reads_the_fields_that_are_asked_for(
    unmerged: ClickHouseCandleRepository,
    manager: ClickHouseManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    series = make_candles(SeriesKey("A", M1, "KRX"), 100)
    again = make_candles(series.key, 100, seed=9)[10:90]
    for each in (series, again, make_candles(SeriesKey("B", M1, "KRX"), 30)):
        await unmerged.save_many(each.key, each)
    await unmerged.delete_range(series.key, START, START + 4 * MINUTE)
    read, columns = manager.read_columns, set[str]()

    def spied(*given: Any, **more: Any) -> Any:
        found = read(*given, **more)
        columns.update(found)
        return found

    monkeypatch.setattr(manager, "read_columns", spied)
    ends = START, START + 79 * MINUTE
    blocks = [
        block async for block in unmerged.stream_panels(M1, *ends, fields=["close"], block_rows=40)
    ]
    whole = series.merge(again)[5:80].columns
    assert [(*block, block.rows) for block in blocks] == [
        (series.key, 40),
        (series.key, 35),
        (SeriesKey("B", M1, "KRX"), 30),
    ]
    for name, expected in (("close", whole.close), ("timestamp", whole.timestamp)):
        given_ = np.concatenate([block.column(name) for block in blocks[:2]])
        assert given_.tolist() == expected.tolist()
    assert columns & {"open_", "high_", "low_", "volume"} == set()


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Seoul"])
@pytest.mark.parametrize("target", [Timeframe.M5, Timeframe.H1, D1, Timeframe.W1, Timeframe.MN1])
async def test_what_lies_before_1970_is_resampled_there_as_here(
    unmerged: ClickHouseCandleRepository, target: Timeframe, timezone: str
) -> None:
    start = datetime(1969, 12, 28, 20, 3, tzinfo=UTC)
    series = make_candles(SeriesKey("A", M1), 6_000, start=start)
    await unmerged.save_many(series.key, series)
    expected = series.resample(target, timezone=timezone)
    assert await unmerged.resample(series.key, target, *FOREVER, timezone=timezone) == expected
    panel = await unmerged.resample_panel(M1, target, *FOREVER, timezone=timezone)
    assert panel == CandlePanel(target, [expected])


async def test_an_answer_that_a_write_overtook_is_not_held(manager: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(manager, max_age=60)
    await candles.save_many(KEY, make_candles(KEY, 100))
    late = make_candles(KEY, 1, start=START + 200 * MINUTE)
    cache, version = candles._cache, candles.latest_version() + 1

    def ask() -> int:
        candles.write(late, version)
        return 100

    before, everything = NumberOfCandles(0, 1), NumberOfCandles(FIRST_MS, LAST_MS)
    cache.answer(before, KEY, lambda: 1)
    assert cache.answered(before, KEY) == 1, "answers are held"
    assert cache.answer(everything, KEY, ask) == 100
    assert cache.answered(everything, KEY) is None


async def test_a_write_of_many_rows_ends_all_that_they_touch(manager: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(manager, max_age=60)
    await candles.save_many(KEY, make_candles(KEY, 100))
    middle = (START + 50 * MINUTE, START + 60 * MINUTE)
    await candles.get_range(KEY, *middle)
    new = make_candles(KEY, 100, seed=9)
    await candles.save_many(KEY, new)
    assert await candles.get_range(KEY, *middle) == new[50:61]


async def test_what_is_of_no_symbol_of_a_market_is_left_out(
    candles: ClickHouseCandleRepository,
) -> None:
    series = [make_candles(SeriesKey(name, D1), 3) for name in ("A", "B", "C")]
    await candles.save_panel(CandlePanel(D1, series))
    ends = PanelQuery.of(D1, *FOREVER, None, None)
    asked = replace(ends, symbols=frozenset(("A", "C", "X")))
    assert await candles.read_panel(asked) == CandlePanel(D1, [series[0], series[2]])
    assert list(await candles.panel_sizes(asked)) == [series[0].key, series[2].key]
    weeks = await candles.read_resampled(asked, Timeframe.W1, "UTC")
    assert [key.symbol for key in weeks] == ["A", "C"]
    none = replace(ends, symbols=frozenset())
    assert await candles.read_panel(none) == CandlePanel.empty(D1)
