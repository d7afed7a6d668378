"""Files of many series that are stored in part: compared by whole blocks, and rightly."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jts_storage import Market, Storage, Timeframe
from jts_storage.memory.candles import InMemoryCandleRepository
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.known_symbols import MANY
from jts_storage.usecases.results import ImportResult

START = int(datetime(2024, 1, 2, tzinfo=UTC).timestamp())
EVER = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
SERIES = MANY + 5

Rows = list[tuple[int, int, int]]
"""Series, minute, close."""


def written(path: Path, rows: Rows) -> Path:
    lines = [
        f"S{series:02},{START + 60 * minute},{close},{close},{close},{close},1"
        for series, minute, close in rows
    ]
    path.write_text("\n".join(["symbol,timestamp,open,high,low,close,volume", *lines]))
    return path


async def imported(
    storage: Storage, path: Path, mode: Literal["full", "incremental"], block_rows: int = 1_000
) -> ImportResult:
    options = ImportOptions(mode=mode, create=Market.KOSPI, block_rows=block_rows)
    return await ImportCandles(storage).run(path, Timeframe.M1, options=options)


async def stored(storage: Storage) -> dict[tuple[int, int], int]:
    panel = await storage.candles.get_panel(Timeframe.M1, *EVER)
    return {
        (int(key.symbol[1:]), int(candle.timestamp.timestamp() - START) // 60): int(candle.close)
        for key in panel
        for candle in panel[key]
    }


def everywhere(minutes: range, close: int) -> Rows:
    return [(series, minute, close) for minute in minutes for series in range(SERIES)]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the store is asked for what."""
    counts: Counter[str] = Counter()

    def spy(name: str) -> Any:
        real = getattr(InMemoryCandleRepository, name)

        def spied(*given: Any, **named: Any) -> Any:
            counts[name] += 1
            return real(*given, **named)

        return spied

    for name in ("get_coverage", "get_range", "stream", "stream_panels", "get_latest_panel"):
        monkeypatch.setattr(InMemoryCandleRepository, name, spy(name))
    return counts


@pytest.mark.parametrize("mode", ["full", "incremental"])
async def test_one_question_a_block(
    tmp_path: Path, asked: Counter[str], mode: Literal["full", "incremental"]
) -> None:
    rows = everywhere(range(20), 1)
    async with Storage.in_memory() as storage:
        await imported(storage, written(tmp_path / "first.csv", rows), "full")
        asked.clear()
        again = written(tmp_path / "again.csv", rows)
        result = await imported(storage, again, mode, block_rows=len(rows) // 4)
    assert (result.unchanged, result.skipped)[mode == "incremental"] == len(rows)
    assert asked == {"get_latest_panel": 1, "stream_panels": 4}


async def test_what_comes_behind_all_that_is_stored_is_compared_with_nothing(
    tmp_path: Path, asked: Counter[str]
) -> None:
    async with Storage.in_memory() as storage:
        first = written(tmp_path / "first.csv", everywhere(range(5), 1))
        await imported(storage, first, "full")
        asked.clear()
        later = written(tmp_path / "later.csv", everywhere(range(5, 9), 1))
        assert (await imported(storage, later, "incremental")).inserted == 4 * SERIES
    assert asked == {"get_latest_panel": 1}


async def test_what_the_import_itself_has_stored_is_not_taken_for_stored_before(
    tmp_path: Path,
) -> None:
    """It is read with the other series, though nothing so late was stored of its own."""
    before = [row for row in everywhere(range(11), 1) if row[0] or row[1] <= 5]
    rows = everywhere(range(4, 11), 2)
    async with Storage.in_memory() as storage:
        await imported(storage, written(tmp_path / "before.csv", before), "full")
        path = written(tmp_path / "again.csv", rows + [(*row[:2], 3) for row in rows])
        result = await imported(storage, path, "incremental", block_rows=len(rows))
        assert (result.inserted, result.duplicates) == (5, 5)
        closes = await stored(storage)
    assert [closes[0, minute] for minute in range(3, 11)] == [1, 1, 1, 3, 3, 3, 3, 3]


SOME_ROWS = st.lists(
    st.tuples(st.integers(0, SERIES - 1), st.sampled_from([0, 1, 2, 3, 500]), st.integers(1, 3)),
    max_size=40,
    unique_by=lambda row: row[:2],
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=SOME_ROWS,
    is_everywhere=st.booleans(),
    given_rows=SOME_ROWS,
    mode=st.sampled_from(["full", "incremental"]),
    block_rows=st.sampled_from([7, 60, 1_000]),
)
async def test_each_row_becomes_what_a_plain_reading_says(
    tmp_path: Path,
    before: Rows,
    is_everywhere: bool,
    given_rows: Rows,
    mode: Literal["full", "incremental"],
    block_rows: int,
) -> None:
    # Of every series a row, so that they are many; ranges that differ much are read one by one.
    before = before + everywhere(range(10, 12), 1)
    given_rows = given_rows + everywhere(range(11, 14) if is_everywhere else range(12, 13), 2)
    there = {row[:2]: row[2] for row in before}
    comes = {row[:2]: row[2] for row in given_rows}
    expected: Counter[str] = Counter()
    for place, close in comes.items():
        if place not in there:
            expected["inserted"] += 1
        elif mode == "incremental":
            expected["skipped"] += 1
            expected["differing"] += there[place] != close
        else:
            expected["unchanged" if there[place] == close else "replaced"] += 1
    async with Storage.in_memory() as storage:
        await imported(storage, written(tmp_path / "before.csv", before), "full")
        path = written(tmp_path / "given.csv", given_rows)
        result = await imported(storage, path, mode, block_rows)
        assert +expected == +Counter({name: getattr(result, name) for name in expected})
        after = comes | there if mode == "incremental" else there | comes
        assert await stored(storage) == after


async def test_the_history_names_the_file(tmp_path: Path) -> None:
    async with Storage.in_memory() as storage:
        await imported(storage, written(tmp_path / "first.csv", [(0, 0, 1)]), "full")
        await imported(storage, written(tmp_path / "vendor.csv", [(0, 0, 2)]), "full")
        (key,) = await storage.candles.list_keys()
        (change,) = await storage.candles.changes(key)
    assert change.source.startswith("import of ")
    assert "vendor.csv" in change.source
