"""Rows with a wrong number of fields stop an import, or are kept aside with line and reason."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers import file_source
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine, QuarantinedRow
from jts_storage.usecases.results import ImportResult

HEADER = "t,o,h,l,c,v\n"
KEY = SeriesKey("A", Timeframe.M1)
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


async def run(storage: Storage, path: Path, **more: Any) -> ImportResult:
    options = ImportOptions(create=Market.KOSPI, **{"on_error": "quarantine", **more})
    return await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)


async def aside(storage: Storage) -> list[QuarantinedRow]:
    return await Quarantine(storage).review()


def row(minute: int) -> str:
    return f"{1704153600 + 60 * minute},1,1,1,1,{minute}\n"


async def minutes(storage: Storage) -> list[int]:
    return [candle.volume for candle in await storage.candles.get_range(KEY, *ALWAYS)]


async def test_a_broken_row_stops_an_import_unless_it_is_to_be_kept_aside(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text("\n\n" + HEADER + row(0) + "\n1704153660,1,1\n" + row(2) + "7,7,7,7,7,7,7\n")
    with pytest.raises(InvalidData, match=r"line 6, column 'l': .*on_error='quarantine' keeps"):
        await run(storage, path, on_error="stop")
    result = await run(storage, path)
    assert (result.read, result.inserted + result.unchanged, result.quarantined) == (4, 2, 2)
    assert result.broken["fields"] == 2
    assert await minutes(storage) == [0, 2]
    first, second = await aside(storage)
    assert (first.line, first.reasons, first.came_as) == (
        6,
        ("has 3 fields, not 6 as the header",),
        {"text": "1704153660,1,1"},
    )
    assert (second.line, second.key, second.candle) == (8, KEY, None)


async def test_a_row_of_no_known_series_is_kept_without_one(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text("symbol,tf," + HEADER + "A,1m," + row(0) + "A\n")
    options = ImportOptions(create=Market.KOSPI, on_error="quarantine")
    await ImportCandles(storage).run(path, options=options)
    (kept,) = await aside(storage)
    assert (kept.key, kept.line) == (None, 3)
    assert await Quarantine(storage).release() == (0, 1)
    assert await Quarantine(storage).discard(KEY) == 0
    assert await Quarantine(storage).discard() == 1


async def test_lines_are_right_where_texts_have_line_breaks_and_values_are_wrong(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        'n,t,o,h,l,c,v\n"a\nb",' + row(0) + "x\n\nc," + row(1) + "c,1704153720,x,1,1,1,1\n"
    )
    with pytest.raises(InvalidData, match="line 4"):
        await run(storage, path, on_error="stop")
    await run(storage, path)
    assert [(kept.line, kept.reasons[0]) for kept in await aside(storage)] == [
        (4, "has 1 field, not 7 as the header"),
        (7, "open must be a number, got 'x'"),
    ]


async def test_a_file_of_nothing_but_broken_rows_is_counted(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + "x\n" * 3)
    result = await run(storage, path)
    assert (result.read, result.imported, result.quarantined) == (3, 0, 3)
    assert [kept.line for kept in await aside(storage)] == [2, 3, 4]


async def test_more_broken_rows_than_one_note_holds_are_all_kept(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + row(0) + "x\n" * 2_500 + row(1))
    result = await run(storage, path)
    assert (result.inserted, result.quarantined) == (2, 2_500)
    assert [kept.line for kept in await aside(storage)] == list(range(3, 2_503))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    good=st.lists(st.booleans(), min_size=1, max_size=14),
    block_rows=st.integers(1, 5),
    broken_at=st.integers(0, 14),
)
async def test_an_interrupted_import_counts_each_broken_row_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    good: list[bool],
    block_rows: int,
    broken_at: int,
) -> None:
    monkeypatch.setattr(file_source, "READ_BYTES", 64)
    path = tmp_path / "p.csv"
    lines = [row(n) if is_good else "x\n" for n, is_good in enumerate(good)]
    async with Storage.in_memory() as storage:
        path.write_text(HEADER + "".join(lines))
        seen = 0

        def stop(_: object) -> None:
            nonlocal seen
            seen += 1
            if seen == broken_at:
                raise KeyboardInterrupt

        options = ImportOptions(create=Market.KOSPI, on_error="quarantine", block_rows=block_rows)
        wanted: dict[str, Any] = {"symbol": "A", "options": options}
        try:
            await ImportCandles(storage).run(path, Timeframe.M1, **wanted, progress=stop)
        except KeyboardInterrupt:
            await ImportCandles(storage).run(path, Timeframe.M1, **wanted)
        result = await ImportCandles(storage).run(path, Timeframe.M1, **wanted)
        assert await minutes(storage) == [n for n, is_good in enumerate(good) if is_good]
        kept = [row.line for row in await aside(storage)]
        assert kept == [n + 2 for n, is_good in enumerate(good) if not is_good]
        assert (result.read, result.quarantined) == (len(good), good.count(False))


async def test_rows_aside_stay_when_another_file_comes_under_the_same_path(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "today.csv"
    for text in ("abc", "def"):
        path.write_text(HEADER + f"1704153600,1,1,1,{text},1\n" + row(1))
        await run(storage, path)
    assert {kept.came_as["text"].split(",")[4] for kept in await aside(storage)} == {"abc", "def"}
    path.write_text(HEADER + "1704153600,1,1,1,def,1\n" + row(1))
    await run(storage, path)
    assert len(await aside(storage)) == 2, "the same row is kept once"


@pytest.mark.parametrize("broken", ["1704153600,1,1,1,a\0b,1\n", "1704153600,1,\0\n"])
async def test_a_broken_row_with_a_nul_is_kept_aside(
    storage: Storage, tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + broken + row(1))
    await run(storage, path)
    (kept,) = await aside(storage)
    assert "␀" in kept.came_as["text"]
    assert await minutes(storage) == [1]
