"""What ``jts-storage import`` says below the counts."""

from __future__ import annotations

from typing import Any

import pytest

from jts_storage import Market
from jts_storage.cli.import_reports import print_without_exchange
from jts_storage.usecases.results import COUNTS, ImportResult


@pytest.mark.parametrize(
    ("key", "market", "created", "exchange"),
    [
        ("AAPL/1d", Market.NASDAQ, "AAPL", "NASDAQ"),
        ("005930/1d", Market.KOSDAQ, "005930", "KRX"),
        ("NASDAQ:AAPL/1d", Market.NASDAQ, "AAPL", None),
        ("AAPL/1d", Market.NASDAQ, "", None),
        ("AAPL/1d", None, "", None),
        ("BTCUSDT/1d", Market.CRYPTO, "BTCUSDT", None),
        ("BTC/USDT/1d", Market.FX, "BTC/USDT", "FX"),
    ],
)
def test_a_created_series_without_an_exchange_is_told_of_it(
    key: str,
    market: Market | None,
    created: str,
    exchange: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given: dict[str, Any] = {"source": "a.csv", "broken": {}, "start": None, "end": None}
    given |= dict.fromkeys(COUNTS, 0) | {"series": {key: 3}}
    result = ImportResult(**given, created_symbols=(created,) if created else ())
    print_without_exchange(result, market)
    said = capsys.readouterr().out
    if exchange is None:
        assert said == ""
    else:
        assert said.startswith(f"{key} names no exchange")
        assert f"say --exchange {exchange} from the start" in said
