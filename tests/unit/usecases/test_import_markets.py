"""A row that cannot be read does not say of which market its symbol is."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from jts_storage import Market, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.results import ImportResult
from tests.unit.usecases.written import written

SECOND = 1_704_153_600
Row = tuple[str, str, str]
"""A symbol, its market and a close."""


def file_of(folder: Path, kind: str, rows: list[Row]) -> Path:
    symbols, markets, closes = (list(column) for column in zip(*rows, strict=True))
    ones = {name: ["1"] * len(rows) for name in ("open", "high", "low", "volume")}
    stamps = [str(SECOND + 60 * n) for n in range(len(rows))]
    named = {"timestamp": stamps, "symbol": symbols, "market": markets}
    table = pa.table(named | ones | {"close": closes})
    return written(table, folder, kind)


async def imported(path: Path, block_rows: int, on_error: str = "quarantine") -> ImportResult:
    options = ImportOptions(
        create=Market.KOSPI,
        block_rows=block_rows,
        on_error="quarantine" if on_error == "quarantine" else "stop",
    )
    async with Storage.in_memory() as storage:
        return await ImportCandles(storage).run(path, Timeframe.M1, options=options)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("block_rows", [1, 2, 1_000])
@pytest.mark.parametrize("at", [0, 2, 4])
async def test_a_row_that_cannot_be_read_is_set_aside_whatever_its_market(
    tmp_path: Path, kind: str, block_rows: int, at: int
) -> None:
    good: list[Row] = [("A", "KOSPI", "1"), ("B", "KOSDAQ", "1")] * 2
    path = file_of(tmp_path, kind, [*good[:at], ("A", "KOSDAQ", "x"), *good[at:]])
    result = await imported(path, block_rows)
    assert (result.inserted, result.quarantined) == (4, 1)
    with pytest.raises(InvalidData):
        await imported(path, block_rows, "stop")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("block_rows", [1, 2, 1_000])
async def test_two_markets_of_rows_that_can_be_read_are_refused(
    tmp_path: Path, kind: str, block_rows: int
) -> None:
    rows: list[Row] = [
        ("A", "KOSPI", "1"),
        ("A", "KOSDAQ", "x"),
        ("B", "KOSDAQ", "1"),
        ("A", "KONEX", "1"),
    ]
    path = file_of(tmp_path, kind, rows)
    place = {"csv": "line 5", "jsonl": "line 4", "parquet": "row 4"}[kind]
    with pytest.raises(InvalidData, match=f"{place}, column 'market': is not KOSPI as in other"):
        await imported(path, block_rows)


async def test_a_row_of_too_few_fields_says_nothing_of_its_market(tmp_path: Path) -> None:
    path = file_of(
        tmp_path, "csv", [("A", "KOSPI", "1"), ("A", "KOSDAQ", "x"), ("A", "KOSPI", "1")]
    )
    path.write_text(path.read_text() + f"{SECOND},A,KONEX\n")
    result = await imported(path, 2)
    assert (result.inserted, result.quarantined, result.broken) == (
        2,
        2,
        {"unreadable": 1, "fields": 1},
    )
