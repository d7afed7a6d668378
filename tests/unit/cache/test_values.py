"""Answers come back from bytes as they were, and bytes that are none come back as nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.cache import values
from jts_storage.cache.values import SeriesCodec, Unusable, packed, unpacked
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.results import Coverage, Page
from jts_storage.domain.series import CandleSeries
from jts_storage.testing.factories import make_candles, make_symbol

TOKEN = b"0123456789abcdef"
KEY = SeriesKey("AAPL", Timeframe.M1, "X")
DAY = make_candles(KEY, 390)
SERIES = SeriesCodec(KEY)
PANEL = CandlePanel(Timeframe.M1, [DAY, make_candles(SeriesKey("B", Timeframe.M1), 3)])
NOW = datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)

ANSWERS: list[tuple[Any, Any]] = [
    (SERIES, DAY),
    (SERIES, CandleSeries.empty(KEY)),
    (values.PANEL, PANEL),
    (values.PANEL, PANEL.only("close", "volume")),
    (values.PANEL, CandlePanel.empty(Timeframe.D1)),
    (values.COVERAGE, Coverage(NOW, NOW)),
    (values.COVERAGE, Coverage(None, None)),
    (values.COUNT, 0),
    (values.COUNT, 2**40),
    (values.DAYS, {NOW.date(): 7}),
    (values.KEYS, Page([KEY], has_more=True)),
    (values.SYMBOLS, [make_symbol("A"), make_symbol("B", market=Market.own("Busan"))]),
    (values.SYMBOL, None),
    (values.SYMBOL, make_symbol("A", updated_at=NOW)),
]


@pytest.mark.parametrize(("codec", "value"), ANSWERS)
def test_an_answer_comes_back_as_it_was(codec: Any, value: Any) -> None:
    found, at = unpacked(TOKEN, packed(TOKEN, 2**41, codec.encode(value)), codec)
    assert at == 2**41
    assert found == value
    assert type(found) is type(value)
    assert getattr(found, "has_more", None) == getattr(value, "has_more", None)
    assert getattr(found, "fields", None) == getattr(value, "fields", None)


def test_columns_are_not_copied_and_cannot_be_changed() -> None:
    found = unpacked(TOKEN, packed(TOKEN, 0, SERIES.encode(DAY) or b""), SERIES).value
    with pytest.raises(ValueError, match="read-only"):
        found.columns.close[0] = 1


def test_what_callers_get_is_theirs() -> None:
    for codec, value in ANSWERS:
        given_ = codec.given(value)
        assert given_ == value
        if isinstance(value, list | dict):
            given_.clear()
            assert value, "the caller has changed what is kept"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_garbage_is_no_value(data: st.DataObject) -> None:
    codec, value = data.draw(st.sampled_from(ANSWERS))
    whole = bytearray(packed(TOKEN, 7, codec.encode(value)))
    kind = data.draw(st.sampled_from(["changed", "cut", "longer", "noise"]))
    if kind == "changed":
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del whole[data.draw(st.integers(0, len(whole) - 1)) :]
    elif kind == "longer":
        whole += data.draw(st.binary(min_size=1, max_size=64))
    else:
        whole = bytearray(data.draw(st.binary(max_size=200)))
    with pytest.raises(Unusable):
        unpacked(TOKEN, bytes(whole), codec)


def test_a_value_of_another_generation_or_codec_is_none() -> None:
    stored = packed(TOKEN, 7, values.COUNT.encode(7))
    with pytest.raises(Unusable, match="generation"):
        unpacked(TOKEN[::-1], stored, values.COUNT)
    with pytest.raises(Unusable):
        unpacked(TOKEN, stored, SERIES)


def test_what_is_large_is_not_encoded() -> None:
    assert SERIES.encode(make_candles(KEY, values.MOST_ROWS)) is not None
    assert SERIES.encode(make_candles(KEY, values.MOST_ROWS + 1)) is None
