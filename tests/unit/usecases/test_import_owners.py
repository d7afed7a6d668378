"""Every row goes to the series that its source tells, or is refused by row and column."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unicodedata import normalize

import polars as pl
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers import json_keys
from jts_storage.readers.file_source import Layout
from jts_storage.readers.spellings import timeframes_meant
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import QualityPolicy
from jts_storage.usecases.results import ImportResult
from jts_storage.usecases.validate import ValidateCandles

START = 1_704_153_600
ALL = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
FOUR = [
    SeriesKey("005930", timeframe, place)
    for place in ("KRX", "NXT")
    for timeframe in (Timeframe.M1, Timeframe.D1)
]


async def run(storage: Storage, data: Any, **more: Any) -> ImportResult:
    wanted = {name: more.pop(name) for name in ("timeframe", "symbol", "exchange") if name in more}
    options = ImportOptions(create=Market.KOSPI, **more)
    return await ImportCandles(storage).run(data, options=options, **wanted)


def dump() -> pa.Table:
    """As the table of candles gives it: two exchanges and two timeframes, three rows of each."""
    rows = [
        {
            "symbol": key.symbol,
            "exchange": key.exchange,
            "timeframe": key.timeframe.value,
            "timestamp": datetime.fromtimestamp(START + step * n, UTC),
            **dict.fromkeys(("open", "high", "low", "close"), str(price)),
            "volume": 1,
            "version": 7,
            "is_deleted": 0,
        }
        for price, key in enumerate(FOUR, 1)
        for n in range(3)
        for step in (60 if key.timeframe is Timeframe.M1 else 86_400,)
    ]
    table = pa.Table.from_pylist(rows)
    return table.set_column(3, "timestamp", table["timestamp"].cast(pa.timestamp("ms", "UTC")))


def as_brought(table: pa.Table, kind: str, folder: Path) -> Any:
    path = folder / f"dump.{kind}"
    match kind:
        case "csv":
            arrow_csv.write_csv(table, path)
        case "parquet":
            pq.write_table(table, path)
        case "feather":
            feather.write_feather(table, str(path))
        case "jsonl":
            lines = [json.dumps(row, default=str) for row in table.to_pylist()]
            path.write_text("\n".join(lines) + "\n")
        case "pandas":
            return table.to_pandas()
        case "pandas by symbol":
            return table.to_pandas().set_index(["symbol", "exchange"])
        case "polars":
            return pl.from_arrow(table)
        case _:
            return table
    return path


KINDS = ["csv", "parquet", "feather", "jsonl", "pandas", "pandas by symbol", "polars", "arrow"]


@pytest.mark.parametrize("block_rows", [2, 100])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_dump_of_the_table_of_candles_comes_back_whole(
    storage: Storage, tmp_path: Path, kind: str, block_rows: int
) -> None:
    data = as_brought(dump(), kind, tmp_path)
    result = await run(storage, data, block_rows=block_rows)
    assert (result.read, result.inserted) == (12, 12)
    assert result.series == {str(key): 3 for key in sorted(FOUR, key=str)}
    for price, key in enumerate(FOUR, 1):
        series = await storage.candles.get_range(key, *ALL)
        assert [candle.close for candle in series] == [price] * 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"timeframe": Timeframe.M1}, "is not 1m, got '1d'"),
        ({"exchange": "KRX"}, "is not KRX, got 'NXT'"),
        ({"symbol": "000660"}, "is not 000660, got '005930'"),
    ],
)
async def test_what_contradicts_the_caller_is_refused_naming_both(
    storage: Storage, tmp_path: Path, told: dict[str, Any], named: str, kind: str
) -> None:
    data = as_brought(dump(), kind, tmp_path)
    with pytest.raises(InvalidData, match=named) as refused:
        await run(storage, data, **told)
    assert f"column '{next(iter(told))}'" in str(refused.value)
    assert await storage.candles.list_keys() == []


@pytest.mark.parametrize("kind", KINDS)
async def test_what_the_caller_said_too_is_fine(
    storage: Storage, tmp_path: Path, kind: str
) -> None:
    data = as_brought(dump().slice(0, 3), kind, tmp_path)
    result = await run(storage, data, symbol="005930", exchange="KRX", timeframe=Timeframe.M1)
    assert result.series == {str(FOUR[0]): 3}


SPELLED = {
    Timeframe.M1: "1m 1min M1 1T 1 1분 PT1M minute",
    Timeframe.M3: "3m 3min M3 3T 3 3분봉",
    Timeframe.M5: "5m 5min m5 5T 5",
    Timeframe.M10: "10m 10min M10 10",
    Timeframe.M15: "15m 15min M15 15",
    Timeframe.M30: "30m 30min M30 PT30M 30",
    Timeframe.H1: "1h 60m 60min H1 1H PT1H",
    Timeframe.H2: "2h 2H H2 120m 2hours 120",
    Timeframe.H4: "4h 4H H4 PT4H 240min 4시간 240",
    Timeframe.D1: "1d D 1D daily Day 일봉 1440",
    Timeframe.W1: "1w W 1wk weekly 주봉",
    Timeframe.MN1: "1M M MN1 1mo month 월봉",
}


@pytest.mark.parametrize("timeframe", Timeframe)
def test_timeframes_are_known_in_many_spellings(timeframe: Timeframe) -> None:
    for text in SPELLED[timeframe].split():
        assert timeframes_meant(text) == (timeframe,), text


def test_what_is_no_timeframe_is_none() -> None:
    for text in ("m", "3M", "5M", "15M", "30M", "6h", "tick", "7m", "12.5"):
        assert timeframes_meant(text) == ()


HEADER = "t,o,h,l,c,v"


async def of_text(storage: Storage, folder: Path, text: str, **more: Any) -> ImportResult:
    path = folder / "p.csv"
    path.write_text(text)
    return await run(storage, path, **{"symbol": "005930", **more})


@pytest.mark.parametrize(
    ("header", "values", "told", "message"),
    [
        ("interval", ["1m", "5m"], {"timeframe": Timeframe.M1}, "line 3, .*'interval': is not 1m"),
        ("tf", ["60"], {}, "could be 1m or 1h"),
        ("freq", ["tick"], {"timeframe": Timeframe.M1}, "is none of 1m, 3m, 5m"),
        ("<PER>", ["D", "M"], {"timeframe": Timeframe.D1}, "is not 1d, got 'M'"),
        ("주기", ["1분", ""], {}, "line 3, .*names no timeframe"),
        ("주기", ["1분", ""], {"timeframe": Timeframe.M1}, "is empty in some rows only"),
        ("period", ["", "1m"], {"timeframe": Timeframe.M1}, "line 2.*is empty in some rows only"),
        ("venue", ["NYSE"], {"timeframe": Timeframe.M1, "exchange": "KRX"}, "is not KRX"),
        ("거래소", ["KRX", ""], {"timeframe": Timeframe.M1, "exchange": "KRX"}, "some rows only"),
        ("exchange", ["krx"], {"timeframe": Timeframe.M1, "exchange": "KRX"}, "is not KRX"),
        ("market", ["KOSPI", "KOSDAQ"], {"timeframe": Timeframe.M1}, "line 3.*is not KOSPI"),
        ("is_deleted", ["0", "1"], {"timeframe": Timeframe.M1}, "line 3.*was deleted"),
        ("other", ["x"], {}, "does not say which timeframe"),
    ],
)
@pytest.mark.parametrize("block_rows", [1, 10])
async def test_what_cannot_be_told_is_refused_by_row_and_column(
    storage: Storage,
    tmp_path: Path,
    header: str,
    values: list[str],
    told: dict[str, Any],
    message: str,
    block_rows: int,
) -> None:
    lines = [f"{START + 60 * n},1,1,1,1,1,{value}" for n, value in enumerate(values)]
    text = "\n".join([f"{HEADER},{header}", *lines]) + "\n"
    with pytest.raises(InvalidData, match=message):
        await of_text(storage, tmp_path, text, **told, block_rows=block_rows)


@pytest.mark.parametrize(
    ("header", "values", "told", "exchange"),
    [
        ("timeframe", ["", ""], {"timeframe": Timeframe.M1}, ""),
        ("exchange", ["", " "], {"timeframe": Timeframe.M1, "exchange": "KRX"}, "KRX"),
        ("exchange", [" KRX", "KRX "], {"timeframe": Timeframe.M1, "exchange": "KRX"}, "KRX"),
        ("interval", ["60", "60"], {"timeframe": Timeframe.M1}, ""),
        ("interval", ["1min", "M1"], {}, ""),
        ("market", ["KOSPI", "KOSPI"], {"timeframe": Timeframe.M1}, ""),
        ("PER", ["12.5", "12.6"], {"timeframe": Timeframe.M1}, ""),
        ("is_deleted", ["0", "false"], {"timeframe": Timeframe.M1}, ""),
    ],
)
async def test_columns_that_agree_or_say_nothing(
    storage: Storage,
    tmp_path: Path,
    header: str,
    values: list[str],
    told: dict[str, Any],
    exchange: str,
) -> None:
    lines = [f"{START + 60 * n},1,1,1,1,1,{value}" for n, value in enumerate(values)]
    await of_text(storage, tmp_path, "\n".join([f"{HEADER},{header}", *lines]) + "\n", **told)
    assert await storage.candles.list_keys() == [SeriesKey("005930", Timeframe.M1, exchange)]


async def test_rows_without_an_exchange_are_a_series_of_their_own(
    storage: Storage, tmp_path: Path
) -> None:
    text = f"{HEADER},exchange\n{START},1,1,1,1,1,\n{START},2,2,2,2,1,KRX\n"
    await of_text(storage, tmp_path, text, timeframe=Timeframe.M1)
    keys = [SeriesKey("005930", Timeframe.M1, place) for place in ("", "KRX")]
    assert await storage.candles.list_keys() == keys


async def test_a_column_is_ignored_if_the_caller_says_so(storage: Storage, tmp_path: Path) -> None:
    text = f"{HEADER},market,period\n{START},1,1,1,1,1,A,x\n{START + 60},1,1,1,1,1,B,y\n"
    layout = Layout(columns={"market": "", "timeframe": ""})
    result = await of_text(storage, tmp_path, text, timeframe=Timeframe.M1, layout=layout)
    assert result.inserted == 2
    layout = Layout(columns={"exchange": "market", "timeframe": ""})
    result = await of_text(storage, tmp_path, text, timeframe=Timeframe.M1, layout=layout)
    assert len(result.series) == 2


async def test_a_moment_is_read_as_its_own_timeframe_asks(storage: Storage, tmp_path: Path) -> None:
    """Days are stamped with their date, whatever the zone; minutes with the moment."""
    text = (
        f"{HEADER},tf\n2024-01-02 09:00,1,1,1,1,1,1m\n2024-01-02,2,2,2,2,1,1d\n"
        "2024-01-02 09:01,1,1,1,1,1,1m\nyesterday,2,2,2,2,1,1d\n"
    )
    with pytest.raises(InvalidData, match="line 5, column 't'"):
        await of_text(storage, tmp_path, text, timezone="Asia/Seoul")
    await of_text(storage, tmp_path, text.replace("yesterday", "2024-01-03"), timezone="Asia/Seoul")
    days = await storage.candles.get_range(SeriesKey("005930", Timeframe.D1), *ALL)
    assert [candle.timestamp.isoformat()[:16] for candle in days] == [
        "2024-01-02T00:00",
        "2024-01-03T00:00",
    ]
    minutes = await storage.candles.get_range(SeriesKey("005930", Timeframe.M1), *ALL)
    assert minutes[0].timestamp == datetime(2024, 1, 2, tzinfo=UTC)


def json_line(n: int, more: str = "") -> str:
    return f'{{"t":{START + 60 * n},"o":1,"h":1,"l":1,"c":1,"v":1{more}}}\n'


@pytest.mark.parametrize("lines", [1, 1_500, 40_000])
@pytest.mark.parametrize(
    ("late", "message"),
    [
        (',"symbol" : "000660"', "line 1, column 'symbol': names no symbol"),
        (',"tf":"1m"', "line 1, column 'tf': is empty in some rows only"),
        (',"거래소":"NYSE"', "line 1, column '거래소': is empty in some rows only"),
    ],
)
async def test_a_column_may_begin_at_any_line_of_json(
    storage: Storage, tmp_path: Path, lines: int, late: str, message: str
) -> None:
    path = tmp_path / "p.jsonl"
    text = "".join(json_line(n) for n in range(lines)) + json_line(lines, late)
    path.write_text(text)
    told = {"symbol": "005930", "exchange": "KRX", "timeframe": Timeframe.M1}
    with pytest.raises(InvalidData, match=message):
        await run(storage, path, **told)


def test_names_in_json_lines_are_each_told_once(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    lines = [
        '{"symbol_of_the_stock": 1, "a": "b: \\"c\\": d"}',
        "",
        '{"a" : 1, "another_symbol_of_the_stock": {"deep":1}}',
        *['{"symbol_of_the_stock": 2}'] * 90_000,
        '{"late":1, "a":2}',
    ]
    path.write_text("\n".join(lines))
    assert path.stat().st_size > 2 << 20, "more than one piece"
    found = dict(json_keys.first_lines(path))
    assert set(found) == {1, 3, len(lines)}
    assert found[len(lines)] == lines[-1].encode()


async def test_counts_of_series_last_over_an_interruption(storage: Storage, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def die(_: object) -> None:
        raise Killed

    data = as_brought(dump(), "csv", tmp_path)
    options = ImportOptions(create=Market.KOSPI, block_rows=5)
    with pytest.raises(Killed):
        await ImportCandles(storage).run(data, options=options, progress=die)
    result = await ImportCandles(storage).run(data, options=options)
    assert result.resumed_at == 0
    assert result.series == {str(key): 3 for key in sorted(FOUR, key=str)}


async def test_a_dump_of_a_vendor_is_told_by_series(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "dump.csv"
    path.write_text(
        "instrument,venue,interval,ts,open,high,low,close,volume\n"
        f"A,KRX,1min,{START},1,1,1,1,1\nB,KRX,1d,{START - START % 86_400},1,1,1,1,1\n"
        f"A,NXT,1min,{START},1,1,1,1,1\nA,KRX,1min,{START + 60},,1,1,1,1\n"
        f"A,KRX,1min,{START},2,2,2,2,1\n"
    )
    result = await run(storage, path, block_rows=2)
    assert result.by_series == {
        "KRX:A/1m": {"read": 3, "inserted": 1, "duplicates": 1, "rejected": 1},
        "KRX:B/1d": {"read": 1, "inserted": 1},
        "NXT:A/1m": {"read": 1, "inserted": 1},
    }
    assert result.series == {"KRX:A/1m": 3, "KRX:B/1d": 1, "NXT:A/1m": 1}


async def test_each_series_of_a_file_is_judged_by_its_own_exchange(
    storage: Storage, tmp_path: Path
) -> None:
    """As coverage judges it: on a Sunday one exchange rests and another does not."""
    lines = [f"A,{exchange},1d,2024-03-03,1,1,1,1,5" for exchange in ("NASDAQ", "UPBIT", "moon")]
    path = tmp_path / "p.csv"
    path.write_text("\n".join(["symbol,exchange,timeframe,timestamp,o,h,l,c,v", *lines]))
    result = await run(storage, path, policy=QualityPolicy(calendar="exchange"))
    assert (result.inserted, result.quarantined) == (3, 0)
    assert result.broken == {"off_session": 1}
    judged = {
        key.exchange: (await ValidateCandles(storage).run(key, QualityPolicy(calendar="exchange")))
        for key in await storage.candles.list_keys()
    }
    assert {name for name, each in judged.items() if not each.is_clean} == {"NASDAQ"}


@pytest.mark.parametrize("block_rows", [1, 10])
async def test_a_name_is_one_however_its_letters_are_composed(
    storage: Storage, tmp_path: Path, block_rows: int
) -> None:
    nfc, nfd = (normalize(form, "삼성전자") for form in ("NFC", "NFD"))
    assert nfc != nfd
    path = tmp_path / "p.csv"
    rows = [
        f"{name},거래소,{1_704_153_600 + 60 * n},1,1,1,1,1"
        for n, name in enumerate((nfc, nfd, nfc))
    ]
    path.write_text("symbol,exchange,t,o,h,l,c,v\n" + "\n".join(rows) + "\n")
    for symbol, exchange in ((None, ""), (nfd, normalize("NFD", "거래소"))):
        result = await ImportCandles(storage).run(
            path,
            Timeframe.M1,
            symbol=symbol,
            exchange=exchange,
            options=ImportOptions(create=Market.KOSPI, block_rows=block_rows),
        )
        assert result.series == {f"거래소:{nfc}/1m": 3}
    assert await storage.symbols.get_by_code(nfc) is not None
    # What an application has stored in pieces stays as it is, and can be read.
    key = SeriesKey(nfd, Timeframe.M1)
    assert key.symbol == nfd


@pytest.mark.parametrize("word", ["-", "NaN", "nan", "null", "N/A", "n/a", " - "])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
async def test_a_word_for_what_is_missing_names_no_symbol(
    storage: Storage, tmp_path: Path, word: str, kind: str
) -> None:
    path = tmp_path / f"p.{kind}"
    rows = [
        {"symbol": name, "t": START, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1} for name in ("A", word)
    ]
    if kind == "csv":
        lines = [",".join(map(str, row.values())) for row in rows]
        path.write_text(",".join(rows[0]) + "\n" + "\n".join(lines))
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    line = 3 if kind == "csv" else 2
    with pytest.raises(InvalidData, match=f"line {line}, column 'symbol': names no symbol"):
        await run(storage, path, timeframe=Timeframe.M1)
    assert await storage.candles.list_keys() == []


async def test_tickers_that_look_like_such_words_are_symbols(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    header, rest = "symbol,t,o,h,l,c,v\n", f",{START},1,1,1,1,1\n"
    path.write_text(header + "".join(name + rest for name in ("NAN", "NULL", "NA")))
    assert (await run(storage, path, timeframe=Timeframe.M1)).inserted == 3
    path.write_text(header + f"-{rest}")
    result = await run(storage, path, timeframe=Timeframe.M1, symbol="-")
    assert result.inserted == 1, "the caller says so"
