"""Short answers are held as ranges are, and what a server said is believed for as long as asked."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.results import Coverage
from jts_storage.domain.series import CandleSeries
from jts_storage.testing.factories import SAMPLE_KEY as KEY
from jts_storage.testing.factories import START, make_candles
from tests.runs import every_value_by_day

MINUTE = timedelta(minutes=1)
OTHER = SeriesKey("other", Timeframe.M1)
SERIES = make_candles(KEY, 100)
ROWS = (
    "INSERT INTO candles SELECT * REPLACE (timestamp + INTERVAL 1 DAY AS timestamp)"
    " FROM candles FINAL"
)


async def _all(candles: ClickHouseCandleRepository) -> list[object]:
    return [
        await candles.get_latest(KEY),
        await candles.get_latest(KEY, 5),
        await candles.get_latest(KEY, 50),
        await candles.get_coverage(KEY),
        await candles.count(KEY),
        await candles.count(KEY, START, START + 9 * MINUTE),
        await candles.list_keys(),
        await candles.list_keys(limit=1, after=KEY),
    ]


def _count_statements(manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    work = manager._with_transport

    def counted(*args: object, **options: object) -> object:
        asked.append(str(options["doing"]))
        return work(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(manager, "_with_transport", counted)
    return asked


async def test_what_was_answered_is_not_asked_again_where_the_store_is_ours(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES)
    first = await _all(candles)
    asked = _count_statements(manager, monkeypatch)
    assert await _all(candles) == first
    of_the_long_one = 1
    assert (len(asked) == of_the_long_one) == manager.config.is_embedded


@pytest.mark.parametrize(
    ("change", "cache_bytes"),
    every_value_by_day(
        ["a write", "a deletion", "another series", "a statement", "the last candle deleted"],
        [0, 1 << 20],
    ),
)
async def test_answers_are_those_of_a_reader_that_holds_nothing(
    manager: ClickHouseManager, change: str, cache_bytes: int
) -> None:
    candles = ClickHouseCandleRepository(manager, cache_bytes=cache_bytes)
    bare = ClickHouseCandleRepository(manager, cache_bytes=0)
    await candles.save_many(KEY, SERIES)
    before = await _all(candles)
    assert before == await _all(bare)
    if change == "a write":
        await bare.save_many(KEY, make_candles(KEY, 3, start=START + 200 * MINUTE))
    elif change == "a deletion":
        await bare.delete_range(KEY, START + 99 * MINUTE, START + 99 * MINUTE)
    elif change == "another series":
        await bare.save_many(OTHER, make_candles(OTHER, 3))
    elif change == "a statement":
        manager.execute(ROWS)
    else:
        await bare.delete_range(KEY, START, START + 200 * MINUTE)
    after = await _all(bare)
    assert after != before
    assert await _all(candles) == after


@pytest.mark.parametrize("change", ["all deleted", "the head deleted, and appended", "nothing"])
async def test_the_ends_of_a_series_are_those_of_one_moment(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    candles, writer = (ClickHouseCandleRepository(manager) for _ in range(2))
    await candles.save_many(KEY, SERIES)
    ends, changed = candles._end, threading.Event()

    async def write() -> None:
        if change == "the head deleted, and appended":
            await writer.delete_range(KEY, START, START + 9 * MINUTE)
            await writer.save_many(KEY, make_candles(KEY, 10, start=START + 100 * MINUTE))
        elif change == "all deleted":
            await writer.delete_range(KEY, START, START + 200 * MINUTE)

    def between(key: SeriesKey, count: int, *, newest: bool) -> CandleSeries:
        if not newest and not changed.is_set():
            changed.set()
            asyncio.run(write())
        return ends(key, count, newest=newest)

    monkeypatch.setattr(candles, "_end", between)
    found = await candles.get_coverage(KEY)
    assert changed.is_set()
    assert found == await writer.get_coverage(KEY)
    assert (
        found
        == {
            "all deleted": Coverage(None, None),
            "the head deleted, and appended": Coverage(START + 10 * MINUTE, START + 109 * MINUTE),
            "nothing": Coverage(START, START + 99 * MINUTE),
        }[change]
    )


async def test_a_write_of_a_known_series_keeps_the_list_of_series(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES)
    await candles.save_many(OTHER, make_candles(OTHER, 3))
    assert await candles.list_keys() == [KEY, OTHER]
    await candles.get_coverage(OTHER)
    await candles.save_many(KEY, make_candles(KEY, 3, start=START + 200 * MINUTE))
    asked = _count_statements(manager, monkeypatch)
    assert await candles.list_keys() == [KEY, OTHER]
    assert (await candles.get_coverage(OTHER)).last == START + 2 * MINUTE
    assert (not asked) == manager.config.is_embedded


async def test_a_series_whose_last_candle_is_deleted_is_listed_no_more(
    manager: ClickHouseManager,
) -> None:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES)
    await candles.save_many(OTHER, make_candles(OTHER, 3))
    assert await candles.list_keys() == [KEY, OTHER]
    await candles.delete_range(OTHER, START, START + 2 * MINUTE)
    assert await candles.list_keys() == [KEY]


async def test_a_list_that_is_given_is_the_callers_own(manager: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(manager)
    await candles.save_many(KEY, SERIES)
    found = await candles.list_keys()
    assert isinstance(found, list)
    found.clear()
    assert await candles.list_keys() == [KEY]


async def test_series_are_listed_in_pages(manager: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(manager)
    keys = [
        SeriesKey(symbol, timeframe, exchange)
        for symbol in ("A", "B", "B2", "C'", "a", "가")
        for exchange in ("", "KRX")
        for timeframe in (Timeframe.D1, Timeframe.M1)
    ]
    for key in keys:
        await candles.save_many(key, make_candles(key, 1))
    wanted = sorted(keys, key=lambda key: key.sort_key)
    for limit in (1, 3, 100):
        found: list[SeriesKey] = []
        while page := await candles.list_keys(limit=limit, after=found[-1] if found else None):
            found.extend(page)
        assert found == wanted


async def test_one_question_serves_many_reads_of_a_server(
    tcp: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    candles = ClickHouseCandleRepository(tcp, max_age=60)
    await candles.save_many(KEY, SERIES)
    day = (START, START + 50 * MINUTE)
    first = await candles.get_range(KEY, *day)
    answers = await _all(candles)
    asked = _count_statements(tcp, monkeypatch)
    assert await candles.get_range(KEY, *day) is first
    assert await candles.get_range(KEY, START, START + MINUTE) == SERIES[:2]
    assert [await candles.get_coverage(KEY), await candles.count(KEY)] == [answers[3], answers[4]]
    assert not asked
    # What is written here is seen at once.
    late = make_candles(KEY, 1, start=START + 20 * MINUTE, seed=7)
    await candles.save_many(KEY, late)
    assert (await candles.get_range(KEY, *day))[20] == late[0]
    await candles.delete_range(KEY, START + 20 * MINUTE, START + 200 * MINUTE)
    assert await candles.get_coverage(KEY) == Coverage(START, START + 19 * MINUTE)


async def test_what_others_write_is_seen_when_the_age_is_reached(tcp: ClickHouseManager) -> None:
    candles = ClickHouseCandleRepository(tcp, max_age=0.3)
    await candles.save_many(KEY, SERIES)
    day = (START, START + 50 * MINUTE)
    first = await candles.get_range(KEY, *day)
    with ClickHouseManager(tcp.config) as elsewhere:
        late = make_candles(KEY, 1, start=START + 20 * MINUTE, seed=7)
        await ClickHouseCandleRepository(elsewhere).save_many(KEY, late)
    await asyncio.sleep(0.35)
    found = await candles.get_range(KEY, *day)
    assert found != first and found[20] == late[0]


async def test_a_write_does_not_wait_behind_a_crowd_of_readers(manager: ClickHouseManager) -> None:
    free = threading.Event()
    crowd = [asyncio.create_task(manager.run_read(free.wait, 30)) for _ in range(64)]
    await asyncio.sleep(0)
    try:
        candles = ClickHouseCandleRepository(manager)
        await asyncio.wait_for(candles.save_many(KEY, SERIES), 20)
    finally:
        free.set()
        await asyncio.gather(*crowd)


async def test_rows_of_several_parts_come_in_order(
    manager: ClickHouseManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.execute("SYSTEM STOP MERGES candles")
    candles = ClickHouseCandleRepository(manager, cache_bytes=0)
    for start in (60, 30, 90, 0):
        await candles.save_many(KEY, SERIES[start : start + 30])
    day = (START, START + 500 * MINUTE)
    with monkeypatch.context() as patched:
        asked = _count_statements(manager, patched)
        assert await candles.get_range(KEY, *day) == SERIES
        assert len(asked) == 1, "the engine was asked to merge what needs no merging"
    other = make_candles(KEY, 50, seed=3)
    await candles.save_many(KEY, other)
    assert await candles.get_range(KEY, *day) == SERIES.merge(other)
    await candles.delete_range(KEY, START, START + 9 * MINUTE)
    assert await candles.get_range(KEY, *day) == SERIES.merge(other)[10:]
    manager.execute("SYSTEM START MERGES candles")
