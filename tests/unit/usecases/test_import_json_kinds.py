"""A broken value at the beginning of JSON does not decide of what kind its column is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine
from tests.runs import every_value_by_day
from tests.unit.usecases.outcomes import SECOND, outcome, quarantined


def written(path: Path, column: str, values: list[Any], *, is_array: bool = False) -> None:
    rows = [
        {"t": SECOND + 60 * n, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1} | {column: value}
        for n, value in enumerate(values)
    ]
    path.write_text(json.dumps(rows) if is_array else "\n".join(map(json.dumps, rows)) + "\n")


@pytest.mark.parametrize(
    ("at", "column", "broken"),
    every_value_by_day([0, 1, 2], ["c", "v"], ["abc", "--", "1.2.3", True, [1]]),
)
async def test_what_is_no_number_does_not_make_text_of_the_others(
    tmp_path: Path, column: str, broken: object, at: int
) -> None:
    path = tmp_path / "p.jsonl"
    written(path, column, [*[1] * at, broken, *[1] * (2 - at)])
    found = await quarantined(path)
    assert len(found["stored"]) == 2
    assert [line for line, _ in found["aside"]] == [at + 1]
    assert f"line {at + 1}, column '{column}'" in (await outcome(path))["refused"]


MISSING = ["-", "", " ", "NaN", "null", "N/A", " - "]


@pytest.mark.parametrize(
    ("at", "column", "missing"),
    every_value_by_day([0, 1, 2], ["c", "v", "거래량"], [*MISSING, None]),
)
async def test_what_is_missing_in_csv_is_missing_in_json(
    tmp_path: Path, column: str, missing: str | None, at: int
) -> None:
    values = [*[1] * at, missing, *[1] * (2 - at)]
    for is_array in (True, False):
        path = tmp_path / "p.json"
        written(path, column, values, is_array=is_array)
        if column == "거래량":
            raw = json.loads(path.read_text()) if is_array else []
            raw = raw or [json.loads(line) for line in path.read_text().splitlines()]
            rows = [{name: row[name] for name in row if name != "v"} for row in raw]
            path.write_text(
                "\n".join(json.dumps(row, ensure_ascii=is_array, indent=None) for row in rows)
            )
        found = await quarantined(path)
        assert (len(found["stored"]), found["aside"], found["refused"]) == (2, [], None)
        assert len((await outcome(path))["stored"]) == 2


@pytest.mark.parametrize("missing", ["-", None])
@pytest.mark.parametrize("usual", [1, "1"])
async def test_what_is_missing_is_of_the_kind_of_its_column(
    tmp_path: Path, usual: object, missing: str | None
) -> None:
    """A row whose volume is of another kind is told of for that, and not for what it lacks."""
    path = tmp_path / "p.jsonl"
    rows = [
        {"t": SECOND + 60 * n, "c": usual, "o": usual, "h": usual, "l": usual, "v": 1}
        for n in range(3)
    ]
    rows[2] |= {"c": missing, "v": [1]}
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    found = await quarantined(path)
    assert len(found["stored"]) == 2
    [(line, reasons)] = found["aside"]
    assert (line, "column 'v'" in str(reasons), "column 'c'" in str(reasons)) == (3, True, False)


NAMES = [("c", r"\u0063"), ("종가", r"\uC885\uac00"), ("종가", r"종\uAC00"), ("c", "c")]


@pytest.mark.parametrize(
    ("missing", "named"),
    every_value_by_day([r"N\/A", r"\u002D", r"n\u002fA", r"\u004e\u0061N", r"\t-\u0020"], NAMES),
)
async def test_what_is_missing_may_be_written_with_escapes(
    tmp_path: Path, missing: str, named: tuple[str, str]
) -> None:
    name, written_as = named
    path = tmp_path / "p.jsonl"
    row = '{"t":%d,"o":1,"h":1,"l":1,"%s":%s,"v":1}\n'
    path.write_text(
        row % (SECOND, name, "1")
        + row % (SECOND + 60, written_as, f'"{missing}"')
        + row % (SECOND + 120, written_as, "1")
    )
    found = await quarantined(path)
    assert (len(found["stored"]), found["aside"], found["refused"]) == (2, [], None)
    assert len((await outcome(path))["stored"]) == 2


async def test_what_looks_like_a_missing_number_stays_in_a_text(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    note = '","c":"-","v":"'
    written(path, "symbol", [note, note])
    text = path.read_text().replace('"c": 1', '"c": "-"', 1)
    path.write_text(text)
    async with Storage.in_memory() as storage:
        options = ImportOptions(create=Market.KOSPI)
        result = await ImportCandles(storage).run(path, Timeframe.M1, options=options)
        assert (result.inserted, result.rejected) == (1, 1)
        assert await storage.candles.list_keys() == [SeriesKey(note, Timeframe.M1)]


MOMENTS: list[tuple[list[Any], object]] = [
    *(
        ([SECOND, SECOND + 60], broken)
        for broken in ("x", "-", True, "x123", "12:3x4", "2024-13-45", 1e300)
    ),
    *(
        (["2024-01-02 00:00", "2024-01-02 00:01"], broken)
        for broken in ("x", 7, True, "123", "x123", "2024-13-45", 123, 1e300)
    ),
]


@pytest.mark.parametrize(("given", "is_array"), every_value_by_day(MOMENTS, [True, False]))
async def test_what_is_no_moment_does_not_decide_what_moments_are(
    tmp_path: Path, given: tuple[list[Any], object], is_array: bool
) -> None:
    moments, broken = given
    path = tmp_path / "p.json"
    written(path, "t", [broken, *moments], is_array=is_array)
    found = await quarantined(path, timezone="UTC")
    assert [moment.timestamp() for moment, *_ in found["stored"]] == [SECOND, SECOND + 60]
    assert [line for line, _ in found["aside"]] == [1]


async def test_a_column_may_be_empty_in_many_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    written(path, "v", [None] * 1_100 + [5])
    found = await outcome(path, 2_000, volume="zero-if-missing")
    assert (found["refused"], [volume for *_, volume in found["stored"]]) == (
        None,
        [0] * 1_100 + [5],
    )


@pytest.mark.parametrize("broken", ["x123", "25:99", "1:2:3"])
@pytest.mark.parametrize("times", [[900, 1530], ["09:00", "15:30"]])
async def test_what_is_no_time_of_day_does_not_decide_what_times_are(
    tmp_path: Path, broken: str, times: list[Any]
) -> None:
    path = tmp_path / "p.jsonl"
    rows = [
        {"date": "2024-01-02", "time": time, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}
        for time in [broken, *times]
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    found = await quarantined(path, timezone="UTC")
    assert [f"{moment:%H:%M}" for moment, *_ in found["stored"]] == ["09:00", "15:30"]
    assert [line for line, _ in found["aside"]] == [1]


async def test_moments_of_a_format_are_text(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    written(path, "t", [f"Jan 02, 2024 {n // 60:02}:{n % 60:02}" for n in range(1_010)])
    found = await outcome(path, 2_000, timezone="UTC", time_format="%b %d, %Y %H:%M")
    assert (len(found["stored"]), found["refused"]) == (1_010, None)


@pytest.mark.parametrize("block_rows", [1, 1_000])
@pytest.mark.parametrize("is_array", [True, False])
async def test_values_and_lines_that_cannot_be_read_are_counted_apart(
    tmp_path: Path, is_array: bool, block_rows: int
) -> None:
    good = '{"t":%d,"o":1,"h":1,"l":1,"c":%s,"v":1}'
    closes = ["1", '"x"', "true", "[2]", '{"a":1}', "1e300", '"1e999"', "1"]
    rows = [good % (SECOND + 60 * minute, close) for minute, close in enumerate(closes)]
    rows[4:4] = ["7", good % (SECOND, "[]"), "null"]
    if not is_array:
        rows[5:5] = ["{", good % (SECOND, "NaN")]
    path = tmp_path / "p.json"
    path.write_text("[" + ",\n".join(rows) + "]" if is_array else "\n".join(rows))
    options = ImportOptions(create=Market.KOSPI, on_error="quarantine", block_rows=block_rows)
    async with Storage.in_memory() as storage:
        result = await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
        lines = [row.line for row in await Quarantine(storage).review()]
    expected = {"fields": 2, "unreadable": 7} if is_array else {"fields": 3, "unreadable": 8}
    assert (result.inserted, dict(result.broken)) == (2, expected)
    assert lines == list(range(2, len(rows)))
