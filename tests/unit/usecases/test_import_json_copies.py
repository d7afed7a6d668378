"""JSON that is copied before it is read: what its copy must not lose, and what it takes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.results import ImportResult

SECOND = 1704153600
NAMES = ("timestamp", "open", "high", "low", "close", "volume")
NUMBERED = Layout(columns={name: str(n) for n, name in enumerate(NAMES, 1)})
ROW = [SECOND, 1, 1, 1, 1, 1]


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with Storage.in_memory() as storage:
        yield storage


async def run(storage: Storage, path: Path, **more: Any) -> ImportResult:
    options = ImportOptions(create=Market.KOSPI, **more)
    return await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)


def indexed(*index: object) -> str:
    """Columns of so many rows, each an object by index."""
    values = {"t": SECOND, **dict.fromkeys("ohlcv", 1)}
    columns = []
    for name, its in values.items():
        rows = ", ".join(f'"{key}": {its + n}' for n, key in enumerate(index))
        columns.append(f'"{name}": {{{rows}}}')
    return f"{{{', '.join(columns)}}}"


@pytest.mark.parametrize("on_error", ["quarantine", "stop"])
async def test_an_index_that_comes_twice_is_refused(
    storage: Storage, tmp_path: Path, on_error: Any
) -> None:
    path = tmp_path / "p.json"
    path.write_text(indexed(0, 1))
    assert (await run(storage, path)).read == 2
    path.write_text(indexed(0, 7, 7))
    with pytest.raises(InvalidData, match="column 't': '7' is specified twice"):
        await run(storage, path, on_error=on_error)


async def test_a_column_that_comes_twice_is_refused(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    whole = json.dumps({"t": [SECOND], **{name: [1] for name in "ohlcv"}})
    path.write_text(whole[:-1] + ', "c": [9]}')
    with pytest.raises(InvalidData, match=r"p\.json: 'c' is specified twice"):
        await run(storage, path)
    path.write_text(whole[:-1] + ', "note": [{"a": 1, "a": 2}]}')
    assert (await run(storage, path)).read == 1
