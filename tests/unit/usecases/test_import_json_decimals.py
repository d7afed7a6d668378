"""Numbers of JSON with many decimals are read as those of CSV are."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jts_storage import CandleSeries, Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers import text_files
from jts_storage.readers.adjusting import Adjusted
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.import_reading import Data

SECOND = 1704153600
NAMES = "tohlcv"
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
COMPUTED = 1.1 * 1.1  # 1.2100000000000002


async def adjusted(data: Data, **more: Any) -> tuple[Adjusted, CandleSeries]:
    async with Storage.in_memory() as storage:
        options = ImportOptions(create=Market.KOSPI, **more)
        importing = ImportCandles(storage)
        result = await importing.run(data, Timeframe.M1, symbol="A", options=options)
        key = SeriesKey("A", Timeframe.M1)
        return result.adjusted, await storage.candles.get_range(key, *ALWAYS)


def row(minute: int, close: object = 1, volume: object = 1) -> dict[str, Any]:
    return dict(zip(NAMES, (SECOND + 60 * minute, 1, 2, 1, close, volume), strict=True))


def csv_of(rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / "p.csv"
    lines = [",".join(map(str, its.values())) for its in rows]
    path.write_text("\n".join([",".join(NAMES), *lines]))
    return path


@pytest.mark.parametrize("shape", ["lines", "array", "columns"])
async def test_computed_floats_are_rounded_as_those_of_csv(
    tmp_path: Path, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_files, "_SEARCHED_AT_ONCE", 2_000)
    chance = random.Random(5)
    # The first rows have few decimals: pieces of the file are read in two ways.
    rows = [row(n, 1.5, 2) for n in range(100)]
    rows += [row(n, 1 + chance.random(), chance.random() * 10**9) for n in range(100, 300)]
    rows += [row(300, 1 + 2**-38, 3.123456789012), row(301, 1.5, 1e-22), row(302, 1.5, 2e5)]
    path = tmp_path / "p.json"
    texts = {
        "lines": "\n".join(map(json.dumps, rows)),
        "array": json.dumps(rows),
        "columns": json.dumps({name: [its[name] for its in rows] for name in NAMES}),
    }
    path.write_text(texts[shape])
    options = {"round_prices": True, "volume": "round"}
    changes, stored = await adjusted(path, **options)
    assert (changes, stored) == await adjusted(csv_of(rows, tmp_path), **options)
    assert len(stored) == 303
    assert changes.prices.values > 190


@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
@pytest.mark.parametrize(
    ("its", "option"),
    [({"close": COMPUTED}, "round_prices=True"), ({"volume": 3.123456789012}, "volume='round'")],
)
async def test_the_option_that_rounds_is_named(
    tmp_path: Path, its: dict[str, Any], option: str, on_error: Any
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([row(0), row(1, **its)]))
    with pytest.raises(InvalidData, match=f"row 2, column '{next(iter(its))[0]}'") as error:
        await adjusted(path, on_error=on_error)
    assert option in str(error.value)
    assert "quarantine" not in str(error.value)


@pytest.mark.parametrize("number", ["74107129902400361020.5e33", "1" * 40 + ".5", "1e20"])
async def test_numbers_that_are_far_too_large_are_not_wrapped_around(
    tmp_path: Path, number: str
) -> None:
    path = tmp_path / "p.json"
    lines = [json.dumps(row(0, COMPUTED)), json.dumps(row(1, 1, 7)).replace(" 7}", f" {number}}}")]
    path.write_text("\n".join(lines))
    with pytest.raises(InvalidData):
        await adjusted(path, round_prices=True, volume="round")
    _, stored = await adjusted(path, round_prices=True, volume="round", on_error="quarantine")
    assert [candle.volume for candle in stored] == [1]
