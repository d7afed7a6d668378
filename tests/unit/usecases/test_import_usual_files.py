"""Files as other programs write them, each compared row by row with what pandas reads."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers import json_arrays
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.results import ImportResult

KEY = SeriesKey("AAPL", Timeframe.D1)
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
NAMES = ("open", "high", "low", "close")

YAHOO = """Price,Close,High,Low,Open,Volume
Ticker,AAPL,AAPL,AAPL,AAPL,AAPL
Date,,,,,
2024-01-02,184.9,187.7,183.2,186.4,82488700
2024-01-03,183.5,185.1,182.7,183.5,58414500
2024-01-04,181.2,182.4,180.2,181.4,71983600
"""


async def run(storage: Storage, path: Path, **more: Any) -> ImportResult:
    options = ImportOptions(create=Market.NASDAQ, **more)
    return await ImportCandles(storage).run(path, Timeframe.D1, symbol="AAPL", options=options)


async def stored(storage: Storage) -> list[tuple[Any, ...]]:
    found = await storage.candles.get_range(KEY, *ALWAYS)
    return [(c.timestamp, c.open, c.high, c.low, c.close, c.volume) for c in found]


def as_pandas_reads(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    frame = frame.rename(columns=str.casefold)
    return [
        (
            moment.to_pydatetime().replace(tzinfo=UTC),
            *(Decimal(str(row[name])) for name in NAMES),
            int(row["volume"]),
        )
        for moment, (_, row) in zip(pd.DatetimeIndex(frame.index), frame.iterrows(), strict=True)
    ]


@pytest.mark.parametrize("begin", ["", "\n\n", "\ufeff"])
@pytest.mark.parametrize("extra", [False, True])
async def test_the_three_lines_of_a_yahoo_header(
    storage: Storage, tmp_path: Path, begin: str, extra: bool
) -> None:
    path = tmp_path / "AAPL.csv"
    text = YAHOO
    if extra:  # older releases, and auto_adjust=False
        lines = [line.split(",") for line in YAHOO.splitlines()]
        more = ["Adj Close", "AAPL", "", "1.5", "1.5", "1.5"]
        rows = [[row[0], value, *row[1:]] for row, value in zip(lines, more, strict=True)]
        text = "".join(",".join(row) + "\n" for row in rows)
    path.write_text(begin + text, encoding="utf-8")
    result = await run(storage, path)
    frame = pd.read_csv(path, header=[0, 1], index_col=0, parse_dates=True)
    frame.columns = frame.columns.get_level_values(0)
    assert await stored(storage) == as_pandas_reads(frame)
    assert result.read == result.inserted == 3


async def test_what_is_wrong_below_such_a_header_has_its_line(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_text(YAHOO.replace("183.5,185.1", "what,185.1"))
    with pytest.raises(InvalidData, match="line 5, column 'Close'"):
        await run(storage, path)
    path.write_text(YAHOO + "2024-01-05,1\n")
    with pytest.raises(InvalidData, match="line 7"):
        await run(storage, path)
    result = await run(storage, path, on_error="quarantine")
    assert (result.inserted, result.quarantined) == (3, 1)


async def test_several_tickers_side_by_side_are_refused(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(
        "Price,Close,Close,High,Low,Open,Volume\nTicker,AAPL,MSFT,AAPL,AAPL,AAPL,AAPL\n"
        "Date,,,,,,\n2024-01-02,1,2,2,1,1,5\n"
    )
    with pytest.raises(InvalidData, match="2 columns 'Close'"):
        await run(storage, path)


@pytest.mark.parametrize("third", ["2024-01-01,1,1,1,1,1", "Date,,,,,x"])
async def test_only_that_header_has_three_lines(
    storage: Storage, tmp_path: Path, third: str
) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_text(YAHOO.replace("Date,,,,,", third))
    with pytest.raises(InvalidData, match="no column for timestamp"):
        await run(storage, path)


FRAME = pd.read_csv(StringIO(YAHOO.replace("Price,", "timestamp,")), skiprows=[1, 2], index_col=0)


def written(kind: str) -> str:
    frame = FRAME.copy()
    frame.index = pd.to_datetime(frame.index)
    if kind == "iso":
        return str(frame.reset_index().to_json(orient="records", date_format="iso"))
    rows = json.loads(frame.reset_index().to_json(orient="records", date_format="iso"))
    epochs = [row | {"timestamp": 1704153600000 + 86_400_000 * n} for n, row in enumerate(rows)]
    texts = [{name: str(value) for name, value in row.items()} for row in rows]
    return {
        "epoch": json.dumps(epochs, separators=(",", ":")),  # as pandas 2 writes it
        "indented": json.dumps(rows, indent=4),
        "texts": json.dumps(texts, indent=1),
        "windows": "\ufeff" + json.dumps(rows, indent=2).replace("\n", "\r\n") + "\r\n",
    }[kind]


@pytest.mark.parametrize("kind", ["epoch", "iso", "indented", "texts", "windows"])
@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
@pytest.mark.parametrize("characters", [1 << 20, 3])
async def test_an_array_of_objects(
    storage: Storage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    suffix: str,
    characters: int,
) -> None:
    monkeypatch.setattr(json_arrays, "_READ_CHARACTERS", characters)
    path = tmp_path / f"AAPL{suffix}"
    data = written(kind).encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    result = await run(storage, path)
    frame = FRAME.copy()
    frame.index = pd.to_datetime(frame.index)
    assert await stored(storage) == as_pandas_reads(frame)
    assert result.inserted == 3
    again = await run(storage, path, mode="incremental")
    assert again.inserted == 0


async def test_numbers_in_an_array_keep_their_digits(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    price = "90071992547.4093"  # which no float holds
    row = f'{{"t":"2024-01-02","o":{price},"h":{price},"l":{price},"c":{price},"v":1}}'
    path.write_text(f"[{row}]")
    await run(storage, path)
    assert (await stored(storage))[0][1] == Decimal(price)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"t": 1}, 5]', "row 2: must be a JSON object"),
        ("[[1, 2, 3]]", "no column for timestamp, .* among 1, 2, 3"),
        ('[{"t": 1}, [1, 2, 3]]', "row 2: must be a JSON object"),
        ('[{"t": 1}, {"t": ', "row 2: is no JSON"),
        ('[{"t": 1}', "ends within its array"),
        ('[{"t": 1},', "ends within its array"),
    ],
)
async def test_what_is_wrong_with_an_array(
    storage: Storage, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(InvalidData, match=message):
        await run(storage, path)


async def test_a_value_in_an_array_has_the_number_of_its_object(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    rows = [{"t": "2024-01-02", "o": "1", "h": "1", "l": "1", "c": c, "v": 1} for c in ("1", "x")]
    path.write_text(json.dumps(rows, indent=2))
    with pytest.raises(InvalidData, match="row 2, column 'c'"):
        await run(storage, path)


async def test_an_empty_array_has_no_rows(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[ ]\n")
    assert (await run(storage, path)).read == 0


async def test_an_array_comes_through_a_pipe(storage: Storage) -> None:
    options = ImportOptions(create=Market.NASDAQ)
    for begin in ("", "\ufeff\n "):
        stream = BytesIO((begin + written("indented")).encode())
        await ImportCandles(storage).run(stream, Timeframe.D1, symbol="AAPL", options=options)
    assert len(await stored(storage)) == 3
