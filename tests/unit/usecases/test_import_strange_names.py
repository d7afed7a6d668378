"""A file is imported whatever bytes its name has."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.readers.text_files import shown
from jts_storage.usecases.import_candles import ImportOptions
from jts_storage.usecases.import_files import ImportFiles
from jts_storage.usecases.quarantine import Quarantine
from tests.unit.usecases.outcomes import SECOND

ROWS = [(SECOND, "1"), (SECOND + 60, "x")]
KEY = SeriesKey("A", Timeframe.M1)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems have no names that are no text"
)


def written(folder: Path, suffix: bytes) -> Path:
    path = folder / os.fsdecode(b"k\xff" + suffix)
    columns = ["timestamp", "open", "high", "low", "close", "volume"]
    rows: list[list[Any]] = [[stamp, *["1"] * 3, close, 1] for stamp, close in ROWS]
    if suffix == b".csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in [columns, *rows]))
    elif suffix == b".jsonl":
        names = [name[0] for name in columns]
        lines = [json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows]
        path.write_text("".join(lines))
    else:
        table = pa.table({name: [row[n] for row in rows] for n, name in enumerate(columns)})
        write = pq.write_table if suffix == b".parquet" else feather.write_feather
        with path.open("wb") as file:
            write(table, file)
    return path


@pytest.mark.parametrize("suffix", [b".csv", b".jsonl", b".parquet", b".feather"])
async def test_a_name_that_is_no_utf8_is_shown_with_escapes(tmp_path: Path, suffix: bytes) -> None:
    path = written(tmp_path, suffix)
    options = ImportOptions(create=Market.KOSPI, on_error="quarantine")
    async with Storage.in_memory() as storage:
        found = ImportFiles(storage)
        result = await found.run([path], Timeframe.M1, symbol="A", options=options)
        assert (result.total.inserted, result.total.quarantined) == (1, 1)
        (row,) = await Quarantine(storage).review()
        assert row.source == shown(path) == f"{tmp_path}/k\\xff{suffix.decode()}"
        assert await storage.candles.count(KEY) == 1


def test_a_usual_name_is_shown_as_it_is() -> None:
    assert shown(Path("/home/가격/it's \\xff.csv")) == "/home/가격/it's \\xff.csv"
