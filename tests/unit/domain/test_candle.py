from __future__ import annotations

import dataclasses
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_UP, Decimal, localcontext
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData

MOMENT = datetime(2024, 1, 2, tzinfo=UTC)


def candle(**fields: Any) -> Candle:
    values: dict[str, Any] = {
        "timestamp": MOMENT,
        "open": Decimal("10.5"),
        "high": Decimal("12.25"),
        "low": Decimal("9"),
        "close": Decimal("11"),
        "volume": 100,
    }
    return Candle(**values | fields)


def test_a_candle_keeps_what_it_was_given() -> None:
    given = candle()
    assert dataclasses.astuple(given) == (
        MOMENT,
        Decimal("10.5"),
        Decimal("12.25"),
        Decimal("9"),
        Decimal("11"),
        100,
    )


def test_a_candle_is_frozen_slotted_and_hashable() -> None:
    given = candle()
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.open = Decimal(1)  # type: ignore[misc]
    assert not hasattr(given, "__dict__")
    assert {given, candle(open=Decimal("10.5000"))} == {given}
    assert pickle.loads(pickle.dumps(given)) == given


def test_the_timestamp_is_kept_in_utc() -> None:
    moment = MOMENT.astimezone(timezone(timedelta(hours=9)))
    assert candle(timestamp=moment).timestamp.tzinfo is UTC


def test_a_whole_number_is_a_price_too() -> None:
    assert isinstance(candle(open=10).open, Decimal)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timestamp", datetime(2024, 1, 2)),
        ("timestamp", None),
        ("open", 10.5),
        ("open", Decimal("NaN")),
        ("high", Decimal("12.00001")),
        ("low", Decimal("-Infinity")),
        ("close", Decimal("1E+14")),
        ("close", "11"),
        ("volume", -1),
        ("volume", 2**64),
        ("volume", 1.0),
        ("volume", True),
        ("volume", None),
    ],
)
def test_a_bad_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidData) as caught:
        candle(**{field: value})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"high": 8}, "high"),
        ({"high": Decimal("8.9999")}, "high"),
        ({"open": Decimal("8.9999")}, "open"),
        ({"open": Decimal("12.2501")}, "open"),
        ({"close": Decimal("8.9999")}, "close"),
        ({"close": Decimal("12.2501")}, "close"),
    ],
)
def test_prices_out_of_order_are_refused(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidData) as caught:
        candle(**fields)
    assert caught.value.field == field


def test_the_ends_of_low_to_high_are_included() -> None:
    assert candle(open=9, close=Decimal("12.25")).range == Decimal("3.25")
    assert candle(open=9, high=9, low=9, close=9).range == 0


@pytest.mark.parametrize("volume", [0, 2**63, 2**64 - 1])
def test_every_volume_of_64_bits_is_taken(volume: int) -> None:
    assert candle(volume=volume).volume == volume


def test_negative_prices_are_prices() -> None:
    assert candle(open=-3, high=-1, low=-4, close=-2).is_bullish


@pytest.mark.parametrize(
    ("open_", "close", "bullish"), [("10", "11", True), ("11", "10", False), ("10", "10", False)]
)
def test_a_candle_is_bullish_when_it_closes_higher(open_: str, close: str, bullish: bool) -> None:
    assert candle(open=Decimal(open_), close=Decimal(close)).is_bullish is bullish


@pytest.mark.parametrize(("open_", "close"), [("10.5", "11"), ("11", "10.5")])
def test_body_and_shadows_add_up_to_the_range(open_: str, close: str) -> None:
    given = candle(open=Decimal(open_), close=Decimal(close))
    assert given.body_size == Decimal("0.5")
    assert given.upper_shadow == Decimal("1.25")
    assert given.lower_shadow == Decimal("1.5")
    assert given.range == Decimal("3.25")


def test_figures_ignore_the_decimal_context_of_the_caller() -> None:
    wide = candle(
        open=Decimal("-99999999999999.9998"),
        high=Decimal("99999999999999.9999"),
        low=Decimal("-99999999999999.9999"),
        close=Decimal("99999999999999.9998"),
    )
    with localcontext() as context:
        context.prec, context.rounding = 2, ROUND_UP
        assert str(wide.range) == "199999999999999.9998"
        assert str(wide.body_size) == "199999999999999.9996"
        assert wide.upper_shadow == wide.lower_shadow == Decimal("0.0001")


def test_a_key_is_symbol_timeframe_and_exchange() -> None:
    key = SeriesKey("005930", "1m", exchange="KRX")  # type: ignore[arg-type]
    assert key.timeframe is Timeframe.M1
    assert str(key) == "KRX:005930/1m"
    assert str(SeriesKey("A", Timeframe.MN1)) == "A/1M"
    assert key != SeriesKey("005930", Timeframe.M1)
    assert hash(key) == hash(SeriesKey("005930", Timeframe.M1, "KRX"))


names = st.text(":\\/a", min_size=1, max_size=4)
keys = st.builds(SeriesKey, names, st.just(Timeframe.M1), st.just("") | names)


@given(keys, keys)
@example(SeriesKey("KRX:A", Timeframe.M1), SeriesKey("A", Timeframe.M1, "KRX"))
@example(SeriesKey("b:c", Timeframe.M1, "a"), SeriesKey("c", Timeframe.M1, "a:b"))
def test_no_two_keys_read_the_same(one: SeriesKey, other: SeriesKey) -> None:
    assert (str(one) == str(other)) == (one == other)


def test_keys_are_listed_by_symbol_then_exchange_then_timeframe() -> None:
    keys = [
        SeriesKey(symbol, timeframe, exchange)
        for symbol in "AB"
        for exchange in ("", "X")
        for timeframe in (Timeframe.D1, Timeframe.M1)
    ]
    listed = keys[::-1]
    listed.sort(key=lambda key: key.sort_key)
    assert listed == keys


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        (("", "1m", ""), "symbol"),
        (("a\0", "1m", ""), "symbol"),
        (("A", "2m", ""), "timeframe"),
        (("A", None, ""), "timeframe"),
        (("A", "1m", " X"), "exchange"),
        (("A", "1m", None), "exchange"),
        (("A", "1m", 0), "exchange"),
        (("A", "1m", 5), "exchange"),
    ],
)
def test_a_key_that_some_store_would_garble_is_refused(fields: Any, field: str) -> None:
    with pytest.raises(InvalidData) as caught:
        SeriesKey(*fields)
    assert caught.value.field == field


@given(
    st.text(st.sampled_from("a:\\/1m "), max_size=6),
    st.text(st.sampled_from("a:\\/1m "), min_size=1, max_size=6),
    st.sampled_from(Timeframe),
)
def test_a_key_is_read_from_its_text(exchange: str, symbol: str, timeframe: Timeframe) -> None:
    try:
        key = SeriesKey(symbol, timeframe, exchange)
    except InvalidData:
        return
    assert SeriesKey.parse(str(key)) == key


@pytest.mark.parametrize("text", ["", "005930", "005930/", "005930/2m", "/1m", "KRX:/1m", 7])
def test_what_is_no_key_is_refused(text: Any) -> None:
    with pytest.raises(InvalidData):
        SeriesKey.parse(text)
