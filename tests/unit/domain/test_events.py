from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.events import (
    BacktestCompleted,
    CandlesImported,
    DomainEvent,
    IngestionCompleted,
    IngestionFailed,
)
from jts_storage.errors import InvalidData

KEY = SeriesKey("A", Timeframe.M1, "X")
DAY = date(2024, 1, 2)


@dataclass(frozen=True, kw_only=True)
class OrderV2Filled(DomainEvent):
    number: int


@pytest.mark.parametrize(
    ("event", "event_type", "key"),
    [
        (CandlesImported(series=KEY, rows=3), "candles_imported", "X:A/1m"),
        (
            IngestionCompleted(symbol="A", trading_day=DAY, bar_count=390),
            "ingestion_completed",
            "A",
        ),
        (IngestionFailed(symbol="A", trading_day=DAY, reason="no"), "ingestion_failed", "A"),
        (BacktestCompleted(strategy_id="s", result_id="r"), "backtest_completed", "s"),
        (OrderV2Filled(number=1), "order_v2_filled", "order_v2_filled"),
        (DomainEvent(), "domain_event", "domain_event"),
    ],
)
def test_an_event_knows_its_type_and_what_orders_it(
    event: DomainEvent, event_type: str, key: str
) -> None:
    assert (event.event_type, event.key) == (event_type, key)
    assert pickle.loads(pickle.dumps(event)) == event


def test_an_event_gets_an_id_and_the_present() -> None:
    before = datetime.now(UTC)
    first, second = OrderV2Filled(number=1), OrderV2Filled(number=1)
    assert first.id != second.id
    assert abs((first.occurred_at - before).total_seconds()) < 5
    assert first.occurred_at.microsecond % 1000 == 0


def test_an_event_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        OrderV2Filled(number=1).number = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"), [("id", ""), ("id", None), ("occurred_at", datetime(2024, 1, 2))]
)
def test_a_bad_header_is_refused(field: str, value: Any) -> None:
    with pytest.raises(InvalidData) as caught:
        OrderV2Filled(number=1, **{field: value})
    assert caught.value.field == field
