"""Whatever comes: exactly that is stored, or `InvalidData` and nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain import checks
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData
from jts_storage.testing.factories import make_symbol

ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
HOSTILE = [
    "'; DROP TABLE candles; --", "\\", "\\'", "%s", "%(symbol)s", "{symbol:String}", "100%%",
    "a\x00b", "\t", "`", '"', "삼성전자", "𝟘", "\ud800", "NULL", "x" * 10_000, "a\nb", "--", "/*",
]  # fmt: skip

texts = st.sampled_from(HOSTILE) | st.text(max_size=12)
prices = st.one_of(
    st.decimals(-(10**14), 10**14, places=4),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.integers(-100, 100).map(Decimal),
    st.sampled_from([Decimal("99999999999999.9999"), Decimal("1E+14"), Decimal("0.00005"), 1.5]),
)
moments = st.one_of(
    st.datetimes(datetime(1890, 1, 1), datetime(2310, 1, 1), timezones=st.just(UTC)).map(
        lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)
    ),
    st.datetimes(timezones=st.none() | st.just(timezone(timedelta(hours=9)))),
    st.integers(0, 5).map(lambda n: datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=n)),
)
volumes = st.sampled_from([0, 1, 2**63, 2**64 - 1, 2**64, -1]) | st.integers(0, 10**6)
rows = st.lists(st.tuples(moments, st.lists(prices, min_size=2, max_size=2), volumes), max_size=8)
numbers = count()
unhindered = settings(suppress_health_check=list(HealthCheck))  # as many as the profile says


def candle(moment: Any, ends: list[Any], volume: Any) -> Candle:
    opening, close = ends
    return Candle(moment, opening, max(ends), min(ends), close, volume)


@pytest.fixture
def loop() -> Any:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@unhindered
@given(symbol=texts, exchange=texts, rows=rows)
def test_candles_are_exact_or_refused(
    manager: ClickHouseManager, loop: Any, symbol: str, exchange: str, rows: list[Any]
) -> None:
    candles = ClickHouseCandleRepository(manager)
    wanted: dict[datetime, Candle] = {}
    before = manager.execute("SELECT count() FROM candles")[0][0]
    try:
        # Every example has a key of its own: what is found is what it wrote.
        key = SeriesKey(f"{symbol}{next(numbers)}", Timeframe.M1, exchange)
        given_candles = [candle(*row) for row in rows]
    except (InvalidData, ArithmeticError):  # Decimal's own, when NaNs are compared
        assert manager.execute("SELECT count() FROM candles")[0][0] == before
        return
    wanted = {c.timestamp: c for c in given_candles}
    result = loop.run_until_complete(candles.save_many(key, given_candles))
    found = list(loop.run_until_complete(candles.get_range(key, *ALWAYS)))
    assert found == [wanted[t] for t in sorted(wanted)]
    assert (result.written, result.duplicates) == (len(wanted), len(rows) - len(wanted))
    latest = loop.run_until_complete(candles.get_latest(key, 3))
    assert list(latest) == found[-3:]
    listed = loop.run_until_complete(candles.list_keys(limit=100_000))
    assert (key in listed) == bool(wanted)


@unhindered
@given(columns=st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3),
                        min_size=5, max_size=5))  # fmt: skip
def test_columns_are_exact_or_refused(
    manager: ClickHouseManager, loop: Any, columns: list[list[int]]
) -> None:
    candles = ClickHouseCandleRepository(manager)
    key = SeriesKey(f"C{next(numbers)}", Timeframe.M1)
    names = ("timestamp", "open", "high", "low", "close")
    data = dict(zip(names, columns, strict=True)) | {"volume": [1, 2, 3]}
    try:
        loop.run_until_complete(candles.save_many(key, data))
    except InvalidData:
        assert loop.run_until_complete(candles.count(key)) == 0
        return
    found = loop.run_until_complete(candles.get_range(key, *ALWAYS)).to_columns()
    last = {stamp: row for row, stamp in enumerate(columns[0])}
    for name, column in data.items():
        assert found[name].tolist() == [column[last[stamp]] for stamp in sorted(last)]


@unhindered
@given(code=texts, name=texts, query=texts)
def test_symbols_are_exact_or_refused(
    manager: ClickHouseManager, loop: Any, code: str, name: str, query: str
) -> None:
    symbols = ClickHouseSymbolRepository(manager)
    try:
        symbol = make_symbol(code, name=name)
    except InvalidData:
        return
    saved = loop.run_until_complete(symbols.save(symbol))
    assert loop.run_until_complete(symbols.get_by_code(code)) == saved
    assert saved in loop.run_until_complete(symbols.search(name, limit=100_000))
    for other in loop.run_until_complete(symbols.search(query)):
        assert other.matches(query)
    found = loop.run_until_complete(symbols.get_by_code(query))
    assert found is None or found.code == query


@pytest.mark.parametrize(
    ("query", "found"),
    [("삼성", ["005930", "207940"]), ("전자", ["005930"]), ("sk하이", ["000660"]),
     ("0059", ["005930"]), ("%", []), ("_", []), ("SK", ["000660"]),
     ("ＳＫ", []), ("성전", ["005930"]), ("", [])],
)  # fmt: skip
async def test_korean_names_are_found(
    manager: ClickHouseManager, query: str, found: list[str]
) -> None:
    symbols = ClickHouseSymbolRepository(manager)
    names = {"005930": "삼성전자", "207940": "삼성바이오로직스", "000660": "SK하이닉스"}
    await symbols.save_many([make_symbol(code, name=name) for code, name in names.items()])
    assert [symbol.code for symbol in await symbols.search(query)] == found
