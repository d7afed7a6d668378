"""What is appended changes held answers without a question, and they stay what the table says."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from jts_storage.clickhouse import tables
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.stored_ends import StoredEnds
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.results import Coverage
from jts_storage.domain.series import CandleSeries
from jts_storage.testing.factories import START, make_candles
from tests.runs import some_by_day

KEY, OTHER = SeriesKey("A", Timeframe.M1), SeriesKey("B", Timeframe.M1)
MINUTE = timedelta(minutes=1)
SERIES = make_candles(KEY, 1_000)
LAST_OF_RANGE = START + 109 * MINUTE

_LATER_CLOSE = (
    "INSERT INTO candles SELECT * REPLACE (toUInt64(volume + 1) AS volume, version + 1 AS version)"
    " FROM candles FINAL ORDER BY timestamp DESC LIMIT 1"
)


@pytest.fixture
def manager() -> Iterator[ClickHouseManager]:
    with ClickHouseManager(embedded_path=":memory:", database="appended") as manager:
        manager.execute("DROP TABLE IF EXISTS candles SYNC")
        manager.execute("DROP TABLE IF EXISTS candles_history SYNC")
        tables.build().metadata.create_all(manager.engine)
        yield manager


@pytest.fixture
async def candles(manager: ClickHouseManager) -> ClickHouseCandleRepository:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES[:100])
    return candles


@pytest.fixture
def asked(manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that read."""
    asked: list[str] = []
    read = manager.read_columns

    def noted(query: str, *given: Any, **more: Any) -> Any:
        asked.append(query)
        return read(query, *given, **more)

    monkeypatch.setattr(manager, "read_columns", noted)
    return asked


async def answers(candles: ClickHouseCandleRepository, key: SeriesKey = KEY) -> list[Any]:
    return [
        await candles.get_latest(key),
        await candles.get_latest(key, 7),
        await candles.get_coverage(key),
        await candles.count(key),
        await candles.count(key, START, LAST_OF_RANGE),
    ]


def expected(series: CandleSeries) -> list[Any]:
    within = [each for each in series if each.timestamp <= LAST_OF_RANGE]
    return [
        series.tail(1),
        series.tail(7),
        Coverage(series.start, series.end),
        len(series),
        len(within),
    ]


@pytest.mark.parametrize("rows", [1, 3, 50])
async def test_an_append_is_answered_without_a_question(
    candles: ClickHouseCandleRepository, asked: list[str], rows: int
) -> None:
    assert await answers(candles) == expected(SERIES[:100])
    asked.clear()
    for end in range(100 + rows, 100 + 4 * rows, rows):
        await candles.save_many(KEY, SERIES[end - rows : end])
        assert await answers(candles) == expected(SERIES[:end])
    assert asked == []


async def test_the_first_candles_of_a_series_are_appended_too(
    candles: ClickHouseCandleRepository, asked: list[str]
) -> None:
    nothing = CandleSeries.empty(OTHER)
    assert await answers(candles, OTHER) == expected(nothing)
    asked.clear()
    first = make_candles(OTHER, 3)
    await candles.save_many(OTHER, first)
    assert await answers(candles, OTHER) == expected(first)
    assert asked == []


async def test_what_is_appended_while_the_end_of_a_series_is_asked_for_is_kept_when_replaced(
    candles: ClickHouseCandleRepository,
    manager: ClickHouseManager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask, appended = StoredEnds._ask, [SERIES[105:110]]

    def ask_and_append(self: StoredEnds, firsts: dict[SeriesKey, int]) -> dict[SeriesKey, int]:
        found = ask(self, firsts)
        if appended:
            candles.write(appended.pop(), 1)
        return found

    other = ClickHouseCandleRepository(manager)
    monkeypatch.setattr(StoredEnds, "_ask", ask_and_append)
    await other.save_many(KEY, SERIES[100:102])
    await other.save_many(KEY, make_candles(KEY, 110, seed=9)[105:110])
    assert manager.execute("SELECT count() FROM candles_history") == [(5,)]


async def test_answers_that_nobody_wants_are_not_carried_on(
    candles: ClickHouseCandleRepository, asked: list[str]
) -> None:
    await answers(candles)
    await candles.save_many(KEY, SERIES[100:101])
    await candles.save_many(KEY, SERIES[101:102])
    asked.clear()
    assert await answers(candles) == expected(SERIES[:102])
    assert asked


async def test_an_append_that_fails_leaves_no_answer(
    candles: ClickHouseCandleRepository, monkeypatch: pytest.MonkeyPatch, manager: ClickHouseManager
) -> None:
    await answers(candles)
    insert = manager.insert_columns

    def lost(*given: Any, **more: Any) -> Any:
        insert(*given, **more)
        raise RuntimeError("the answer is lost")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(manager, "insert_columns", lost)
        await candles.save_many(KEY, SERIES[100:101])
    assert await answers(candles) == expected(SERIES[:101])


async def test_what_another_statement_does_meanwhile_is_seen(
    candles: ClickHouseCandleRepository, monkeypatch: pytest.MonkeyPatch, manager: ClickHouseManager
) -> None:
    await answers(candles)
    insert = manager.insert_columns

    def beside_another(*given: Any, **more: Any) -> Any:
        insert(*given, **more)
        monkeypatch.undo()
        with ThreadPoolExecutor() as threads:
            threads.submit(manager.execute, _LATER_CLOSE).result()

    monkeypatch.setattr(manager, "insert_columns", beside_another)
    await candles.save_many(KEY, SERIES[100:101])
    (latest,) = await candles.get_latest(KEY)
    assert latest.volume == SERIES[100].volume + 1


async def test_what_another_write_of_ours_does_meanwhile_is_seen(
    candles: ClickHouseCandleRepository, monkeypatch: pytest.MonkeyPatch, manager: ClickHouseManager
) -> None:
    """It says which candles it touches, so that the log goes on telling of all others."""
    await answers(candles)
    insert, later = manager.insert_columns, make_candles(KEY, 1_000, seed=9)[100:102]

    def beside_another(*given: Any, **more: Any) -> Any:
        insert(*given, **more)
        monkeypatch.undo()
        with ThreadPoolExecutor() as threads:
            version = candles.latest_version() + 1
            threads.submit(ClickHouseCandleRepository(manager).write, later, version).result()

    monkeypatch.setattr(manager, "insert_columns", beside_another)
    await candles.save_many(KEY, SERIES[100:101])
    assert await answers(candles) == expected(SERIES[:100].merge(later))


@pytest.mark.parametrize("seed", some_by_day(range(5), 3))
async def test_answers_are_those_of_the_table_whatever_was_written(
    candles: ClickHouseCandleRepository, manager: ClickHouseManager, seed: int
) -> None:
    rng = random.Random(seed)
    unheld = ClickHouseCandleRepository(manager, cache_bytes=0)
    end = 100
    for _ in range(25):
        match rng.randrange(6):
            case 0 | 1 | 2:
                rows = rng.randint(1, 20)
                await candles.save_many(KEY, SERIES[end : end + rows])
                end += rows
            case 3:
                first = rng.randrange(end)
                await candles.save_many(KEY, SERIES[first : first + rng.randint(1, 30)])
                end = max(end, min(first + 30, end))
            case 4:
                start = START + rng.randrange(end + 5) * MINUTE
                await candles.delete_range(KEY, start, start + rng.randint(0, 30) * MINUTE)
            case 5:
                await candles.save_many(OTHER, make_candles(OTHER, rng.randint(1, 5)))
        if rng.random() < 0.7:
            assert await answers(candles) == await answers(unheld)
