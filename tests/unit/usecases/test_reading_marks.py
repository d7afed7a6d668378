"""Points and commas in numbers: what could be either is refused, what is certain is read."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions

KEY = SeriesKey("005930", Timeframe.M1)
ALL = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
Rows = list[tuple[str, str]]
"""Prices and volumes as they are written."""


def written(path: Path, rows: Rows, separator: str) -> None:
    quote = '"' if separator == "," else ""
    lines = [
        separator.join(
            [str(1_704_153_600 + 60 * n), *[f"{quote}{p}{quote}"] * 4, f"{quote}{v}{quote}"]
        )
        for n, (p, v) in enumerate(rows)
    ]
    path.write_text("\n".join([separator.join("tohlcv"), *lines]) + "\n")


async def imported(
    storage: Storage, path: Path, rows: Rows, separator: str, **options: Any
) -> list[tuple[Decimal, int]]:
    written(path, rows, separator)
    how = ImportOptions(create=Market.KOSPI, layout=Layout(delimiter=separator), **options)
    await ImportCandles(storage).run(path, KEY.timeframe, symbol=KEY.symbol, options=how)
    return [(c.close, c.volume) for c in await storage.candles.get_range(KEY, *ALL)]


DOUBTFUL: dict[str, Rows] = {
    "prices with three digits behind a point": [("78.500", "1"), ("79.125", "2")],
    "a volume with three digits behind a point": [("78500", "1.000"), ("78600", "12")],
    "points in both": [("78.500", "1.000"), ("78.600", "999")],
    "prices with three digits behind a comma": [("78,500", "1"), ("79,125", "2")],
    "a volume with a comma": [("78500", "1,234")],
    "a point and a comma, neither certain": [("78.500", "1,234")],
    "some without a mark": [("78", "1"), ("78.500", "2"), ("1500", "1")],
    "beside an empty field": [("78.500", "-"), ("", "1.000")],
}


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("name", DOUBTFUL)
async def test_what_could_be_either_is_refused(
    storage: Storage, tmp_path: Path, name: str, separator: str
) -> None:
    path = tmp_path / "p.txt"
    with pytest.raises(InvalidData, match="could have a decimal"):
        await imported(storage, path, DOUBTFUL[name], separator)
    assert await storage.candles.count(KEY) == 0


CERTAIN: dict[str, tuple[Rows, str, int]] = {
    "two decimals": ([("78.50", "1000")], "78.50", 1000),
    "four decimals": ([("78.5000", "1000")], "78.5", 1000),
    "one decimal": ([("78.5", "1000")], "78.5", 1000),
    "two decimal digits behind a comma": ([("78,50", "1.000")], "78.50", 1000),
    "two groups of points": ([("78.500", "1.234.567")], "78500", 1_234_567),
    "two groups of commas": ([("78.500", "1,234,567")], "78.5", 1_234_567),
    "both marks": ([("1.078,500", "1.000")], "1078.5", 1000),
    "more than three digits before a point": ([("78.500", "1"), ("1078.500", "1")], "78.5", 1),
    "a nought before the point": ([("78.500", "1"), ("0.500", "1")], "78.5", 1),
    "three decimals beside two": ([("78.500", "1"), ("78.25", "1")], "78.5", 1),
    "no marks": ([("78500", "1000")], "78500", 1000),
}


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("block_rows", [1, 100])
@pytest.mark.parametrize("name", CERTAIN)
async def test_what_some_number_shows_holds_for_all(
    storage: Storage, tmp_path: Path, name: str, block_rows: int, separator: str
) -> None:
    """Wherever in the file it stands: nothing is stored before it was found."""
    rows, close, volume = CERTAIN[name]
    found = await imported(storage, tmp_path / "p.txt", rows, separator, block_rows=block_rows)
    assert found[0] == (Decimal(close), volume)


async def test_a_mark_may_be_shown_far_behind(storage: Storage, tmp_path: Path) -> None:
    rows = [("78.500", "1")] * 90_000 + [("78.25", "1")]
    found = await imported(storage, tmp_path / "p.txt", rows, ";")
    assert (tmp_path / "p.txt").stat().st_size > 2 << 20, "more than one piece"
    assert {close for close, _ in found} == {Decimal("78.5"), Decimal("78.25")}


async def test_a_quoted_comma_groups_thousands_if_no_number_shows_otherwise(
    storage: Storage, tmp_path: Path
) -> None:
    rows = [("78,500", "1")] * 90_000 + [("78,5", "1")]
    found = await imported(storage, tmp_path / "p.csv", rows, ",")
    assert {close for close, _ in found} == {Decimal("78.5")}


@pytest.mark.parametrize(
    ("rows", "close", "volume"),
    [
        ([("78.500", "1000"), ("79.125", "1")], "78.5", 1000),
        ([("78.500", "1.000")], "78.5", 1),
        ([("78,500", "1,234")], "78500", 1234),
    ],
)
async def test_where_commas_separate_fields_points_are_decimal(
    storage: Storage, tmp_path: Path, rows: Rows, close: str, volume: int
) -> None:
    found = await imported(storage, tmp_path / "p.csv", rows, ",")
    assert found[0] == (Decimal(close), volume)


TOLD: list[tuple[dict[str, str], Rows, str, int]] = [
    ({"decimal": "."}, [("78.500", "1")], "78.5", 1),
    ({"decimal": ","}, [("78.500", "1.000")], "78500", 1000),
    ({"thousands": "."}, [("78.500", "1.000")], "78500", 1000),
    ({"thousands": ","}, [("78.500", "1,000")], "78.5", 1000),
    ({"thousands": " "}, [("78,500", "1 000")], "78.5", 1000),
    ({"thousands": "'"}, [("1'078.500", "1'000")], "1078.5", 1000),
    ({"thousands": "'", "decimal": ","}, [("1'078,500", "1'000")], "1078.5", 1000),
    ({"thousands": " "}, [("78 500", "1 000")], "78500", 1000),
]


@pytest.mark.parametrize("case", range(len(TOLD)))
async def test_the_caller_tells(storage: Storage, tmp_path: Path, case: int) -> None:
    options, rows, close, volume = TOLD[case]
    found = await imported(storage, tmp_path / "p.txt", rows, ";", **options)
    assert found == [(Decimal(close), volume)]


@pytest.mark.parametrize(
    "options", [{"thousands": "x"}, {"thousands": ".", "decimal": "."}, {"thousands": ""}]
)
def test_marks_that_nobody_writes_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(InvalidData, match="thousands"):
        ImportOptions(**options)  # type: ignore[arg-type]
