"""JSON of other shapes than an object a line: columns of pandas, and arrays of exchanges."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jts_storage import SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers import json_keys, json_source
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.quarantine import Quarantine
from tests.unit.usecases.imported import imported

KEY = SeriesKey("A", Timeframe.M1)
SECOND = 1704153600
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
KLINES = [
    [SECOND * 1000 + 60_000 * n, "0.0163", "0.80", "0.0157", "0.0157", "148", "x", 308]
    for n in range(3)
]
NUMBERED = {"timestamp": "1", "open": "2", "high": "3", "low": "4", "close": "5", "volume": "6"}


async def stored(storage: Storage) -> list[tuple[datetime, Decimal, int]]:
    found = await storage.candles.get_range(KEY, *ALWAYS)
    return [(candle.timestamp, candle.close, candle.volume) for candle in found]


def frame(rows: int = 3) -> pd.DataFrame:
    moments = pd.to_datetime([SECOND + 60 * n for n in range(rows)], unit="s", utc=True)
    values = {name: [1.5] * rows for name in ("open", "high", "low", "close")}
    return pd.DataFrame({"adj": 0.1, **values, "volume": range(1, rows + 1)}, index=moments)


EXPECTED = [(datetime.fromtimestamp(SECOND + 60 * n, UTC), Decimal("1.5"), n + 1) for n in range(3)]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("date_format", ["epoch", "iso"])
@pytest.mark.parametrize("is_index", [True, False])
@pytest.mark.filterwarnings("ignore:.*epoch.*")
async def test_columns_as_pandas_writes_them(
    storage: Storage, tmp_path: Path, indent: int | None, date_format: Any, is_index: bool
) -> None:
    path = tmp_path / "p.json"
    data = frame() if is_index else frame().reset_index(names="date")
    data.to_json(path, indent=indent, date_format=date_format)
    for source in (path, BytesIO(path.read_bytes())):
        assert (await imported(storage, source)).read == 3
        assert await stored(storage) == EXPECTED


async def test_columns_that_are_arrays(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    price = "90071992547.4093"  # which no float holds
    its = {"t": [SECOND, SECOND + 60], "v": [1, 2]}
    prices = ", ".join(f'"{name}": [{price}, {price}]' for name in "ohlc")
    path.write_text(f'{{{prices}, {json.dumps(its)[1:-1]}, "s": "ok"}}')
    await imported(storage, path)
    assert [close for _, close, _ in await stored(storage)] == [Decimal(price)] * 2


async def test_a_value_of_columns_has_the_number_of_its_row(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.json"
    data = {name: [1, 1, 1] for name in "ohlcv"} | {"t": [SECOND + 60 * n for n in range(3)]}
    path.write_text(json.dumps(data | {"c": [1, "x", 1]}))
    with pytest.raises(InvalidData, match=r"row 2, column 'c'"):
        await imported(storage, path)
    assert (await imported(storage, path, on_error="quarantine")).quarantined == 1
    assert [row.line for row in await Quarantine(storage).review()] == [2]


@pytest.mark.parametrize("orient", ["index", "split", "table"])
async def test_an_object_of_something_else_is_refused_with_what_to_do(
    storage: Storage, tmp_path: Path, orient: Any
) -> None:
    path = tmp_path / "p.json"
    frame().reset_index(names="date").to_json(path, orient=orient, date_format="iso")
    with pytest.raises(InvalidData, match=r"orient='records', lines=True"):
        await imported(storage, path)


async def test_columns_of_different_rows_are_refused(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for other in ({"0": 1, "2": 1}, {"0": 1}, [1, 1]):
        path.write_text(json.dumps({name: {"0": 1, "1": 1} for name in "tohlc"} | {"v": other}))
        with pytest.raises(InvalidData, match="column 'v': has other rows"):
            await imported(storage, path)


async def test_lines_that_begin_with_an_object_are_lines(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [
        {"close": {"last": 1}, "t": SECOND + 60 * n} | dict.fromkeys("ohlcv", 1) for n in range(3)
    ]
    for count in (1, 3):
        path.write_text("\n".join(map(json.dumps, rows[:count])))
        columns = Layout(columns={"close": "c"})
        assert (await imported(storage, path, layout=columns)).read == count


def test_a_line_of_many_names_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    first = {"a": 1}
    many = {"x": {str(n): 1 for n in range(2_000)}}
    path.write_text("\n".join(map(json.dumps, [first, many, first, {"b": 1, "c": 1}])))
    assert [number for number, _ in json_keys.first_lines(path)] == [1, 2, 4]


async def test_a_file_of_many_names_is_parsed_a_few_times(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = json_source.JsonLinesFile._parsed
    lines: list[int] = []

    def counted(self: Any, number: int, line: bytes) -> dict[str, Any]:
        lines.append(number)
        return parsed(self, number, line)

    monkeypatch.setattr(json_source.JsonLinesFile, "_parsed", counted)
    path = tmp_path / "p.jsonl"
    path.write_text(json.dumps({"x": {str(n): 1 for n in range(500)}}) + '\n{"y": 1}\n')
    with pytest.raises(InvalidData):
        await imported(storage, path)
    assert len(lines) < 10


@pytest.mark.parametrize("header", [True, False])
async def test_arrays_of_arrays_have_numbered_columns(
    storage: Storage, tmp_path: Path, header: bool
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(KLINES))
    layout = Layout(header=header, columns=NUMBERED)
    for source in (path, BytesIO(path.read_bytes())):
        assert (await imported(storage, source, layout=layout)).read == 3
    assert await stored(storage) == [
        (datetime.fromtimestamp(SECOND + 60 * n, UTC), Decimal("0.0157"), 148) for n in range(3)
    ]


async def test_arrays_without_named_columns_are_refused_with_the_option(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(KLINES))
    with pytest.raises(InvalidData, match=r"Layout\(header=False, columns={'timestamp': '1'"):
        await imported(storage, path)


async def test_arrays_of_another_length_are_broken_rows(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([KLINES[0], KLINES[1][:5], {"t": 1}, KLINES[2]]))
    layout = Layout(header=False, columns=NUMBERED)
    with pytest.raises(InvalidData, match="row 2: has 5 fields, not 8 as the first row"):
        await imported(storage, path, layout=layout)
    assert (await imported(storage, path, layout=layout, on_error="quarantine")).quarantined == 2
    assert [(row.line, row.reasons) for row in await Quarantine(storage).review()] == [
        (2, ("has 5 fields, not 8 as the first row",)),
        (3, ("has 1 field, not 8 as the first row",)),
    ]


@pytest.mark.parametrize("is_array", [True, False])
async def test_rows_that_cannot_be_read_are_counted_as_messages_count_them(
    storage: Storage, tmp_path: Path, is_array: bool
) -> None:
    path = tmp_path / "p.json"
    rows = [dict.fromkeys("ohlcv", 1) | {"t": SECOND + 60 * n} for n in range(4)]
    broken = [rows[0], rows[1] | {"c": "x"}, [1], rows[2] | {"t": "?"}, rows[3]]
    lines = list(map(json.dumps, broken))
    path.write_text("[\n" + ",\n".join(lines) + "]" if is_array else "\n\n" + "\n".join(lines))
    place, first = ("row", 2) if is_array else ("line", 4)
    with pytest.raises(InvalidData, match=f"{place} {first}, column 'c': is not of .*{place}s"):
        await imported(storage, path)
    await imported(storage, path, on_error="quarantine")
    found = await Quarantine(storage).review()
    assert [(row.place, row.line) for row in found] == [(place, first + n) for n in range(3)]
    assert found[0].reasons == (
        f"column 'c': is not of the kind it has in other {place}s, got 'x'",
    )
    assert found[1].reasons[0].startswith("must be a JSON object, got [1]")


async def test_rows_of_parquet_that_cannot_be_read_are_counted_as_rows(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.parquet"
    data = frame(3).reset_index(names="date").astype({"close": "string"})
    data["close"] = ["1.5", "x", "1.5"]
    data.to_parquet(path)
    options = {"on_error": "quarantine", "round_prices": True}
    await imported(storage, path, **options)
    (row,) = await Quarantine(storage).review()
    assert (row.place, row.line) == ("row", 2)
