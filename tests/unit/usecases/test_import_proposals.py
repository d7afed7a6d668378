"""What messages propose: the market of a symbol that is not known, the column of the volume."""

from __future__ import annotations

from pathlib import Path

import pytest

from jts_storage import Market, Storage, Symbol, Timeframe
from jts_storage._runtime.surface import use_command_line
from jts_storage.errors import InvalidData, NotFound
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions

KOREAN = "or --create KOSPI creates it; so does --create KOSDAQ."
HEADER = "t,o,h,l,c,v\n"
ROW = "1704153600,1,1,1,1,1\n"


@pytest.mark.parametrize(
    ("symbol", "exchange", "proposed"),
    [
        ("005930", "", KOREAN),
        ("00088K", "", KOREAN),
        ("005930", "KRX", KOREAN),
        (
            "BRK.B",
            "",
            "or --create NASDAQ with --exchange NASDAQ creates it; so does --create NYSE ",
        ),
        ("AAPL", "NASDAQ", "or --create NASDAQ creates"),
        ("AAPL", "NYSE", "or --create NYSE creates"),
        ("BTCUSDT", "", "or --create CRYPTO creates"),
        ("btc/usd", "", "or --create CRYPTO creates"),
        ("KRW-BTC", "", "or --create CRYPTO creates"),
        ("BTCUSD", "", "or --create CRYPTO creates"),
        ("1INCHUSDT", "BINANCE", "or --create CRYPTO creates"),
        ("EURUSD", "", "or --create FX creates"),
        ("EURUSD=X", "", "or --create FX creates"),
        ("X-1_long_name", "", "or --create OTHER creates"),
        ("BAYN", "XETR", "or --create OTHER creates"),
        ("AAPL", "XNAS", "or --create NASDAQ creates it."),
        ("AAPL", "XNYS", "or --create NYSE creates it."),
        ("SPY", "ARCX", "or --create NYSE creates it."),
        ("035720", "XKOS", "or --create KOSDAQ creates it."),
        ("005930.KS", "", "or --create KOSPI creates it."),
        ("035720.KQ", "", "or --create KOSDAQ creates it."),
        ("GOLD/USD", "", "or --create FX creates it."),
        ("XAUUSD", "", "or --create FX creates it."),
        ("DOGE/USD", "", "or --create CRYPTO creates it."),
    ],
)
async def test_a_market_is_proposed_by_exchange_and_code(
    storage: Storage, tmp_path: Path, symbol: str, exchange: str, proposed: str
) -> None:
    use_command_line()
    (path := tmp_path / "a.csv").write_text(HEADER + ROW)
    with pytest.raises(NotFound) as error:
        await ImportCandles(storage).run(path, Timeframe.M1, symbol=symbol, exchange=exchange)
    assert proposed in str(error.value)


@pytest.mark.parametrize("count", [1, 30])
async def test_the_market_is_that_of_the_symbol_that_is_missing(
    storage: Storage, tmp_path: Path, count: int
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save_many(Symbol(f"{n:06}", "K", Market.KOSPI) for n in range(count))
        await uow.commit()
    known = "".join(f"{n:06},KRX,{ROW}" for n in range(count))
    (path := tmp_path / "a.csv").write_text(
        f"symbol,exchange,{HEADER}{known}DOGEUSDT,BINANCE,{ROW}"
    )
    with pytest.raises(NotFound, match=r"DOGEUSDT is not .* create=Market\.CRYPTO creates it\.$"):
        await ImportCandles(storage).run(path, Timeframe.M1)


@pytest.mark.parametrize(
    ("header", "is_proposed"),
    [
        ("revolution", False),
        ("shares outstanding", False),
        ("SharesFloat", False),
        ("Volatility", False),
        ("involved", False),
        ("grossVolume", True),
        ("baseVol", True),
        ("volUSD", True),
        ("vol_24h", True),
        ("24h vol", True),
        ("Shares", True),
        ("거래량합", True),
    ],
)
async def test_only_what_is_a_volume_is_proposed(
    storage: Storage, tmp_path: Path, header: str, is_proposed: bool
) -> None:
    (path := tmp_path / "a.csv").write_text(f"t,o,h,l,c,{header}\n{ROW}")
    options = ImportOptions(create=Market.KOSPI)
    with pytest.raises(InvalidData) as error:
        await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
    assert (f"Layout(columns={{'volume': {header!r}}})" in str(error.value)) == is_proposed


NEEDS = {
    "a format, then a zone": (
        'date,o,h,l,c,v\n"Jan 02, 2024",1,2,1,1,1\n',
        ["--time-format '%b %d, %Y'", "--timezone Asia/Seoul"],
    ),
    "a column, then its rounding": (
        "date,o,h,l,c,Volume BTC\n2024-01-02T00:00Z,1,2,1,1,1.5\n",
        ["--column 'volume=Volume BTC'", "--volume round"],
    ),
    "lines above, then a column, then its rounding": (
        "https://x.example\nt,open,high,low,close,Volume BTC,Volume USD\n"
        + "1704153600,1.12345,2,1,1,0.5,1\n" * 3,
        ["--skip-lines 1", "--column 'volume=Volume BTC'", "--round-prices", "--volume round"],
    ),
    "lines above, then all of the rows": (
        "x\ndate,o,h,l,c\n" + '"Jan 02, 2024",1,2,1,1.123456\n' * 3,
        [
            "--skip-lines 1",
            "--volume zero-if-missing",
            "--time-format",
            "--timezone Asia/Seoul",
            "--round-prices",
        ],
    ),
}


@pytest.mark.parametrize("name", NEEDS)
async def test_all_needs_are_told_at_once(storage: Storage, tmp_path: Path, name: str) -> None:
    use_command_line()
    text, options = NEEDS[name]
    (path := tmp_path / "a.csv").write_text(text)
    with pytest.raises(InvalidData) as error:
        await ImportCandles(storage).run(
            path, Timeframe.M1, symbol="A", options=ImportOptions(create=Market.KOSPI)
        )
    told = str(error.value)
    assert [option for option in options if option not in told] == []
    assert told.count("Besides:") == 1
