"""Lines of CSV are numbered as an editor numbers them, blank ones and breaks in quotes included."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine
from tests.unit.usecases.outcomes import SECOND

HEADER = "t,o,h,l,c,v\n"
KEY = SeriesKey("A", Timeframe.M1)
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def row(minute: int, close: str = "1") -> str:
    return f"{SECOND + 60 * minute},1,1,1,{close},{minute}\n"


async def imported(path: Path, **more: Any) -> tuple[list[int], list[tuple[int | None, str]]]:
    """The minutes stored, and the line and text of each row in the quarantine."""
    options = ImportOptions(create=Market.KOSPI, **{"on_error": "quarantine", **more})
    async with Storage.in_memory() as storage:
        await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
        stored = [candle.volume for candle in await storage.candles.get_range(KEY, *ALWAYS)]
        kept = await Quarantine(storage).review()
    return stored, [(row.line, row.came_as["text"]) for row in kept]


@pytest.mark.parametrize("blanks", ["  ", "\t", "\ufeff  ", "\n \n", "\t\t\t\t\t"])
@pytest.mark.parametrize("broken", [row(1, "x"), "7,7\n"])
@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-16"), ("\t", "utf-8")]
)
async def test_blanks_before_the_header_move_no_line(
    tmp_path: Path, blanks: str, delimiter: str, broken: str, encoding: str
) -> None:
    path = tmp_path / "p.csv"
    text = (HEADER + row(0) + broken + row(2)).replace(",", delimiter)
    path.write_bytes(f"{blanks}\n{text}".encode(encoding))
    line = 4 + blanks.count("\n")
    text = broken.strip().replace(",", delimiter)
    assert await imported(path) == ([0, 2], [(line, text)])
    with pytest.raises(InvalidData, match=f"line {line}, "):
        await imported(path, on_error="stop")


@pytest.mark.parametrize(
    "header",
    [
        't,"Open\n(KRW)",h,l,c,v\n',
        't;"Open\n(KRW)";h;l;c;"Trade \n Volume"\n',
        '"Date\nTime"\to\th\tl\tc\tv\n',
        ' \n\n"t\n\n",o,h,l,c,v\n',
        't|"Open, High;\n;;;;"|h|l|c|v\n',
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("broken", [row(1, "x"), "7,7\n", '"7\n7",7\n'])
async def test_a_header_with_line_breaks_in_quotes_is_read(
    tmp_path: Path, header: str, line_end: str, broken: str
) -> None:
    path = tmp_path / "p.csv"
    delimiter = header[header.rindex("v") - 1] if header.endswith("v\n") else ";"
    rows = (row(0) + broken + row(2)).replace(",", delimiter)
    path.write_bytes((header + rows).replace("\n", line_end).encode())
    layout = Layout(columns={"open": "Open, High; ;;;;"} if "High" in header else {})
    line = header.count("\n") + 2
    text = broken[:-1].replace(",", delimiter)
    expected = [0, 2], [(line, text.replace("\n", line_end))]
    assert await imported(path, layout=layout) == expected
    with pytest.raises(InvalidData, match=f"line {line}, "):
        await imported(path, layout=layout, on_error="stop")


@pytest.mark.parametrize("blanks", ["   ", "\t", " \n\t\n "])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
async def test_lines_of_blanks_are_left_out_as_empty_ones_are(
    tmp_path: Path, blanks: str, line_end: str, on_error: str
) -> None:
    path = tmp_path / "p.csv"
    text = HEADER + row(0) + blanks + "\n" + row(1) + row(2) + blanks
    for end in ("", "\n"):
        path.write_bytes((text + end).replace("\n", line_end).encode())
        assert await imported(path, on_error=on_error) == ([0, 1, 2], [])


@pytest.mark.parametrize("broken", [row(1, "x"), "7,7\n"])
async def test_lines_of_blanks_move_no_line_behind_them(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "p.csv"
    text = HEADER + row(0) + "  \n\n \n" + broken + "  \n" + row(2)
    path.write_text(text)
    with pytest.raises(InvalidData, match="line 6, "):
        await imported(path, on_error="stop")
    path.write_text(text + "8,8\n")
    kept = [(6, broken.strip()), (9, "8,8")]
    assert await imported(path) == ([0, 2], kept)
    assert await imported(path, block_rows=1) == ([0, 2], kept)
