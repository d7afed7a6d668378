"""What is stored of a source, or refused, does not hang on where its blocks end."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers import file_source, text_files
from jts_storage.readers.csv_source import CsvFile
from jts_storage.readers.file_source import Layout
from jts_storage.readers.rows import BrokenRow
from jts_storage.testing.contracts.samples import examples
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine
from jts_storage.usecases.results import COUNTS
from tests.runs import every_value_by_day

KEY = SeriesKey("A", Timeframe.M1)
ALWAYS = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 1, 1, tzinfo=UTC)
SECOND = 1_704_153_600  # 2 January 2024
WHOLE = 1_000


async def outcome(path: Path, block_rows: int, **more: Any) -> dict[str, Any]:
    """What an import of blocks of that size has stored, set aside and refused."""
    options = ImportOptions(create=Market.KOSPI, block_rows=block_rows, **more)
    async with Storage.in_memory() as storage:
        refused = result = None
        try:
            result = await ImportCandles(storage).run(
                path, Timeframe.M1, symbol="A", options=options
            )
        except InvalidData as exc:
            refused = str(exc)
        candles = await storage.candles.get_range(KEY, *ALWAYS)
        aside = await Quarantine(storage).review()
        return {
            "refused": refused,
            "stored": [(candle.timestamp, str(candle.close), candle.volume) for candle in candles],
            # Rows that the quality gate keeps back have no line.
            "aside": sorted((row.line or 0, row.reasons, str(row.came_as)) for row in aside),
            "counts": result and {name: getattr(result, name) for name in (*COUNTS, "broken")},
        }


async def check(path: Path, **more: Any) -> dict[str, Any]:
    """The outcome of the file read at once, after a look that small blocks come to the same."""
    whole = await outcome(path, WHOLE, **more)
    if whole["refused"] is not None:
        most = set(minutes(await outcome(path, 1, **more | {"on_error": "quarantine"})))
    for size in (1, 2, 3):
        found = await outcome(path, size, **more)
        if whole["refused"] is None:
            assert found == whole
        else:  # blocks before the row that is refused are stored, and rightly
            assert found["refused"] == whole["refused"]
            assert set(minutes(found)) <= most
    return whole


def minutes(result: dict[str, Any]) -> list[str]:
    return [f"{stamp:%Y-%m-%d %H:%M:%S}" for stamp, *_ in result["stored"]]


def times_of(result: dict[str, Any]) -> list[str]:
    return [f"{stamp:%H:%M:%S}" for stamp, *_ in result["stored"]]


def dated(times: list[str]) -> str:
    rows = "".join(f"20240102,{text},1,1,1,1,{n}\n" for n, text in enumerate(times))
    return "date,time,o,h,l,c,v\n" + rows


@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
@pytest.mark.parametrize(
    ("times", "read"),
    [
        (["500", "90000", "153000"], ["00:05:00", "09:00:00", "15:30:00"]),
        (["153000", "900"], ["00:09:00", "15:30:00"]),
        (["900", "1530"], ["09:00:00", "15:30:00"]),
        (["0", "5", "1530"], ["00:00:00", "00:05:00", "15:30:00"]),
    ],
)
async def test_times_of_day_have_one_width_in_the_whole_file(
    tmp_path: Path, times: list[str], read: list[str], on_error: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(dated(times))
    result = await check(path, timezone="UTC", on_error=on_error)
    assert (times_of(result), result["refused"]) == (read, None)


@pytest.mark.parametrize(
    ("at", "good", "broken"),
    every_value_by_day(
        [0, 1, 2],
        [
            (["900", "1530"], ["09:00:00", "15:30:00"]),
            (["500", "153000"], ["00:05:00", "15:30:00"]),
            (["09:00", "15:30:30"], ["09:00:00", "15:30:30"]),
        ],
        ["x", "9h30", "1234567", "999999", "24:00", "9:00:77"],
    ),
)
async def test_a_time_that_cannot_be_read_says_nothing_of_the_others(
    tmp_path: Path, good: tuple[list[str], list[str]], broken: str, at: int
) -> None:
    times, read = good
    path = tmp_path / "p.csv"
    path.write_text(dated([*times[:at], broken, *times[at:]]))
    result = await outcome(path, WHOLE, timezone="UTC", on_error="quarantine")
    assert (times_of(result), [line for line, *_ in result["aside"]]) == (read, [at + 2])
    assert await outcome(path, 1, timezone="UTC", on_error="quarantine") == result
    assert f"line {at + 2}" in (await outcome(path, 1, timezone="UTC"))["refused"]


async def test_a_time_with_zeros_in_front_has_no_other_width(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(dated(["0900", "153000"]))
    assert (await check(path, timezone="UTC"))["refused"]
    result = await check(path, timezone="UTC", on_error="quarantine")
    assert (times_of(result), [line for line, *_ in result["aside"]]) == (["15:30:00"], [2])


def stamped(stamps: list[Any], close: str = "1") -> str:
    rows = "".join(f"{text},1,1,1,{close},{n}\n" for n, text in enumerate(stamps))
    return "t,o,h,l,c,v\n" + rows


@pytest.mark.parametrize(
    "stamps",
    [
        # milliseconds that begin in January 1970, and have a digit more from April on
        [86_400_000 * day for day in (*range(2, 12), *range(111, 121), *range(380, 400))],
        # of which some could be dates: 202401020900 is a minute of 1976, too
        [202_401_020_000 + 60_000 * n for n in range(60)],
        # a unit that changes
        [SECOND, SECOND + 60, (SECOND + 120) * 1_000, (SECOND + 180) * 10**6],
    ],
)
async def test_numbers_are_of_one_kind_in_the_whole_file(tmp_path: Path, stamps: list[int]) -> None:
    path = tmp_path / "p.csv"
    path.write_text(stamped(stamps))
    result = await check(path)
    if result["refused"] is None:
        assert len(result["stored"]) == len(stamps)
    else:
        assert not result["stored"]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1_000), ("ms", 1), ("us", 0.001)])
async def test_the_caller_may_say_the_unit(tmp_path: Path, unit: str, factor: float) -> None:
    path = tmp_path / "p.csv"
    stamps = [120_000_000 * n for n in range(1, 5)]
    path.write_text(stamped(stamps))
    result = await check(path, time_unit=unit)
    moments = [stamp.timestamp() * 1_000 for stamp, *_ in result["stored"]]
    assert moments == [stamp * factor for stamp in stamps]


async def test_a_unit_that_is_said_leaves_no_other(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(stamped(["86400000", "2024-01-02", "20240102", "9" * 18]))
    result = await check(path, time_unit="ms", on_error="quarantine")
    assert minutes(result) == ["1970-01-01 05:37:20", "1970-01-02 00:00:00"]
    assert [line for line, *_ in result["aside"]] == [3, 5]
    for unit, form in (("m", None), ("s", "%Y")):
        with pytest.raises(InvalidData, match="time_unit"):
            ImportOptions(time_unit=unit, time_format=form)


async def test_a_damaged_number_makes_no_moments_of_1970_of_the_others(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(stamped([SECOND, SECOND + 60, SECOND * 10, SECOND + 180]))
    for on_error in ("stop", "quarantine"):
        result = await check(path, on_error=on_error)
        assert "time_unit" in result["refused"] and not result["stored"]
    result = await check(path, on_error="quarantine", time_unit="s")
    assert [line for line, *_ in result["aside"]] == [4]


async def test_rows_that_cannot_be_read_are_kept_with_line_and_reason(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        stamped([20240102, "20240230", 20240103, "soon", 20240104])
        + "20240105,1,1,1,abc,5\n20240108,1,1,1,1e999,6\n20240109,1\n20240110,1,1,1,1,-7\n"
    )
    result = await check(path, on_error="quarantine", timezone="UTC")
    assert len(result["stored"]) == 3
    assert [(line, reasons[0].partition(",")[0]) for line, reasons, _ in result["aside"]] == [
        (3, "timestamp is no moment like the others of its column"),
        (5, "timestamp is no moment like the others of its column"),
        (7, "close must be a number"),
        (8, "close must fit Decimal(18"),
        (9, "has 2 fields"),
        (10, "volume must be a whole number below 2**64"),
    ]
    assert result["aside"][2][2] == "{'text': '20240105,1,1,1,abc,5'}"
    path.write_text(path.read_text().replace("20240109,1\n", ""))
    assert "line 3" in (await check(path, timezone="UTC"))["refused"]


async def test_a_missing_volume_beside_what_cannot_be_read_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{SECOND},1,1,1,x,1", f"{SECOND + 60},1,1,1,1,NaN", f"{SECOND + 120},1,1,1,1,3"]
    path.write_text("t,o,h,l,c,v\n" + "\n".join(rows) + "\n")
    result = await check(path, on_error="quarantine", volume="zero-if-missing")
    assert [volume for _, _, volume in result["stored"]] == [0, 3]
    assert [line for line, *_ in result["aside"]] == [2]


async def test_the_first_row_that_an_option_reads_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [f"x{SECOND},1,1,1,1,1", f"{SECOND},1,1,1,1,1.5", f"{SECOND},1,1,1,1.00005,NaN"]
    path.write_text("t,o,h,l,c,v\n" + "\n".join(rows) + "\n")
    assert "line 3" in (await check(path, on_error="quarantine"))["refused"]


async def test_what_an_option_reads_refuses_the_source(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(stamped([SECOND], "x") + stamped([SECOND + 60], "1.00001")[12:])
    assert "round_prices" in (await check(path, on_error="quarantine"))["refused"]
    path.write_text(stamped(["2024-01-02 09:00", "x"]))
    assert "timezone" in (await check(path, on_error="quarantine"))["refused"]
    path.write_text(stamped(['"Jan 02, 2024"', '"Jan 03, 2024"']))
    assert "time_format" in (await check(path, on_error="quarantine"))["refused"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("7", "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"t":1704153660,"o":1,"h":1,"l":1,"c":NaN,"v":1}', "NaN is no number in JSON"),
        ('{"t":1704153660.5,"o":1,"h":1,"l":1,"c":1,"v":1}', "is no moment like the others"),
        ("[" * 100_000, "is nested too deeply"),
        ("{", "is no JSON"),
    ],
)
async def test_a_line_of_json_that_cannot_be_read_is_told(
    tmp_path: Path, line: str, reason: str
) -> None:
    good = '{{"t":{},"o":1,"h":1,"l":1,"c":1,"v":1}}\n'
    path = tmp_path / "p.jsonl"
    path.write_text("\n" + good.format(SECOND) + line + "\n" + good.format(f"{SECOND + 120}.0"))
    refused = (await check(path))["refused"]
    assert "line 3" in refused and reason in refused
    result = await check(path, on_error="quarantine")
    assert [(line, reason in reasons[0]) for line, reasons, _ in result["aside"]] == [(3, True)]
    assert len(result["stored"]) == 2


async def test_a_zone_is_written_in_all_rows_or_in_none(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(stamped(["2024-01-02 09:00Z", "2024-01-02 10:00", "2024-01-02 11:00Z"]))
    result = await check(path, timezone="Asia/Seoul", on_error="quarantine")
    assert times_of(result) == ["09:00:00", "11:00:00"]
    assert "line 3" in (await check(path, timezone="Asia/Seoul"))["refused"]


@pytest.mark.parametrize("last", ["78.500,5", "1.234.567"])
async def test_points_group_thousands_if_any_number_of_the_file_says_so(
    tmp_path: Path, last: str
) -> None:
    path = tmp_path / "p.csv"
    prices = ["78.500", "78.600", "78.700"]
    rows = "".join(
        f'{SECOND + 60 * n},{p},{p},{p},{p},"{last if n == 2 else 1}"\n'
        for n, p in enumerate(prices)
    )
    path.write_text("t,o,h,l,c,v\n" + rows)
    result = await check(path, volume="floor")
    assert [close for _, close, _ in result["stored"]] == ["78500.0000", "78600.0000", "78700.0000"]


MOMENTS = st.one_of(
    st.integers(0, 200).map(lambda n: str(SECOND + 60 * n)),
    st.integers(0, 200).map(lambda n: str((SECOND + 60 * n) * 1_000)),
    st.integers(0, 9).map(lambda n: f"2024-01-02 09:0{n}"),
    st.integers(0, 9).map(lambda n: f"2024-01-02T09:0{n}:00Z"),
    st.integers(0, 9).map(lambda n: f"20240102090{n}"),
    st.integers(1, 31).map(lambda n: f"202401{n:02}"),
    st.sampled_from(
        [
            "",
            "x",
            "0",
            "5",
            "2024-02-30",
            "20241301",
            "Jan 02, 2024",
            "1e9",
            "1704153600.0",
            "1704153600.5",
            "-86400",
            "86400000",
            "99999999999999999999",
            " 1704153600",
        ]
    ),
)
NUMBERS = st.sampled_from(
    ["1", "1.5", "78.500", "1,234", "1.234,5", "1,234.5", "1e999", "1e3", "abc", "", "-", "0x1F",
     "1.00005", "-1", "NaN", "99999999999999999", " 2 ", "1.234.567", "12'345"]
)  # fmt: skip


PIECE = 128
"""Bytes of a CSV file that are read at once: at least its longest row, which Arrow would refuse."""


@pytest.mark.parametrize("broken", [None, []])
def test_csv_is_read_in_pieces_of_the_size_that_the_tests_vary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: list[BrokenRow] | None
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(stamped([f"{SECOND + 60 * n}" for n in range(30)]))

    def pieces() -> list[int]:
        file = CsvFile(path, Layout())
        columns = [table.num_rows for table in file.columns({"close"})]
        found = [table.num_rows for table in file.tables(broken)]
        assert found == columns
        return found

    assert pieces() == [30]
    monkeypatch.setattr(file_source, "READ_BYTES", PIECE)
    assert len(pieces()) > 4
    assert sum(pieces()) == 30


@settings(
    max_examples=examples(6, 400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    rows=st.lists(st.tuples(MOMENTS, NUMBERS, NUMBERS), min_size=1, max_size=8),
    delimiter=st.sampled_from([",", ";"]),
    on_error=st.sampled_from(["stop", "quarantine"]),
    rounds=st.booleans(),
)
# Pieces of several rows, of which a later one shows what the first means.
@example(
    rows=[(str(SECOND + 60 * n), "78.500", "1") for n in range(7)]
    + [(str(SECOND + 420), "1.234,5", "1")],
    delimiter=";",
    on_error="stop",
    rounds=False,
)
@example(
    rows=[("86400000", "1", "1")] + [(f"{SECOND + 60 * n}000", "1", "1") for n in range(7)],
    delimiter=",",
    on_error="quarantine",
    rounds=False,
)
async def test_any_csv_file_is_read_alike_in_blocks_of_any_size(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[tuple[str, str, str]],
    delimiter: str,
    on_error: str,
    rounds: bool,
) -> None:
    path = tmp_path / "p.csv"
    lines = [
        delimiter.join(f'"{value}"' for value in (moment, close, close, close, close, volume))
        for moment, close, volume in rows
    ]
    path.write_text(delimiter.join("tohlcv") + "\n" + "\n".join(lines) + "\n")
    more: dict[str, Any] = {}
    if rounds:
        more = {"round_prices": True, "volume": "round,zero-if-missing"}
    whole = await check(path, timezone="UTC", on_error=on_error, **more)
    monkeypatch.setattr(file_source, "READ_BYTES", PIECE)
    assert await check(path, timezone="UTC", on_error=on_error, **more) == whole


JSON_VALUES = st.sampled_from(
    ["1", "1.5", '"1"', '"x"', "null", "NaN", "-Infinity", "1e999", "[1]", "true", "1.000001"]
)
JSON_MOMENTS = st.sampled_from(
    ["{}.0", "{}.00", "{}e0", "{}.5", "{}.000000000000", '"{}"', '"{}.0"', "{}000", "{}000.0",
     "1.704153600e9", "1704153600000.0e-3", "true", "null", '""']
)  # fmt: skip
JSON_LINES = st.one_of(
    st.tuples(st.integers(0, 9), JSON_VALUES, JSON_VALUES).map(
        lambda v: f'{{"t":{SECOND + 60 * v[0]},"o":1,"h":1,"l":1,"c":{v[1]},"v":{v[2]}}}'
    ),
    st.tuples(st.integers(0, 9), JSON_MOMENTS).map(
        lambda v: f'{{"t":{v[1].format(SECOND + 60 * v[0])},"o":1,"h":1,"l":1,"c":1,"v":1}}'
    ),
    st.sampled_from(
        ["5", "[1]", '"x"', "null", "", "{",
         '{"t":1704153600.5,"o":1,"h":1,"l":1,"c":1,"v":1}', "{}", "[" * 3_000]
    ),
)  # fmt: skip


@settings(
    max_examples=examples(6, 400),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    lines=st.lists(JSON_LINES, min_size=1, max_size=8),
    on_error=st.sampled_from(["stop", "quarantine"]),
    at_once=st.sampled_from([1, 70, 1 << 20]),
)
# A number in quotes among others, read with a line that is refused.
@example(
    lines=[
        f'{{"t":{SECOND}.0,"o":1,"h":1,"l":1,"c":1e999,"v":1}}',
        f'{{"t":"{SECOND + 60}.0","o":1,"h":1,"l":1,"c":1,"v":1}}',
        f'{{"t":{SECOND + 120}.0,"o":1,"h":1,"l":1,"c":1,"v":1}}',
    ],
    on_error="quarantine",
    at_once=1,
)
async def test_any_json_file_is_read_alike_in_blocks_of_any_size(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str],
    on_error: str,
    at_once: int,
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(lines))
    whole = await check(path, on_error=on_error)
    monkeypatch.setattr(text_files, "_SEARCHED_AT_ONCE", at_once)
    assert await check(path, on_error=on_error) == whole
    path.write_text("[" + ",".join(line for line in lines if _is_value(line)) + "]")
    await check(path, on_error=on_error)


def _is_value(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
async def test_an_empty_time_is_not_midnight(tmp_path: Path, on_error: str) -> None:
    path = tmp_path / "times.csv"
    path.write_text(dated(["900", "", "153000", " "]))
    found = await check(path, timezone="UTC", on_error=on_error)
    if on_error == "stop":
        assert found["refused"]
        assert found["stored"] == []
    else:
        assert times_of(found) == ["00:09:00", "15:30:00"]
        assert len(found["aside"]) == 2


async def test_a_column_of_times_that_is_empty_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "days.csv"
    path.write_text(dated([""]))
    assert times_of(await check(path, timezone="UTC")) == ["00:00:00"]


@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
async def test_a_moment_that_is_no_number_is_not_1970(tmp_path: Path, on_error: str) -> None:
    path = tmp_path / "floats.parquet"
    stamps = [float(SECOND), float("nan"), float(SECOND + 60)]
    prices = {name: ["1"] * 3 for name in ("open", "high", "low", "close")}
    pq.write_table(pa.table({"timestamp": stamps, **prices, "volume": [1, 2, 3]}), path)
    found = await check(path, on_error=on_error)
    if on_error == "stop":
        assert found["refused"]
    else:
        assert minutes(found) == ["2024-01-02 00:00:00", "2024-01-02 00:01:00"]
        assert len(found["aside"]) == 1


@pytest.mark.parametrize("digits", [(18, 4), (20, 5), (38, 10)])
async def test_a_missing_price_of_a_narrow_decimal_is_missing(
    tmp_path: Path, digits: tuple[int, int]
) -> None:
    path = tmp_path / "decimals.parquet"
    prices = pa.array([Decimal(1), None, Decimal(1)], pa.decimal128(*digits))
    columns = dict.fromkeys(("open", "high", "low", "close"), prices)
    stamps = [SECOND, SECOND + 60, SECOND + 120]
    pq.write_table(pa.table({"timestamp": stamps, **columns, "volume": [1, 2, 3]}), path)
    assert minutes(await check(path)) == ["2024-01-02 00:00:00", "2024-01-02 00:02:00"]


@pytest.mark.parametrize("block_rows", [1, 2, WHOLE])
async def test_two_markets_of_a_symbol_are_refused_before_anything_is_stored(
    tmp_path: Path, block_rows: int
) -> None:
    path = tmp_path / "markets.csv"
    owners = ["A,KOSPI"] * 2 + ["B,KOSPI"] * 6 + ["A,KOSDAQ"] * 2
    rows = (f"{SECOND + 60 * n},{owner},1,1,1,1,1" for n, owner in enumerate(owners))
    path.write_text("t,symbol,market,o,h,l,c,v\n" + "\n".join(rows) + "\n")
    options = ImportOptions(create=Market.KOSPI, block_rows=block_rows)
    async with Storage.in_memory() as storage:
        for _ in range(2):  # the same command again does not go on behind it
            with pytest.raises(InvalidData, match=r"line 10, column 'market': is not KOSPI as"):
                await ImportCandles(storage).run(path, Timeframe.M1, options=options)
            assert await storage.candles.list_keys() == []


async def test_rows_are_set_aside_once_whatever_blocks_the_file_is_read_in(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    prices = ["1,1,1,1", "1,1,2,1", "1,1,1,x"] * 3  # sound, contradicting itself, unreadable
    rows = (f"{SECOND + 60 * n},{each},1\n" for n, each in enumerate(prices))
    path.write_text("t,o,h,l,c,v\n" + "".join(rows))
    async with Storage.in_memory() as storage:
        aside = []
        for size in (WHOLE, 2, 3, WHOLE):
            options = ImportOptions(create=Market.KOSPI, block_rows=size, on_error="quarantine")
            await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
            found = await Quarantine(storage).review()
            aside.append(sorted((row.row, row.reasons, str(row.came_as)) for row in found))
        assert len(aside[0]) == 6
        assert aside == [aside[0]] * 4


@pytest.mark.parametrize("block_rows", [1, 2, WHOLE])
async def test_symbols_are_told_in_one_order(tmp_path: Path, block_rows: int) -> None:
    path = tmp_path / "symbols.csv"
    rows = (f"{SECOND},{symbol},1,1,1,1,1\n" for symbol in "CABD")
    path.write_text("t,symbol,o,h,l,c,v\n" + "".join(rows))
    options = ImportOptions(create=Market.KOSPI, block_rows=block_rows)
    async with Storage.in_memory() as storage:
        result = await ImportCandles(storage).run(path, Timeframe.M1, options=options)
        assert result.created_symbols == ("A", "B", "C", "D")


async def test_the_text_of_a_row_that_cannot_be_read_keeps_its_quotes(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(f't,o,h,l,c,v\n{SECOND},"1,000.5","1,000.5",1,x,"5 ""lots"""\n')
    (_, _, came_as), *_ = (await check(path, on_error="quarantine"))["aside"]
    assert came_as == str({"text": f'{SECOND},"1,000.5","1,000.5",1,x,"5 ""lots"""'})
