"""JSON that is copied before it is read: what its copy must not lose, and what it takes."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers import json_arrays, json_values
from jts_storage.readers.file_source import Layout
from jts_storage.readers.json_copies import JsonArrayFile
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quarantine import Quarantine
from tests.unit.usecases.imported import imported

SECOND = 1704153600
NAMES = ("timestamp", "open", "high", "low", "close", "volume")
NUMBERED = Layout(columns={name: str(n) for n, name in enumerate(NAMES, 1)})
ROW = [SECOND, 1, 1, 1, 1, 1]


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
    assert (await imported(storage, path)).read == 2
    path.write_text(indexed(0, 7, 7))
    with pytest.raises(InvalidData, match="column 't': '7' is specified twice"):
        await imported(storage, path, on_error=on_error)


async def test_a_column_that_comes_twice_is_refused(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    whole = json.dumps({"t": [SECOND], **{name: [1] for name in "ohlcv"}})
    path.write_text(whole[:-1] + ', "c": [9]}')
    with pytest.raises(InvalidData, match=r"p\.json: 'c' is specified twice"):
        await imported(storage, path)
    path.write_text(whole[:-1] + ', "note": [{"a": 1, "a": 2}]}')
    assert (await imported(storage, path)).read == 1


@pytest.mark.parametrize("depth", [150, 300, 900, 980])
@pytest.mark.parametrize("is_columns", [True, False])
@pytest.mark.parametrize("begin", ["[", '{"a": '])
async def test_a_value_that_is_nested_deeply_is_read_or_refused(
    storage: Storage, tmp_path: Path, begin: str, is_columns: bool, depth: int
) -> None:
    path = tmp_path / "p.json"
    nested = begin * depth + "1" + ("]" if begin == "[" else "}") * depth
    if is_columns:
        columns = [f'"{name}": [{value}, 1]' for name, value in zip("tohlcv", ROW, strict=True)]
        columns[0] = f'"t": [{SECOND}, {SECOND + 60}]'
        path.write_text(f'{{{", ".join(columns)}, "x": [1, {nested}]}}')
    else:
        path.write_text(f"[{json.dumps([*ROW, 1])}, {json.dumps(ROW)[:-1]}, {nested}]]")
    layout = Layout() if is_columns else NUMBERED
    try:
        result = await imported(storage, path, layout=layout, on_error="quarantine")
    except InvalidData as refused:  # what Python cannot read
        assert "nested too deeply" in str(refused) and depth > 900
        return
    assert result.read == 2
    for row in await Quarantine(storage).review():
        assert (row.line, row.reasons) == (2, ("is nested too deeply",))


def test_no_depth_of_a_value_ends_in_an_error_of_python(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    for depth in range(850, 1_000):
        nested = "[" * depth + "]" * depth
        path.write_text(f"[{json.dumps([*ROW, 1])}, {json.dumps(ROW)[:-1]}, {nested}]]")
        with suppress(InvalidData):
            JsonArrayFile(path, NUMBERED)


@pytest.mark.parametrize("characters", [1, 7, 1 << 20])
def test_rows_of_arrays_are_parsed_once(
    tmp_path: Path, characters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = 0

    def number(text: str) -> str:
        nonlocal parsed
        parsed += 1
        return text

    monkeypatch.setattr(json_arrays, "_READ_CHARACTERS", characters)
    monkeypatch.setattr(
        json_arrays, "DECODER", json.JSONDecoder(parse_int=number, parse_float=number)
    )
    path = tmp_path / "p.json"
    rows = [[n, n + 0.5, "x\n,]"] for n in range(20)]
    path.write_text(json.dumps(rows, indent=1))
    found = list(json_arrays.objects(path, "p"))
    assert [json.loads(text) for text, _ in found] == rows
    assert [value for _, value in found] == [[str(a), str(b), c] for a, b, c in rows]
    if characters == 1 << 20:
        assert parsed == 40


def test_a_row_of_arrays_is_not_parsed_again(tmp_path: Path, monkeypatch: Any) -> None:
    decoded = json_values.DECODER.raw_decode
    monkeypatch.setattr(json_values.DECODER, "decode", None)
    calls: list[int] = []

    def counted(text: str, at: int = 0) -> Any:
        calls.append(at)
        return decoded(text, at)

    monkeypatch.setattr(json_values.DECODER, "raw_decode", counted)
    path = tmp_path / "p.json"
    path.write_text(json.dumps([ROW] * 20))
    JsonArrayFile(path, NUMBERED)
    assert len(calls) == 20


async def test_what_is_said_beside_columns_is_said_of_all_rows(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.json"
    its = {"t": [SECOND, SECOND + 60], **{name: [1, 2] for name in "ohlcv"}}
    for text in ({"s": "ok", **its}, {"symbol": "A", **its}, {**its, "ticker": "A"}):
        for indent in (None, 1):
            path.write_text(json.dumps(text, indent=indent))
            assert (await imported(storage, path)).read == 2
    path.write_text(json.dumps({"symbol": "B", **its}))
    with pytest.raises(InvalidData, match="'B'"):
        await imported(storage, path)
    path.write_text(json.dumps(its)[:-1] + ', "c": 9}')
    with pytest.raises(InvalidData, match=r"p\.json: 'c' is specified twice"):
        await imported(storage, path)


async def test_lines_of_scalars_before_nested_values_are_lines(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.json"
    lines = [
        json.dumps(dict(zip("tohlcv", (SECOND + 60 * n, 1, 1, 1, 1, 1), strict=True)) | {"x": [1]})
        for n in range(3)
    ]
    for count in (1, 3):
        path.write_text("\n".join(lines[:count]))
        assert (await imported(storage, path)).read == count


async def test_an_object_around_rows_is_refused_with_where_they_are(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"symbol": "A", "empty": False, "candles": [{"open": 1}]}))
    with pytest.raises(InvalidData, match=r"not one of columns.*'candles': write that array alone"):
        await imported(storage, path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
async def test_json_of_utf_16_is_told(storage: Storage, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(json.dumps({"t": SECOND}).encode(encoding))
    with pytest.raises(InvalidData, match="is written as UTF-16, and JSON is UTF-8"):
        await imported(storage, path)


@pytest.mark.parametrize("on_error", ["stop", "quarantine"])
async def test_a_symbol_that_is_a_number_is_told(
    storage: Storage, tmp_path: Path, on_error: Any
) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps([dict(zip("tohlcv", ROW, strict=True)) | {"symbol": 5930}]))
    options = ImportOptions(create=Market.KOSPI, on_error=on_error)
    importing = ImportCandles(storage).run(path, Timeframe.M1, options=options)
    if on_error == "quarantine":
        assert (await importing).quarantined == 1
        return
    with pytest.raises(InvalidData, match=r"column 'symbol': is a number.*in quotes"):
        await importing
