"""CSV files with lines above their header, with headers that lack a name, and newest first."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage._runtime.surface import use_command_line
from jts_storage.cli.import_reports import print_import
from jts_storage.errors import InvalidData
from jts_storage.readers import file_source
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.import_files import ImportFiles
from jts_storage.usecases.quality import Action, QualityPolicy, Rule
from jts_storage.usecases.quarantine import Quarantine
from jts_storage.usecases.results import ImportResult, Tally
from tests.unit.usecases.imported import imported

HEADER = "t,o,h,l,c,v\n"
KEY = SeriesKey("A", Timeframe.M1)
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
TITLES = {
    "a URL": "https://www.cryptodatadownload.com\n",
    "a title with delimiters": "Prices, from then, till now\n",
    "a quote": 'Prices of 24" screens\n',
    "several": "Prices\n\nof,A\n",
}


def row(minute: int, close: object = 1) -> str:
    return f"{1704153600 + 60 * minute},1,1,1,{close},{minute}\n"


async def minutes(storage: Storage) -> list[int]:
    return [candle.volume for candle in await storage.candles.get_range(KEY, *ALWAYS)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("title", TITLES)
async def test_lines_above_the_header_are_left_out(
    storage: Storage, tmp_path: Path, title: str, encoding: str, end: str
) -> None:
    path = tmp_path / "p.csv"
    above = TITLES[title]
    text = above + HEADER + row(0) + "x\n" + row(2, "x") + row(3)
    path.write_bytes(text.replace("\n", end).encode(encoding))
    skipped = above.count("\n")
    layout = Layout(skip_lines=skipped)
    with pytest.raises(InvalidData, match=f"line {skipped + 3}"):
        await imported(storage, path, layout=layout)
    result = await imported(storage, path, layout=layout, on_error="quarantine")
    assert (result.read, result.quarantined) == (4, 2)
    assert await minutes(storage) == [0, 3]
    lines = [kept.line for kept in await Quarantine(storage).review()]
    assert lines == [skipped + 3, skipped + 4]


async def test_lines_above_rows_without_a_header(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("Prices\n" + row(0) + row(1) + row(2, "x"))
    columns = {name: str(n) for n, name in enumerate(("timestamp", *NAMES), 1)}
    layout = Layout(skip_lines=1, header=False, columns=columns)
    with pytest.raises(InvalidData, match="line 4, column '5'"):
        await imported(storage, path, layout=layout)
    await imported(storage, path, layout=layout, on_error="quarantine")
    assert await minutes(storage) == [0, 1]


NAMES = ("open", "high", "low", "close", "volume")


@pytest.mark.parametrize("lines", [-1, 1.5, "1"])
def test_a_number_of_lines_is_checked(lines: Any) -> None:
    with pytest.raises(InvalidData, match="skip_lines"):
        Layout(skip_lines=lines)


async def test_other_files_have_no_lines_above(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("{}\n")
    with pytest.raises(InvalidData, match="'skip_lines': is for CSV files only"):
        await imported(storage, path, layout=Layout(skip_lines=1))


async def test_more_lines_than_there_are(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER)
    with pytest.raises(InvalidData, match="is empty behind the 3 lines that are skipped"):
        await imported(storage, path, layout=Layout(skip_lines=3))


def test_an_import_goes_on_only_with_the_same_lines_left_out() -> None:
    assert ImportOptions().described() != ImportOptions(layout=Layout(skip_lines=1)).described()


@pytest.mark.parametrize("command_line", [False, True])
@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize("title", TITLES)
async def test_the_message_names_how_many_lines_stand_above(
    storage: Storage, tmp_path: Path, title: str, delimiter: str, command_line: bool
) -> None:
    path = tmp_path / "p.csv"
    rows = HEADER + row(0) + row(1)
    path.write_text(TITLES[title] + rows.replace(",", delimiter))
    if command_line:
        use_command_line()
    count = TITLES[title].count("\n")
    option = f"--skip-lines {count}" if command_line else f"Layout(skip_lines={count})"
    with pytest.raises(InvalidData) as error:
        await imported(storage, path)
    assert f"; {option} leaves it out" in str(error.value)
    if not command_line:
        await imported(storage, path, layout=Layout(skip_lines=count))
        assert await minutes(storage) == [0, 1]


async def test_rows_that_fit_their_header_name_no_lines_above(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    for text in ("t,o,h,l,settle,v\n" + row(0) + row(1), HEADER + row(0) + "1,2\n" + row(1)):
        path.write_text(text)
        with pytest.raises(InvalidData) as error:
            await imported(storage, path)
        assert "skip_lines" not in str(error.value)


INDEXED = {
    "a count in front": (HEADER, "7,", "", {"timestamp": 2, "open": 3, "volume": 7}),
    "moments in front": ("o,h,l,c,v\n", "", "", {"timestamp": 1, "open": 2, "volume": 6}),
    "a delimiter behind": (HEADER, "", ",", {"timestamp": 1, "open": 2, "volume": 6}),
}


@pytest.mark.parametrize("case", INDEXED)
async def test_a_header_that_lacks_a_name_is_answered_with_the_columns(
    storage: Storage, tmp_path: Path, case: str
) -> None:
    header, front, behind, _ = INDEXED[case]
    path = tmp_path / "p.csv"
    path.write_text(header + "".join(f"{front}{row(n)[:-1]}{behind}\n" for n in range(2)))
    with pytest.raises(InvalidData, match="Every row has one field more than the header") as error:
        await imported(storage, path)
    said = str(error.value).partition("; say ")[2].rstrip(".")
    layout: Layout = eval(said, {"Layout": Layout})
    numbers = {name: str(number) for name, number in INDEXED[case][3].items()}
    assert numbers.items() <= layout.columns.items()
    await imported(storage, path, layout=layout)
    assert await minutes(storage) == [0, 1]


async def test_a_header_that_lacks_a_name_on_the_command_line(
    storage: Storage, tmp_path: Path
) -> None:
    use_command_line()
    path = tmp_path / "p.csv"
    path.write_text("Title\nt,o,h,l,Last,v\n" + "".join(f"7,{row(n)}" for n in range(2)))
    with pytest.raises(InvalidData) as error:
        await imported(storage, path, layout=Layout(skip_lines=1, columns={"close": "Last"}))
    assert (
        "say --skip-lines 2 --no-header --column timestamp=2 --column open=3 --column high=4 "
        "--column low=5 --column close=6 --column volume=7."
    ) in str(error.value)


@pytest.mark.parametrize("block_rows", [1, 2, 100])
async def test_a_file_from_newest_to_oldest_is_known(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_rows: int
) -> None:
    monkeypatch.setattr(file_source, "READ_BYTES", 64)
    path = tmp_path / "p.csv"
    for name, order, is_newest_first in (
        ("descending", [4, 3, 3, 1], True),
        ("mixed", [4, 1, 3, 2], False),
        ("ascending", [1, 2, 3], False),
        ("one", [1], False),
    ):
        path = tmp_path / f"{name}.csv"
        path.write_text(HEADER + "".join(map(row, order)))
        result = await imported(storage, path, block_rows=block_rows)
        assert result.newest_first is is_newest_first, name
    for names, expected in ((["descending"], True), (["descending", "mixed"], False)):
        files = await ImportFiles(storage).run(
            [tmp_path / f"{name}.csv" for name in names], Timeframe.M1, symbol="A"
        )
        assert files.total.newest_first is expected


async def test_series_from_newest_to_oldest_in_one_file(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{symbol},{row(n)}" for n in (2, 1, 0) for symbol in "AB"]
    path.write_text(f"symbol,{HEADER}" + "".join(rows))
    options = ImportOptions(create=Market.KOSPI)
    result = await ImportCandles(storage).run(path, Timeframe.M1, options=options)
    assert result.newest_first
    assert result.broken["order"] == 4


def test_a_count_of_an_earlier_release_says_nothing_of_the_order() -> None:
    stored = Tally(read=2, broken={"order": 1}).to_json()
    assert ImportResult.of(Tally.from_json(stored), source="").newest_first
    del stored["forwards"]
    assert not ImportResult.of(Tally.from_json(stored), source="").newest_first


@pytest.mark.parametrize("names", [("A", "C"), ("C", "A"), ("A", "B", "C")])
async def test_a_file_of_one_row_has_no_order(
    storage: Storage, tmp_path: Path, names: tuple[str, ...]
) -> None:
    for name, order in (("A", [2, 1, 0]), ("B", [5, 4]), ("C", [7])):
        (tmp_path / f"{name}.csv").write_text(HEADER + "".join(map(row, order)))
    paths = [tmp_path / f"{name}.csv" for name in names]
    options = ImportOptions(create=Market.KOSPI)
    files = await ImportFiles(storage).run(paths, Timeframe.M1, symbol="A", options=options)
    assert files.total.newest_first


async def test_the_order_is_told_where_rows_are_rejected_for_something_else(
    storage: Storage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + "".join(row(n, 1 if n % 3 == 0 else "") for n in range(99, -1, -1)))
    result = await imported(storage, path)
    assert (result.rejected, result.broken["order"]) == (66, 33)
    print_import(result)
    told = capsys.readouterr().out
    assert "from newest to oldest (33 before the one above), and are stored by time" in told
    rejects = QualityPolicy(actions={Rule.ORDER: Action.REJECT})
    print_import(await imported(storage, path, policy=rejects))
    assert "stored by time" not in capsys.readouterr().out


async def test_files_of_a_folder_that_have_no_lines_are_read_beside_others(
    storage: Storage, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("Title\n" + HEADER + row(0))
    (tmp_path / "b.jsonl").write_text(
        json.dumps(dict(zip("tohlcv", (1704153660, 1, 1, 1, 1, 1), strict=True)))
    )
    options = ImportOptions(create=Market.KOSPI, layout=Layout(skip_lines=1))
    files = await ImportFiles(storage).run([tmp_path], Timeframe.M1, symbol="A", options=options)
    assert files.total.inserted == 2
    with pytest.raises(InvalidData, match="is for CSV files only"):
        await imported(storage, tmp_path / "b.jsonl", layout=Layout(skip_lines=1))
