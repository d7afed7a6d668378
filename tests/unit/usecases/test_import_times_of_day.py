"""Times of day that cannot be read, or in two ways, beside others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jts_storage import Timeframe
from jts_storage.readers.moments import settled
from jts_storage.readers.written import HOURS, SECONDS
from tests.runs import every_value_by_day
from tests.unit.usecases.outcomes import outcome, quarantined
from tests.unit.usecases.written import written


def dated(*times: str) -> str:
    rows = (f"2024010{n},{text},1,1,1,1,{n}\n" for n, text in enumerate(times, 1))
    return "date,time,o,h,l,c,v\n" + "".join(rows)


def moments(found: dict[str, Any]) -> list[str]:
    return [f"{moment:%d %H:%M}" for moment, *_ in found["stored"]]


@pytest.mark.parametrize(
    ("times", "on_error"),
    every_value_by_day(
        [("10", "11", "12"), ("", "5", "10"), ("0", "x", "5")], ["stop", "quarantine"]
    ),
)
async def test_times_of_one_or_two_digits_alone_are_refused(
    tmp_path: Path, times: tuple[str, ...], on_error: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(dated(*times))
    for size in (1, 1_000):
        found = await outcome(path, size, timezone="UTC", on_error=on_error)
        assert (found["stored"], found["aside"]) == ([], [])
        assert "column 'time': may be hours or minutes" in found["refused"]
        assert "time_format='%Y-%m-%d %H'" in found["refused"]


async def test_a_format_says_what_times_of_two_digits_are(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(dated("10", "11"))
    found = await outcome(path, timezone="UTC", time_format="%Y-%m-%d %H")
    assert moments(found) == ["01 10:00", "02 11:00"]


@pytest.mark.parametrize(
    ("times", "read"),
    [
        (("09:00", "10", "15:30"), ["01 09:00", "03 15:30"]),
        (("10", "09:00", "15:30"), ["02 09:00", "03 15:30"]),
        (("900", "05", "1530"), ["01 09:00", "03 15:30"]),
    ],
)
async def test_two_digits_are_no_hours_beside_other_times(
    tmp_path: Path, times: tuple[str, ...], read: list[str]
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(dated(*times))
    found = await quarantined(path, timezone="UTC")
    assert (moments(found), len(found["aside"])) == (read, 1)


@pytest.mark.parametrize(
    ("broken", "at"),
    every_value_by_day(["09:00x", "09:00 a", "9:00;", "09:00-x", "9:00"], [0, 1, 2]),
)
async def test_a_time_with_something_behind_it_says_nothing(
    tmp_path: Path, broken: str, at: int
) -> None:
    path = tmp_path / "p.csv"
    times = ["900", "1530"]
    path.write_text(dated(*times[:at], broken, *times[at:]))
    found = await quarantined(path, timezone="UTC")
    assert [moment[3:] for moment in moments(found)] == ["09:00", "15:30"]
    assert [line for line, _ in found["aside"]] == [at + 2]


@pytest.mark.parametrize("tail", [".5", "Z", " UTC", "+09:00", "-0500", " +09"])
async def test_a_fraction_and_an_offset_may_stand_behind_a_time(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(dated(f"09:00:00{tail}", f"15:30:00{tail}"))
    found = await quarantined(path, timezone="UTC")
    assert (len(found["stored"]), found["aside"], found["refused"]) == (2, [], None)


@pytest.mark.parametrize(
    ("timeframe", "at"), every_value_by_day([Timeframe.D1, Timeframe.M1], [0, 1, 2])
)
async def test_what_is_no_time_fills_no_column_of_times(
    tmp_path: Path, timeframe: Timeframe, at: int
) -> None:
    path = tmp_path / "p.csv"
    times = ["", ""]
    path.write_text(dated(*times[:at], "x", *times[at:]))
    found = await quarantined(path, timeframe=timeframe, timezone="UTC")
    assert len(found["stored"]) == 2
    assert [line for line, _ in found["aside"]] == [at + 2]


def as_format(kind: str, folder: Path, times: list[str]) -> Path:
    days = [f"2024-01-{n:02}" for n in range(1, len(times) + 1)]
    prices = {name: ["1"] * len(times) for name in ("open", "high", "low", "close", "volume")}
    table = pa.table({"date": days, "time": [time or None for time in times]} | prices)
    return written(table, folder, kind)


FORMATS = ["csv", "jsonl", "json", "parquet"]


@pytest.mark.parametrize(("kind", "at"), every_value_by_day(FORMATS, [0, 5, 11]))
async def test_one_time_that_cannot_be_read_fills_no_column_of_times(
    tmp_path: Path, kind: str, at: int
) -> None:
    path = as_format(kind, tmp_path, [*[""] * at, "25:99", *[""] * (11 - at)])
    found = await quarantined(path, timezone="UTC")
    days = [f"{n:02} 00:00" for n in range(1, 13) if n != at + 1]
    assert (moments(found), len(found["aside"]), found["refused"]) == (days, 1, None)
    assert "25:99" in (await outcome(path, timezone="UTC"))["refused"]


HINTS = [
    (["", "25:99", ""], "Layout(columns={'time': ''})"),
    (["", "9:30 AM", "10:00 PM"], "time_format='%Y-%m-%d %I:%M %p'"),
]


@pytest.mark.parametrize(
    ("kind", "on_error", "told"), every_value_by_day(FORMATS, ["stop", "quarantine"], HINTS)
)
async def test_many_that_cannot_be_read_may_be_times_of_another_form(
    tmp_path: Path, kind: str, on_error: str, told: tuple[list[str], str]
) -> None:
    times, hint = told
    path = as_format(kind, tmp_path, times)
    for size in (1, 1_000):
        found = await outcome(path, size, timezone="UTC", on_error=on_error)
        assert (found["stored"], found["aside"]) == ([], [])
        assert (
            f"is no time of day, and the column is empty otherwise, got '{times[1]}'"
            in (found["refused"])
        )
        assert hint in found["refused"]


@dataclass
class Blocks:
    """A source that is looked at block by block, as a long file is."""

    times: tuple[tuple[str, ...], ...]

    def columns(self, targets: Collection[str]) -> Iterable[Any]:
        for block in self.times:
            yield pa.table({"date": ["20240101"] * len(block), "time": list(block)})


@pytest.mark.parametrize("last", ["1000", "500", "93000"])
def test_the_longest_time_of_all_blocks_says_how_all_are_written(last: str) -> None:
    for blocks in ((("1000",), ("93000",), (last,)), (("93000",), ("1000",), (last,))):
        assert settled(Blocks(blocks)).width == SECONDS
    assert settled(Blocks((("1000",), ("500",)))).width == HOURS
