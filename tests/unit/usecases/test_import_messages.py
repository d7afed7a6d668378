"""Refusals name the option of the surface in use, and leave nothing behind."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jts_storage import Market, SeriesKey, Storage, Symbol, Timeframe
from jts_storage._runtime.surface import column_option, option, use_command_line
from jts_storage.errors import InvalidData, StorageError
from jts_storage.readers.time_formats import _DATES, _TIMES, formats_of
from jts_storage.readers.timestamps import TimestampReader
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import QualityPolicy

HEADER = "t,o,h,l,c,v\n"
ROW = "1704153600,1,1,1,1,1\n"
ROWS = 2_000


async def refused(storage: Storage, data: Any, **more: Any) -> str:
    wanted: dict[str, Any] = {"timeframe": Timeframe.M1, "symbol": "A"}
    wanted |= {name: more.pop(name) for name in ("timeframe", "symbol") if name in more}
    options = ImportOptions(**{"create": Market.KOSPI, **more})
    with pytest.raises(StorageError) as error:
        await ImportCandles(storage).run(data, options=options, **wanted)
    return str(error.value)


Case = tuple[str, dict[str, Any], str, str]
CASES: dict[str, Case] = {
    "no symbol": (HEADER + ROW, {"symbol": None}, "Pass symbol=, or", "Pass --symbol, or"),
    "no timeframe": (HEADER + ROW, {"timeframe": None}, "Pass timeframe=.", "Pass --timeframe."),
    "an unknown symbol": (
        HEADER + ROW,
        {"create": None},
        "create=Market.NASDAQ with exchange='NASDAQ' creates it; so does create=Market.NYSE with",
        "--create NASDAQ with --exchange NASDAQ creates it; so does --create NYSE with --exchange",
    ),
    "a format": (
        HEADER + '"Jan 02, 2024",1,1,1,1,1\n',
        {},
        "time_format='%b %d, %Y'",
        "--time-format '%b %d, %Y'",
    ),
    "two formats": (
        HEADER + "01/02/2024 09:00,1,1,1,1,1\n",
        {},
        "time_format='%m/%d/%Y %H:%M' or time_format='%d/%m/%Y %H:%M'",
        "--time-format '%m/%d/%Y %H:%M' or --time-format '%d/%m/%Y %H:%M'",
    ),
    "no zone": (
        HEADER + "2024-01-02 09:00,1,1,1,1,1\n",
        {},
        "timezone='Asia/Seoul'",
        "--timezone Asia/Seoul",
    ),
    "a date that depends on the zone": (
        HEADER + "1704121200,1,1,1,1,1\n",
        {"timeframe": Timeframe.D1},
        "timezone='Asia/Seoul'",
        "--timezone Asia/Seoul",
    ),
    "a mark": (
        "t;o;h;l;c;v\n1704153600;78,500;78,500;78,500;78,500;1\n",
        {},
        "decimal='.' or decimal=',', or thousands= with",
        "--decimal . or --decimal ,, or --thousands with",
    ),
    "no column": (
        "t,o,h,l,settle,v\n" + ROW,
        {},
        "Layout(columns={'close': 'HEADER'})",
        "--column close=HEADER",
    ),
    "no header": (
        "1499040000000,0.01634790,0.80000000,0.01575800,0.01577100,148976.11427815\n" + ROW,
        {},
        "Layout(header=False, columns={'timestamp': '1'",
        "--no-header --column timestamp=1 --column open=2",
    ),
    "another symbol": (
        "code," + HEADER + "," + ROW,
        {"symbol": None},
        "Layout(columns={'symbol': ''})",
        "--column symbol=.",
    ),
}


@pytest.mark.parametrize("command_line", [False, True])
@pytest.mark.parametrize("name", CASES)
async def test_a_refusal_names_the_option_as_the_caller_writes_it(
    storage: Storage, tmp_path: Path, name: str, command_line: bool
) -> None:
    text, more, python, flag = CASES[name]
    path = tmp_path / "AAPL.csv"
    path.write_text(text)
    if command_line:
        use_command_line()
    message = await refused(storage, path, **more)
    assert (flag if command_line else python) in message
    assert (python if command_line else flag) not in message
    assert await storage.symbols.list() == []


@pytest.mark.parametrize("command_line", [False, True])
async def test_floats_are_refused_with_the_option_that_takes_them(
    storage: Storage, tmp_path: Path, command_line: bool
) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(
        pa.table({"t": [1704153600], **{name: [1.5] for name in "ohlc"}, "v": [1]}), path
    )
    if command_line:
        use_command_line()
    message = await refused(storage, path)
    assert ("--floats exact takes" if command_line else "floats='exact' takes") in message


def test_options_are_written_for_the_shell() -> None:
    assert option("create", Market.ETF) == "create=Market.ETF"
    assert option("round_prices", True) == "round_prices=True"
    use_command_line()
    try:
        assert option("create", Market.ETF) == "--create ETF"
        assert option("round_prices", True) == "--round-prices"
        assert option("time_format", "%d %b") == "--time-format '%d %b'"
        assert column_option("close", "Last") == "--column close=Last"
    finally:
        from jts_storage._runtime import surface

        surface._IS_COMMAND_LINE.set(False)


@pytest.mark.parametrize("date", _DATES)
def test_a_format_that_is_named_reads_what_it_was_named_for(date: str) -> None:
    moment = datetime(2024, 11, 23, 13, 45)
    for clock in _TIMES:
        text = moment.strftime(date + clock)
        for form in formats_of(text):
            read = TimestampReader(Timeframe.M1, "UTC", form).read(pa.array([text]))
            shown = datetime.fromtimestamp(int(read[0]) / 1_000, UTC)
            assert shown.strftime(form) == text
        assert date + clock in formats_of(text)


@pytest.mark.parametrize("at", [0, ROWS - 1])
async def test_an_import_that_is_refused_leaves_no_symbol_behind(
    storage: Storage, tmp_path: Path, at: int
) -> None:
    path = tmp_path / "p.csv"
    rows = [f"{1704153600 + 60 * n},1,1,1,1,1\n" for n in range(ROWS)]
    rows[at] = "1704153600,1,1,1,x,1\n"
    path.write_text(HEADER + "".join(rows))
    await refused(storage, path)
    assert await storage.symbols.list() == []


async def test_only_symbols_of_which_something_is_stored_are_created(
    storage: Storage, tmp_path: Path
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(Symbol("K", "Known", Market.KOSPI))
        await uow.commit()
    path = tmp_path / "p.csv"
    lines = [f"{code}," + ROW for code in "ABKCD"]
    lines[1] = "B,1704153600,,1,1,1,1\n"  # rejected
    path.write_text("code," + HEADER + "".join(lines))
    options = ImportOptions(
        create=Market.ETF, block_rows=2, policy=QualityPolicy(now=datetime(2200, 1, 1, tzinfo=UTC))
    )
    result = await ImportCandles(storage).run(path, Timeframe.M1, options=options)
    assert result.created_symbols == ("A", "C", "D")
    assert [symbol.code for symbol in await storage.symbols.list()] == ["A", "C", "D", "K"]
    path.write_text("code," + HEADER + f"E,{ROW}F,{ROW}G,{ROW}H,1,x,1,1,1,1\n")
    with pytest.raises(InvalidData):
        await ImportCandles(storage).run(path, Timeframe.M1, options=options)
    stored = {key.symbol for key in await storage.candles.list_keys()}
    assert stored == {symbol.code for symbol in await storage.symbols.list()}
    assert await storage.candles.count(SeriesKey("H", Timeframe.M1)) == 0


@pytest.mark.parametrize(
    ("exchange", "market"),
    [
        ("KRX", "KOSPI"),
        ("KOSDAQ", "KOSDAQ"),
        ("nasdaq", "NASDAQ"),
        ("AMEX", "NYSE"),
        ("BINANCE", "CRYPTO"),
        ("FOREX", "FX"),
        ("LSE", "OTHER"),
        ("my own", "OTHER"),
    ],
)
@pytest.mark.parametrize("is_named_within", [False, True])
async def test_an_unknown_symbol_is_proposed_for_the_market_of_its_exchange(
    storage: Storage, tmp_path: Path, exchange: str, market: str, is_named_within: bool
) -> None:
    path = tmp_path / "AAPL.csv"
    path.write_text(f"code,{HEADER}A,{ROW}")
    given: dict[str, Any] = {"symbol": None if is_named_within else "A", "exchange": exchange}
    with pytest.raises(StorageError, match=f"create=Market.{market} creates it"):
        await ImportCandles(storage).run(path, Timeframe.M1, options=ImportOptions(), **given)


OBJECT = '{"t":1704153600,"o":1,"h":1,"l":1,"c":1,"v":1}\n'
KEEPS = " on_error='quarantine' keeps such rows aside."
OF_TWO = "date,time,o,h,l,c,v\n2024-01-02,09:00,1,1,1,1,1\n"
UNLIKE = "is no moment like the others of its column, got '"
ROW_CASES: dict[str, tuple[str, str]] = {
    "a time of day": (
        OF_TWO + "2024-01-02,25:99,1,1,1,1,1\n",
        f"line 3, column 'time': {UNLIKE}2024-01-02 25:99'.{KEEPS}",
    ),
    "a time of day in digits": (
        "date,time,o,h,l,c,v\n20240102,0900,1,1,1,1,1\n20240102,2561,1,1,1,1,1\n",
        f"line 3, column 'time': {UNLIKE}2024-01-02 25:61'.{KEEPS}",
    ),
    "no time of day": (
        "date,time,o,h,l,c,v\n20240102,0900,1,1,1,1,1\n20240102,,1,1,1,1,1\n",
        f"line 3, column 'time': must not be null.{KEEPS}",
    ),
    "a date beside a time": (
        OF_TWO + "2024-02-30,09:01,1,1,1,1,1\n",
        f"line 3, column 'date': {UNLIKE}2024-02-30 09:01'.{KEEPS}",
    ),
    "a date and a time": (
        OF_TWO + "2024-02-30,25:99,1,1,1,1,1\n",
        f"line 3, column 'date': {UNLIKE}2024-02-30 25:99'.{KEEPS}",
    ),
    "a number": (
        HEADER + ROW + "1704153660,1,1,1,x,1\n",
        f"line 3, column 'c': must be a number, got 'x'.{KEEPS}",
    ),
    "one field": (
        HEADER + ROW + "x\n",
        f"line 3, column 'o': has 1 field, not 6 as the header.{KEEPS}",
    ),
    "a volume of JSON": (
        OBJECT + OBJECT.replace('"v":1', '"v":-1'),
        f"line 2, column 'v': must be a whole number below 2**64, got '-1'.{KEEPS}",
    ),
    "a volume too large": (
        HEADER + ROW + "1704153660,1,1,1,1,99999999999999999999\n",
        "line 3, column 'v': must be a whole number below 2**64, got '99999999999999999999'."
        + KEEPS,
    ),
    "a fraction of JSON": (
        OBJECT + OBJECT.replace('"v":1', '"v":1.5'),
        "line 2, column 'v': must be a whole number below 2**64, got '1.5'. "
        "volume='round' rounds volumes, volume='floor' cuts them off, "
        "volume='scale:N' stores them times 10**N.",
    ),
    "no object": (OBJECT + "5\n", f"line 2: must be a JSON object, got 5.{KEEPS}"),
    "a kind of JSON": (
        OBJECT + OBJECT.replace('"c":1', '"c":"x"'),
        f"line 2, column 'c': is not of the kind it has in other lines, got 'x'.{KEEPS}",
    ),
}


@pytest.mark.parametrize("case", ROW_CASES)
async def test_a_row_is_refused_by_what_its_file_says(
    storage: Storage, tmp_path: Path, case: str
) -> None:
    text, message = ROW_CASES[case]
    path = tmp_path / ("p.jsonl" if text.startswith("{") else "p.csv")
    path.write_text(text)
    assert await refused(storage, path, timezone="UTC") == f"{path}, {message}"


NEEDS = {
    "a symbol": "Pass --symbol",
    "a timeframe": "Pass --timeframe.",
    "a zone": "--timezone Asia/Seoul",
    "prices": "--round-prices rounds",
    "volumes": "--volume round rounds",
}
VALUES = "1.23456,1.23456,1.23456,1.23456"


async def test_all_that_a_file_needs_is_named_at_once(storage: Storage, tmp_path: Path) -> None:
    use_command_line()
    path = tmp_path / "p.csv"
    path.write_text(HEADER + "".join(f"2024-01-02 09:0{n},{VALUES},1.5\n" for n in range(3)))
    message = await refused(storage, path, symbol=None)
    assert {name for name, said in NEEDS.items() if said in message} == NEEDS.keys() - {
        "a timeframe"
    }
    assert message.count("--round-prices rounds") == 1
    # Whether moments need a zone depends on the timeframe.
    message = await refused(storage, path, symbol=None, timeframe=None)
    assert {name for name, said in NEEDS.items() if said in message} == NEEDS.keys() - {"a zone"}
    message = await refused(storage, path, round_prices=True, timezone="UTC")
    assert {name for name, said in NEEDS.items() if said in message} == {"volumes"}
    assert "Besides" not in message


@pytest.mark.parametrize("kind", ["csv", "json"])
async def test_a_file_without_volumes_is_told_what_else_it_needs(
    storage: Storage, tmp_path: Path, kind: str
) -> None:
    use_command_line()
    path = tmp_path / f"p.{kind}"
    rows = [["2024-01-02 09:00", *VALUES.split(",")]]
    if kind == "csv":
        path.write_text("t,o,h,l,c\n" + ",".join(rows[0]) + "\n")
    else:
        path.write_text(json.dumps([dict(zip("tohlc", rows[0], strict=True))]))
    for data in (path, BytesIO(path.read_bytes())):
        message = await refused(storage, data)
        for said in ("--volume zero-if-missing takes", NEEDS["a zone"], NEEDS["prices"]):
            assert said in message
    # What is not known of its columns is not known of its values.
    path.write_text("t,o,h\n1,1,1\n")
    if kind == "csv":
        assert "Besides" not in await refused(storage, path)


async def test_a_value_that_cannot_be_read_is_told_alone(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(HEADER + f"1704153600,abc,1,1,1,1.5\n1704153600,{VALUES},1.5\n")
    assert "Besides" not in await refused(storage, path)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ("Volume USDT", "Name it: --column 'volume=Volume USDT'."),
        (
            "Base Vol,Quote Vol",
            "Name it: --column 'volume=Base Vol' or --column 'volume=Quote Vol'.",
        ),
        ("traded_qty", "Name it: --column volume=traded_qty."),
        ("volatility", "--volume zero-if-missing takes"),
        ("amount", "--volume zero-if-missing takes"),
    ],
)
async def test_a_volume_of_another_name_is_named(
    storage: Storage, tmp_path: Path, headers: str, said: str
) -> None:
    use_command_line()
    values = "1704153600,1,1,1,1" + ",1" * len(headers.split(","))
    (path := tmp_path / "a.csv").write_text(f"t,o,h,l,c,{headers}\n{values}\n")
    message = await refused(storage, path)
    assert said in message
    assert ("zero-if-missing" in message) == ("zero-if-missing" in said)
