"""What cannot be read says nothing of how the rest is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, Storage, Timeframe
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine
from tests.runs import every_value_by_day
from tests.unit.usecases.outcomes import SECOND, outcome, quarantined


def semicolons(*rows: tuple[str, str]) -> str:
    lines = (f"{SECOND + 60 * n};{p};{p};{p};{p};{v}\n" for n, (p, v) in enumerate(rows))
    return "t;o;h;l;c;v\n" + "".join(lines)


BROKEN = ["12.03.2024", "1.2.3", "1,2,3", "1,23.4.5", "5.6,7,8", "1.234.56", "1.5.", "1 .5", "..5"]


@pytest.mark.parametrize(("at", "broken"), every_value_by_day([0, 1, 2], [*BROKEN, "1'078.50"]))
async def test_what_is_no_number_shows_no_decimal_mark(
    tmp_path: Path, broken: str, at: int
) -> None:
    path = tmp_path / "p.csv"
    rows = [("78.500", "1"), ("1.078,5", "2")]
    path.write_text(semicolons(*rows[:at], (broken, "3"), *rows[at:]))
    found = await quarantined(path)
    assert [close for _, close, _ in found["stored"]] == ["7.85E+4", "1078.5"]
    assert [line for line, _ in found["aside"]] == [at + 2]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_price_before_what_is_no_number_is_not_stored_otherwise(
    tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(semicolons(("78.500", "1"), (broken, "2"), ("1.078,5", "3")))
    found = await outcome(path, 1)
    assert "line 3" in found["refused"]
    assert [close for _, close, _ in found["stored"]] == ["7.85E+4"]


@pytest.mark.parametrize("broken", BROKEN)
async def test_beside_what_is_no_number_a_doubtful_one_is_refused(
    tmp_path: Path, broken: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(semicolons(("78.500", "1"), (broken, "2")))
    found = await outcome(path, on_error="quarantine")
    assert (found["stored"], found["aside"]) == ([], [])
    assert "'78.500' could have a decimal point" in found["refused"]


async def test_two_marks_between_thousands_make_no_number(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(semicolons(("1 234.567", "1"), ("1.234 567", "2"), ("78,5", "3")))
    found = await quarantined(path)
    assert [close for _, close, _ in found["stored"]] == ["78.5"]
    assert [line for line, _ in found["aside"]] == [2, 3]


@pytest.mark.parametrize("blank", [("78", "1 234"), ("1 078", "1234")])
@pytest.mark.parametrize("is_first", [True, False])
async def test_blanks_group_thousands_beside_a_comma_anywhere(
    tmp_path: Path, blank: tuple[str, str], is_first: bool
) -> None:
    path = tmp_path / "p.csv"
    rows = [blank, ("78,5", "5")]
    path.write_text(semicolons(*(rows if is_first else rows[::-1])))
    found = await quarantined(path)
    assert found["aside"] == []
    assert sorted(volume for *_, volume in found["stored"]) == [5, 1234]
    text = path.read_text().replace(f"{SECOND + 60 * is_first};78,5", "x;78,5")
    path.write_text(text)
    assert [v for *_, v in (await quarantined(path))["stored"]] == [1234]


@pytest.mark.parametrize("price", ["1.5", "78.50", "0.785"])
async def test_a_point_is_no_decimal_mark_beside_decimal_commas(tmp_path: Path, price: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(semicolons(("78,5", "1"), (price, "2"), ("79,5", "3")))
    found = await quarantined(path, decimal=",")
    assert [volume for *_, volume in found["stored"]] == [1, 3]
    assert [line for line, _ in found["aside"]] == [3]


async def test_blanks_alone_show_no_decimal_comma(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(semicolons(("78.500", "1 234")))
    assert "could have a decimal point" in (await outcome(path))["refused"]


@pytest.mark.parametrize(
    ("price", "volume"),
    [
        ("1", "99999999999999999999.5"),
        ("1", "18446744073709551615.5"),
        ("99999999999999999.55555", "1"),
    ],
)
@pytest.mark.parametrize("rounds", [True, False])
async def test_what_is_too_large_is_set_aside_with_its_fraction(
    tmp_path: Path, price: str, volume: str, rounds: bool
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(semicolons(("1", "1"), (price, volume)))
    how: dict[str, Any] = {"round_prices": True, "volume": "round"} if rounds else {}
    found = await quarantined(path, **how)
    assert (len(found["stored"]), [line for line, _ in found["aside"]]) == (1, [3])
    refused = (await outcome(path, **how))["refused"]
    assert "line 3" in refused and "round" not in refused


@pytest.mark.parametrize(
    ("before", "end", "encoding"),
    every_value_by_day(
        [0, 1, 3], ["\n", "\r\n"], ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"]
    ),
)
async def test_blank_lines_before_a_header_are_no_rows(
    tmp_path: Path, encoding: str, end: str, before: int
) -> None:
    path = tmp_path / "p.csv"
    good = [f"{SECOND + 60 * n},1,1,1,1,{n}" for n in range(2)]
    lines = [*[""] * before, "t,o,h,l,c,v", "", good[0], "1,2", "x,1,1,1,1,1", good[1], ""]
    path.write_bytes(end.join(lines).encode(encoding))
    given = encoding if encoding in ("utf-16-be", "utf-32") else None
    found = await quarantined(path, layout=Layout(encoding=given))
    assert [volume for *_, volume in found["stored"]] == [0, 1]
    assert [line for line, _ in found["aside"]] == [before + 4, before + 5]


@pytest.mark.parametrize(
    ("name", "text", "lines"),
    [
        (
            "p.csv",
            "t;o;h;l;c;v;note\n{};1,5;1,5;1,5;1,5;1;\n{};1,5;1,5;1,5;12.3.4;1 000;'a'\n"
            '{};"1,5";1,5;1,5;1,5;1.5.;"b\nc"\n',
            {3: "close '12.3.4'", 4: "volume '1.5.'"},
        ),
        (
            "p.jsonl",
            '{{"t":{},"o":1,"h":1,"l":1,"c":1,"v":1}}\n'
            '{{"t":{}, "o":1.50,"h":1,"l":1,"c":1,"v":-1}}\n'
            '{{"note":"é","t":{},"o":1,"h":1,"l":1,"c":1,"v":1e40}}\n',
            {2: "volume -1", 3: "cannot 1e40"},
        ),
    ],
)
async def test_a_row_that_cannot_be_read_waits_as_it_is_written(
    tmp_path: Path, name: str, text: str, lines: dict[int, str]
) -> None:
    path = tmp_path / name
    path.write_text(text.format(SECOND, SECOND + 60, SECOND + 120))
    written = path.read_text().split("\n")
    ends = {4: "\n".join(written[3:5])} if name == "p.csv" else {}
    async with Storage.in_memory() as storage:
        for size in (1, 1_000):
            options = ImportOptions(
                create=Market.KOSPI, on_error="quarantine", resume=False, block_rows=size
            )
            result = await ImportCandles(storage).run(
                path, Timeframe.M1, symbol="A", options=options
            )
            assert result.quarantined == 2
        aside = await Quarantine(storage).review()
    assert {row.line: row.came_as for row in aside} == {
        line: {"text": ends.get(line, written[line - 1])} for line in lines
    }
    for row in aside:
        assert row.line is not None
        field, value = lines[row.line].split(" ", 1)
        assert row.reasons[0].startswith(field)
        assert value in row.reasons[0]
