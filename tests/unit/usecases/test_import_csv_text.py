"""Text of CSV that is of another encoding than it seems, or longer than Python's reader takes."""

from __future__ import annotations

import csv
from contextvars import copy_context
from pathlib import Path
from typing import Literal

import pytest

from jts_storage import Market, Storage, Timeframe
from jts_storage._runtime.surface import layout_option, use_command_line
from jts_storage.errors import InvalidData
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine
from tests.unit.usecases.outcomes import SECOND

HEADER = "t,o,h,l,c,v,symbol\n"
ON_ERROR: tuple[Literal["stop", "quarantine"], ...] = ("stop", "quarantine")


def row(minute: int, symbol: str = "A") -> str:
    return f"{SECOND + 60 * minute},1,1,1,1,{minute},{symbol}\n"


async def imported(
    path: Path, on_error: Literal["stop", "quarantine"], encoding: str | None = None
) -> list[tuple[int | None, tuple[str, ...]]]:
    """The line and reasons of each row in the quarantine."""
    layout = Layout(encoding=encoding)
    options = ImportOptions(create=Market.KOSPI, on_error=on_error, layout=layout)
    async with Storage.in_memory() as storage:
        await ImportCandles(storage).run(path, Timeframe.M1, options=options)
        return [(row.line, row.reasons) for row in await Quarantine(storage).review()]


@pytest.mark.parametrize("on_error", ON_ERROR)
@pytest.mark.parametrize("broken", ["", "1,2,3\n"])
@pytest.mark.parametrize(
    ("before", "known", "other"), [(0, "cp949", "latin-1"), (4_000, "utf-8", "cp949")]
)
async def test_what_is_of_another_encoding_is_told_with_its_line_and_the_option(
    tmp_path: Path,
    on_error: Literal["stop", "quarantine"],
    broken: str,
    before: int,
    known: str,
    other: str,
) -> None:
    path = tmp_path / "p.csv"
    text = HEADER + "".join(row(minute) for minute in range(before)) + "\n"
    if on_error == "quarantine":
        text += broken
    path.write_bytes((text + row(5_000, "Nestlé S") + broken).encode("latin-1"))
    with pytest.raises(InvalidData) as refused:
        await imported(path, on_error)
    line = text.count("\n") + 1
    assert str(refused.value).startswith(f"{path}, line {line}: cannot be read as {known}. ")
    assert refused.value.remedy == f"Say which encoding it has: Layout(encoding={other!r})."
    if not broken:
        await imported(path, on_error, "latin-1")


@pytest.mark.parametrize("text", ["z" * 300_000, '"' + "z" * 200_000 + '\n""x"'])
async def test_a_long_text_beside_a_broken_row_is_passed_over(
    tmp_path: Path, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.csv"
    limit = csv.field_size_limit()
    head = HEADER.replace("\n", ",n\n") + row(0).replace("\n", f",{text}\n")
    path.write_text(head + "7,7\n" + row(1).replace("\n", ",\n"))
    line = head.count("\n") + 1
    assert await imported(path, "quarantine") == [(line, ("has 2 fields, not 8 as the header",))]
    with pytest.raises(InvalidData, match=f"line {line}, .* has 2 fields"):
        await imported(path, "stop")
    assert csv.field_size_limit() == limit, "of the whole process"
    assert not capfd.readouterr().err


async def test_a_text_too_long_in_many_lines_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.csv"
    text = '"' + "line\n" * 40_000 + '"'
    head = HEADER.replace("\n", ",n\n") + row(0).replace("\n", f",{text}\n")
    path.write_text(head + "7,7\n" + row(1).replace("\n", ",\n"))
    for on_error in ON_ERROR:
        with pytest.raises(InvalidData, match="line 2: cannot be read: field larger than"):
            await imported(path, on_error)
    assert not capfd.readouterr().err


def test_the_option_of_the_encoding_is_named_as_the_command_line_has_it() -> None:
    context = copy_context()
    context.run(use_command_line)
    assert context.run(layout_option, "encoding", "cp949") == "--encoding cp949"
