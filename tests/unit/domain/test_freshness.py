"""How late candles are: for how long the first one that is missing should have been there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from jts_storage import Timeframe
from jts_storage.domain.freshness import late_ms

SEOUL = ZoneInfo("Asia/Seoul")
CLOSE = datetime(2026, 3, 6, 15, 29, tzinfo=SEOUL)  # the last minute of a Friday


def late(newest: datetime, now: datetime, timeframe: Timeframe, exchange: str) -> timedelta | None:
    ms = [int(each.timestamp() * 1_000) for each in (newest, now)]
    found = late_ms(ms[0], ms[1], timeframe, exchange)
    return None if found is None else timedelta(milliseconds=found)


@pytest.mark.parametrize(("minutes", "expected"), [(0, 0), (1, 0), (2, 0), (10, 8)])
def test_a_market_that_never_closes(minutes: int, expected: int) -> None:
    newest = datetime(2026, 3, 7, 12, tzinfo=UTC)
    now = newest + timedelta(minutes=minutes)
    assert late(newest, now, Timeframe.M1, "UPBIT") == timedelta(minutes=expected)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (datetime(2026, 3, 7, 12, tzinfo=SEOUL), 0),  # a Saturday
        (datetime(2026, 3, 9, 9, 1, tzinfo=SEOUL), 0),
        (datetime(2026, 3, 9, 9, 5, tzinfo=SEOUL), 4),
    ],
)
def test_nothing_is_late_while_an_exchange_is_closed(now: datetime, expected: int) -> None:
    assert late(CLOSE, now, Timeframe.M1, "KRX") == timedelta(minutes=expected)


def test_a_day_is_complete_at_the_close_of_its_session() -> None:
    friday = datetime(2026, 3, 6, tzinfo=UTC)
    monday = datetime(2026, 3, 9, 16, 30, tzinfo=SEOUL)
    assert late(friday, monday, Timeframe.D1, "KRX") == timedelta(hours=1)
    assert late(friday, monday, Timeframe.W1, "KRX") is None
    assert late(friday, monday, Timeframe.D1, "UNKNOWN") is None
