"""Files as people bring them, imported as they are; malformed ones, refused by place."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jts_storage import Candle, Market, SeriesKey, Storage, Symbol, Timeframe
from jts_storage.errors import InvalidData, NotFound
from jts_storage.readers import open_quotes, text_files
from jts_storage.readers.file_source import Layout
from jts_storage.readers.timestamps import TimestampReader
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import Action, QualityPolicy, Rule

CODE = "005930"
NINE = datetime(2024, 1, 2, tzinfo=UTC)  # in Seoul
FAR = datetime(2200, 1, 1, tzinfo=UTC)
LATER = QualityPolicy(now=FAR)

FIRST = Candle(NINE, Decimal("78500.5"), Decimal(79000), Decimal(78000), Decimal(78600), 1234)
SEOUL = "Asia/Seoul"


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with Storage.in_memory() as storage:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(Symbol(CODE, "Samsung Electronics", Market.KOSPI))
            await uow.commit()
        yield storage


async def imported(
    storage: Storage, data: Any, timeframe: Timeframe = Timeframe.M1, **options: Any
) -> list[Candle]:
    options.setdefault("policy", LATER)
    await ImportCandles(storage).run(data, timeframe, symbol=CODE, options=ImportOptions(**options))
    key = SeriesKey(CODE, timeframe)
    return list(await storage.candles.get_range(key, datetime(1990, 1, 1, tzinfo=UTC), FAR))


AS_BROUGHT: dict[str, tuple[str, dict[str, Any]]] = {
    "offsets": (
        "time,open,high,low,close,volume\n2024-01-02T09:00:00+09:00,78500.5,79000,78000,78600,1234\n",
        {},
    ),
    "offsets without a colon": (
        "time,open,high,low,close,volume\n2024-01-02 09:00+0900,78500.5,79000,78000,78600,1234\n",
        {},
    ),
    "UTC by letter": (
        "time,open,high,low,close,volume\n2024-01-02T00:00:00Z,78500.5,79000,78000,78600,1234\n",
        {},
    ),
    "a named zone": (
        "time,open,high,low,close,volume\n2024-01-02 09:00:00,78500.5,79000,78000,78600,1234\n",
        {"timezone": SEOUL},
    ),
    "slashes": (
        "time,open,high,low,close,volume\n2024/1/2 09:00,78500.5,79000,78000,78600,1234\n",
        {"timezone": SEOUL},
    ),
    "epoch seconds": (
        "t,o,h,l,c,v\n1704153600,78500.5,79000,78000,78600,1234\n",
        {},
    ),
    "epoch milliseconds": (
        "t,o,h,l,c,v\n1704153600000,78500.5,79000,78000,78600,1234\n",
        {},
    ),
    "compact": (
        "t,o,h,l,c,v\n20240102090000,78500.5,79000,78000,78600,1234\n",
        {"timezone": SEOUL},
    ),
    "semicolons, decimal commas, thousands points, a BOM, Korean headers": (
        "\ufeff일자;시간;시가;고가;저가;종가;거래량\n20240102;0900;78.500,5;79.000,0;78.000;78.600;1.234\n",
        {"timezone": SEOUL},
    ),
    "a time of five digits": (
        "일자,시간,시가,고가,저가,종가,거래량\n20240102,90000,78500.5,79000,78000,78600,1234\n",
        {"timezone": SEOUL},
    ),
    "quoted fields, thousands commas": (
        '"Date","Open","High","Low","Close","Volume"\n'
        '"2024-01-02 09:00:00+09:00","78,500.5","79,000","78,000","78,600","1,234"\n',
        {},
    ),
    "empty lines, blanks, other columns": (
        "\n\nDate , Open , High,Low,Close,Adj Close,Volume\n\n"
        "2024-01-02T00:00Z, 78500.50,79000 ,78000,78600,1.5,1234.0\n\n\n",
        {},
    ),
    "tabs": (
        "<DATE>\t<TIME>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\t<VOL>\n"
        "2024.01.02\t09:00:00\t78500.5\t79000\t78000\t78600\t1234\n",
        {"timezone": SEOUL},
    ),
    "no header": (
        "1704153600000,78500.5,79000,78000,78600,1234\n",
        {
            "layout": Layout(
                header=False,
                columns={
                    "timestamp": "1",
                    "open": "2",
                    "high": "3",
                    "low": "4",
                    "close": "5",
                    "volume": "6",
                },
            )
        },
    ),
    "a format of its own": (
        "time,open,high,low,close,volume\n02.01.2024 09h00,78500.5,79000,78000,78600,1234\n",
        {"timezone": SEOUL, "time_format": "%d.%m.%Y %Hh%M"},
    ),
    "a named column": (
        "time,open,high,low,close,adjusted,volume\n1704153600,78500.5,79000,78000,1,78600,1234\n",
        {"layout": Layout(columns={"close": "adjusted"})},
    ),
    "a decimal comma that only the caller knows": (
        "time;open;high;low;close;volume\n1704153600;78500,500;79000,000;78000,000;78600,000;1234\n",
        {"decimal": ","},
    ),
}


@pytest.mark.parametrize("name", AS_BROUGHT)
async def test_a_file_is_taken_as_it_is_brought(
    storage: Storage, tmp_path: Path, name: str
) -> None:
    text, options = AS_BROUGHT[name]
    path = tmp_path / "prices.csv"
    path.write_bytes(text.encode())
    assert await imported(storage, path, **options) == [FIRST]


@pytest.mark.parametrize("encoding", ["cp949", "utf-16"])
async def test_old_encodings_of_korean_are_read(
    storage: Storage, tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(
        "일시,시가,고가,저가,종가,거래량\n1704153600,78500.5,79000,78000,78600,1234\n".encode(
            encoding
        )
    )
    assert await imported(storage, path) == [FIRST]


@pytest.mark.parametrize("shift", range(4))
def test_a_letter_at_the_end_of_the_sample_is_no_other_encoding(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"일시,시가,고가,저가,종가,거래량\n{'-' * shift}" + "가" * 30_000)
    assert text_files.sniff(path).encoding == "utf-8"


@pytest.mark.parametrize("ending", ["gz", "zst"])
async def test_compressed_files_are_read(storage: Storage, tmp_path: Path, ending: str) -> None:
    text = b"t,o,h,l,c,v\n1704153600,78500.5,79000,78000,78600,1234\n"
    path = tmp_path / f"prices.csv.{ending}"
    if ending == "gz":
        path.write_bytes(gzip.compress(text))
    else:
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(text)
    assert await imported(storage, path) == [FIRST]


JSON_LINE = '"open": 78500.5, "high": "79000", "low": 78000, "close": 78600.0000, "volume": 1234'


@pytest.mark.parametrize("moment", ['"2024-01-02T09:00:00+09:00"', "1704153600", "1704153600000"])
async def test_json_lines_are_read_without_a_float(
    storage: Storage, tmp_path: Path, moment: str
) -> None:
    path = tmp_path / "prices.jsonl"
    path.write_text(f'{{"time": {moment}, {JSON_LINE}, "other": [1]}}\n\n')
    assert await imported(storage, path) == [FIRST]


async def test_a_price_that_no_float_holds_arrives_whole(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "prices.jsonl"
    price = "99999999999999.9999"
    path.write_text(
        f'{{"t": 1704153600, "o": {price}, "h": {price}, "l": {price}, "c": {price}, "v": 1}}\n'
    )
    (candle,) = await imported(storage, path)
    assert candle.close == Decimal(price)


MALFORMED: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "no number": (
        "p.csv",
        "t,o,h,l,c,v\n1704153600,1,1,1,1,1\n\n1704153660,1,1,1,x,1\n",
        "line 4, column 'c'",
        {},
    ),
    "no whole volume": ("p.csv", "t,o,h,l,c,v\n1704153600,1,1,1,1,1.5\n", "line 2, column 'v'", {}),
    "a negative volume": (
        "p.csv",
        "t,o,h,l,c,v\n1704153600,1,1,1,1,-1\n",
        "line 2, column 'v'",
        {},
    ),
    "five decimals": (
        "p.csv",
        "t,o,h,l,c,v\n1704153600,1.00001,2,1,1,1\n",
        "line 2, column 'o'",
        {},
    ),
    "too few fields": (
        "p.csv",
        "t,o,h,l,c,v\n1704153600,1,1,1,1,1\n1704153600,1,1\n",
        "line 3, column 'l'",
        {},
    ),
    "no moment": (
        "p.csv",
        "t,o,h,l,c,v\n2024-01-02T00:00Z,1,1,1,1,1\nyesterday,1,1,1,1,1\n",
        "line 3, column 't'",
        {},
    ),
    "a naive moment": (
        "p.csv",
        "t,o,h,l,c,v\n2024-01-02 09:00,1,1,1,1,1\n",
        "line 2, column 't'",
        {},
    ),
    "a moment that exists twice": (
        "p.csv",
        "t,o,h,l,c,v\n2024-11-03 00:59,1,1,1,1,1\n2024-11-03 01:30,1,1,1,1,1\n",
        "line 3, column 't'",
        {"timezone": "America/New_York"},
    ),
    "a line break in a field": (
        "p.csv",
        't,name,o,h,l,c,v\n1704153600,"a\nb",1,1,1,1,1\n1704153660,a,1,1,1,1,?\n',
        "line 4, column 'v'",
        {},
    ),
    "an open quote": (
        "p.csv",
        't,o,h,l,c,v,n\n1704153600,1,1,1,1,1,5 inch\n1704153660,1,1,1,1,1,"5 inch\n'
        "1704153720,1,1,1,1,1,x\n1704153780,1,1,1,1,1,x\n",
        "line 3: a quote",
        {},
    ),
    "an open quote to the end": (
        "p.csv",
        't,o,h,l,c,v,n\n1704153600,1,1,1,1,1,"x\n',
        "line 2: a quote",
        {},
    ),
    "no day of any calendar": (
        "p.csv",
        "t,o,h,l,c,v\n29/02/2024 09:00,1,1,1,1,1\n30/02/2024 09:00,1,1,1,1,1\n",
        "line 3, column 't'",
        {"time_format": "%d/%m/%Y %H:%M", "timezone": "UTC"},
    ),
    "Korean headers": (
        "p.csv",
        "일시,시가,고가,저가,종가,거래량\n1704153600,1,1,1,일,1\n",
        "line 2, column '종가'",
        {},
    ),
    "no JSON": (
        "p.jsonl",
        '{"t": 1704153600, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}\n{"t": }\n',
        "line 2, column",
        {},
    ),
    "another kind": (
        "p.jsonl",
        '{"t": 1704153600, "o": 1, "h": 1, "l": 1, "c": 1, "v": 1}\n\n'
        '{"t": 1704153600, "o": "x", "h": 1, "l": 1, "c": 1, "v": 1}\n',
        "line 3, column 'o'",
        {},
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_file_is_refused_by_file_line_and_column(
    storage: Storage, tmp_path: Path, name: str
) -> None:
    file, text, place, options = MALFORMED[name]
    path = tmp_path / file
    path.write_text(text)
    with pytest.raises(InvalidData) as refused:
        await imported(storage, path, **options)
    assert str(refused.value).startswith(f"{path}, {place}"), refused.value


async def test_what_could_be_read_in_two_ways_is_refused(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("t;o;h;l;c;v\n1704153600;78,500;78,500;78,500;78,500;1\n")
    with pytest.raises(InvalidData, match="decimal comma or a thousands comma"):
        await imported(storage, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column for timestamp, open, high, low, close, volume"),
        ("t,o,h,l,c,close,v\n", "could both be close"),
        ("", "is empty"),
    ],
)
async def test_a_header_that_does_not_fit_is_refused(
    storage: Storage, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(InvalidData, match=message):
        await imported(storage, path)


async def test_files_that_are_none_are_refused(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await imported(storage, tmp_path / "none.csv")
    for name in ("broken.parquet", "broken.feather", "broken.csv.gz"):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(InvalidData, match=name):
            await imported(storage, tmp_path / name)
    (tmp_path / "prices.doc").write_text("x")
    with pytest.raises(InvalidData, match="stands for no known format"):
        await imported(storage, tmp_path / "prices.doc")


@pytest.mark.parametrize("name", ["prices.parquet.gz", "prices.feather.zst"])
async def test_columns_are_not_compressed_once_more(
    storage: Storage, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"whatever")
    with pytest.raises(InvalidData, match="stands for no known format"):
        await imported(storage, tmp_path / name)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (Layout(delimiter=r"\t"), "'delimiter': must be one character"),
        (Layout(delimiter=""), "'delimiter': must be one character"),
        (Layout(delimiter="\n"), "'delimiter': must be one character"),
        (Layout(encoding="klingon"), "unknown encoding"),
        (Layout(encoding="hex"), "not a text encoding"),
    ],
)
async def test_a_layout_that_cannot_be_is_refused(
    storage: Storage, tmp_path: Path, layout: Layout, message: str
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("t,o,h,l,c,v\n1704153600,78500.5,79000,78000,78600,1234\n")
    with pytest.raises(InvalidData, match=message):
        await imported(storage, path, layout=layout)


@pytest.mark.parametrize(
    ("line", "message"),
    [(1, "line 2, .* has 6 fields, not 7"), (2, "line 2, .* has 7 fields, not 6")],
)
async def test_an_endless_field_is_refused_in_one_sentence(
    storage: Storage, tmp_path: Path, line: int, message: str
) -> None:
    text = ["t,o,h,l,c,v", "1704153600,78500.5,79000,78000,78600,1234"]
    text[line - 1] = f"{'9' * 200_000},{text[line - 1]}"
    path = tmp_path / "prices.csv"
    path.write_text("\n".join(text))
    with pytest.raises(InvalidData, match=message) as refused:
        await imported(storage, path)
    assert len(str(refused.value)) < 1_000


async def test_kinds_of_json_columns_are_told_by_the_first_that_is_not_null(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "prices.jsonl"
    path.write_text(
        '{"t":1704153540,"o":null,"h":null,"l":null,"c":null,"v":null}\n'
        '{"t":1704153600,"o":78500.5,"h":79000,"l":78000,"c":78600,"v":1234}\n'
    )
    policy = QualityPolicy(actions={Rule.MISSING: Action.REJECT}, now=FAR)
    assert await imported(storage, path, policy=policy) == [FIRST]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("date,o,h,l,c,v\n2024-01-02,78500.5,79000,78000,78600,1234\n", {}),
        ("date,o,h,l,c,v\n20240102,78500.5,79000,78000,78600,1234\n", {}),
        ("date,o,h,l,c,v\n2024-01-02T00:00:00-05:00,78500.5,79000,78000,78600,1234\n", {}),
        ("date,o,h,l,c,v\n1704121200,78500.5,79000,78000,78600,1234\n", {"timezone": SEOUL}),
    ],
)
async def test_a_daily_bar_is_stamped_with_its_date(
    storage: Storage, tmp_path: Path, text: str, options: dict[str, Any]
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    (candle,) = await imported(storage, path, Timeframe.D1, **options)
    assert candle == FIRST


async def test_the_date_of_an_epoch_is_not_guessed(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text("date,o,h,l,c,v\n1704121200,1,1,1,1,1\n")
    with pytest.raises(InvalidData, match="depends on a time zone"):
        await imported(storage, path, Timeframe.D1)


async def test_a_mark_is_not_decided_by_rows_that_have_none(
    storage: Storage, tmp_path: Path
) -> None:
    """Integers, and an empty field, before the first comma: it may be a decimal one still."""
    path = tmp_path / "p.csv"
    rows = "".join(f"{1704153600 + 60 * n};1;1;1;1;-\n" for n in range(10))
    path.write_text("t;o;h;l;c;v\n" + rows + "1704154200;78,125;78,125;78,125;78,125;1\n")
    with pytest.raises(InvalidData, match="thousands comma"):
        await imported(storage, path, block_rows=5)
    path.write_text("t;o;h;l;c;v\n" + rows + "1704154200;78,12;78,12;78,12;78,12;1\n")
    assert (await imported(storage, path, block_rows=5))[-1].close == Decimal("78.12")


async def test_a_group_of_thousands_does_not_begin_with_nothing(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text('t,o,h,l,c,v\n1704153600,"0,500","0,500","0,500","0,500",1\n')
    assert (await imported(storage, path))[0].close == Decimal("0.5")


async def test_a_quote_within_a_field_and_a_line_break_within_quotes_are_text(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        't,n,o,h,l,c,v\n1704153600,5" disk,1,1,1,1,1\n1704153660,"a\n""b"", c",1,1,1,1,1\n'
        "1704153720,x,1,1,1,1,1\n"
    )
    assert len(await imported(storage, path)) == 3


async def test_a_file_that_was_cut_off_is_told(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.csv.gz"
    rows = "".join(
        f"{1704153600 + 60 * n},{n + 1},{n + 1},{n + 1},{n + 1},1\n" for n in range(9999)
    )
    path.write_bytes(gzip.compress(f"t,o,h,l,c,v\n{rows}".encode())[:-20_000])
    with pytest.raises(InvalidData, match="compressed"):
        await imported(storage, path)


def test_an_empty_format_of_times_is_refused() -> None:
    with pytest.raises(InvalidData, match="time_format"):
        TimestampReader(Timeframe.M1, None, "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("t,o,h,l,c,c,v\n1,1,1,1,1,1,1\n", "2 columns 'c'"),
        ("t;o;h;l;c;v\n1704153600;1;1;1;1;12.000\n", "'12.000' could have"),
    ],
)
async def test_what_could_be_meant_in_two_ways_is_refused(
    storage: Storage, tmp_path: Path, text: str, told: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(InvalidData, match=told):
        await imported(storage, path)


@pytest.mark.parametrize("line", [3, 5_000, 90_001])
def test_an_open_quote_is_found_wherever_it_is(tmp_path: Path, line: int) -> None:
    path = tmp_path / "p.csv"
    lines = ["t,o,n", *(f'{n},1,"quoted, too"' for n in range(90_000))]
    lines[line - 1] = '1,1,"5 inch'
    path.write_text("\n".join(lines) + "\n")
    assert path.stat().st_size > 1 << 20, "more than one piece"
    form = text_files.sniff(path)
    assert open_quotes.first_open_quote(path, form) == line
    lines[line - 1] = "1,1,whole"
    path.write_text("\n".join(lines))
    assert open_quotes.first_open_quote(path, form) is None


def test_lines_of_as_many_quotes_on_average_are_looked_at_each(tmp_path: Path) -> None:
    path = tmp_path / "quotes.csv"
    path.write_text('"t",n\n"1",1\n"2,2\n"3",3\n"4"",4\n"5",5\n')
    form = text_files.sniff(path)
    assert open_quotes.first_open_quote(path, form) == 3
