"""Trades read a column at a time are what they are one by one, and so are the errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.domain.backtest import BacktestResult, Trade
from jts_storage.domain.trades import FIELDS, plain_trades
from jts_storage.errors import InvalidData
from jts_storage.mongo import mappers
from jts_storage.mongo.documents import BacktestDocument, TradeFields
from jts_storage.mongo.stored import CODEC
from jts_storage.mongo.trades import read_backtest, read_trades
from jts_storage.testing.factories import make_backtest

MOMENT = datetime(2024, 1, 2, 9, tzinfo=UTC)
PLAIN: dict[str, Any] = {
    "symbol": "005930",
    "side": "buy",
    "entry_time": MOMENT,
    "entry_price": Decimal128("70000.0000"),
    "quantity": 1.5,
    "exit_time": MOMENT + timedelta(minutes=7),
    "exit_price": Decimal128("70001.2340"),
    "pnl": Decimal128("-1.2"),
    "exit_reason": "stop",
}
ABSENT = object()
VALUES: tuple[Any, ...] = (
    *(ABSENT, None, True, 0, 7, -1, Int64(9), 2**63 - 1, [], {}, ["buy"], b"x", ObjectId("c" * 24)),
    *(0.0, -0.0, 0.1, -1.5, 5e-324, 1e301, 33.333333333333336),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x ", "buy", "sell", "BUY", "1.5", "a\x00", "a\nb", "\ud800", "x" * 257),
    *(MOMENT, MOMENT - timedelta(days=1), MOMENT.replace(tzinfo=None)),
    *(MOMENT.replace(microsecond=1), MOMENT.astimezone(timezone(timedelta(hours=9)))),
    *(MOMENT.astimezone(timezone(timedelta(0))), MOMENT.replace(year=1899)),
    *(MOMENT.replace(year=2300), DatetimeMS(2**60)),
    *(Decimal128(text) for text in ("0", "-0", "0E-6176", "1E+6000", "1E-6000", "NaN", "-Inf")),
    *(Decimal128("9" * 34), Decimal128("1.50"), Decimal128("1.23456789012345678")),
)
moments = st.integers(-2_208_988_800_000, 10_413_791_999_999).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)
prices = st.builds(
    lambda digits, exponent: Decimal128(Decimal(digits).scaleb(exponent)),
    st.integers(-(10**18), 10**18),
    st.integers(-9, 3),
)
words = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=9)
plain = st.fixed_dictionaries(
    {
        "symbol": words,
        "side": st.sampled_from(["buy", "sell", "long", "short"]),
        "entry_time": moments,
        "entry_price": prices,
        "quantity": st.floats(1e-300, 1e300),
        "exit_time": st.none() | moments,
        "exit_price": st.none() | prices,
        "pnl": st.none() | prices,
        "exit_reason": st.none() | words,
    }
)
dirty = st.builds(
    lambda trade, field, value: {**trade, field: value},
    plain,
    st.sampled_from(FIELDS),
    st.sampled_from(VALUES),
)


def stored(trades: list[dict[str, Any]], **head: Any) -> dict[str, Any]:
    """The document of a result with the trades, which are given by field."""
    document = mappers.backtest_to_stored(make_backtest(id="c" * 24), []) | head
    path = TradeFields.path
    return document | {
        "trades": [
            {path(field): value for field, value in trade.items() if value is not ABSENT}
            for trade in trades
        ]
    }


def outcome(read: Callable[[], object]) -> tuple[str, ...]:
    """What came of it, with the types, the digits and the zones of all values."""
    try:
        return (repr(read()),)
    except InvalidData as exc:
        return (str(exc), repr(exc.field), repr(exc.value), repr(exc.document), repr(exc.row))


def carefully(document: dict[str, Any]) -> BacktestResult:
    return mappers.read_stored(BacktestDocument, mappers.backtest_from_document, document)


def is_same_both_ways(document: dict[str, Any]) -> bool:
    return outcome(lambda: read_backtest(BacktestDocument, document)) == outcome(
        lambda: carefully(document)
    ) and outcome(lambda: read_trades(BacktestDocument, document)) == outcome(
        lambda: mappers.read_stored(BacktestDocument, mappers.trades_from_document, document)
    )


@given(st.lists(plain | dirty, max_size=4))
def test_any_trades_are_read_alike(trades: list[dict[str, Any]]) -> None:
    assert is_same_both_ways(stored(trades))


@pytest.mark.parametrize("field", FIELDS)
def test_a_value_of_any_kind_is_read_alike(field: str) -> None:
    """Whatever one trade among others holds."""
    different = [
        value
        for value in VALUES
        if not is_same_both_ways(stored([PLAIN, {**PLAIN, field: value}, PLAIN]))
    ]
    assert different == []


@pytest.mark.parametrize("head", [{"_id": "c" * 24}, {"config": None}, {"runAt": "today"}])
@pytest.mark.parametrize("trade", [PLAIN, {**PLAIN, "side": "hold"}, {"symbol": "x"}])
def test_of_several_faults_the_same_one_is_named(head: Any, trade: Any) -> None:
    assert is_same_both_ways(stored([trade], **head))


@pytest.mark.parametrize("trades", [None, [], {}, "trades", 5, [None], [5], ["x"], [[]], [[1]]])
def test_what_are_no_trades_is_read_alike(trades: Any) -> None:
    assert is_same_both_ways(stored([]) | {"trades": trades})


@given(st.lists(plain, min_size=1, max_size=4))
def test_plain_trades_are_not_checked_one_by_one(trades: list[dict[str, Any]]) -> None:
    for trade in trades:
        if trade["exit_time"] is not None:
            trade["exit_time"] = max(trade["exit_time"], trade["entry_time"])
    document = bson.decode(bson.encode(stored(trades)), CODEC)
    expected = carefully(document)

    def check_one(trade: Trade) -> None:
        raise AssertionError(trade)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trade, "__post_init__", check_one)
        assert repr(read_backtest(BacktestDocument, document)) == repr(expected)


class Later(datetime):
    """As pandas has one: a trade keeps a plain datetime."""


class Money(Decimal):
    pass


PLAIN_ENTITY: dict[str, Any] = {
    field: getattr(carefully(stored([PLAIN])).trades[0], field) for field in FIELDS
}
ENTITY_VALUES: tuple[Any, ...] = (
    *(Decimal("9" * 34), Decimal("9" * 35), Decimal("1." + "0" * 14), Decimal("1." + "0" * 15)),
    *(Decimal(text) for text in ("1E+300", "1E+301", "1E-300", "1E-301", "0E+6100", "-0", "0")),
    *(Decimal(text) for text in ("1E+5999", "1E-5999", "1E+6000", "NaN", "sNaN", "Infinity")),
    *(Later(2024, 1, 3, tzinfo=UTC), Money("1.5")),
)


@pytest.mark.parametrize("field", FIELDS)
def test_a_column_is_plain_only_where_each_trade_is_right(field: str) -> None:
    def is_right(value: Any) -> bool:
        row = {**PLAIN_ENTITY, field: value}
        found = plain_trades({name: [PLAIN_ENTITY[name], row[name]] for name in FIELDS})
        return found is None or outcome(lambda: found[1]) == outcome(lambda: Trade(**row))

    assert [value for value in VALUES + ENTITY_VALUES if not is_right(value)] == []
