"""What the rules find at their very limits, and what becomes of a row that breaks several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jts_storage import Market, Storage, Timeframe
from jts_storage.domain import checks
from jts_storage.domain.calendar import Sessions
from jts_storage.domain.columns import Columns
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import Action, Before, QualityPolicy, Rule, Verdict, judge
from jts_storage.usecases.quarantine import Quarantine

NOON = int(datetime(2024, 1, 2, 12, tzinfo=UTC).timestamp() * 1000)
MINUTE = 60_000
HOUR = 60 * MINUTE
LIMIT = checks.PRICE_LIMIT
LATER = datetime(2024, 2, 1, tzinfo=UTC)


def rows(stamps: Sequence[int], *prices: tuple[int, int, int, int], volume: int = 5) -> Columns:
    """Rows with these open, high, low and close, scaled as they are stored; of one if not told."""
    each = np.array(prices or [(10_000,) * 4] * len(stamps), np.int64)
    opens, highs, lows, closes = (np.ascontiguousarray(each[:, n]) for n in range(4))
    volumes = np.full(len(stamps), volume, np.uint64)
    return Columns(np.array(stamps, np.int64), opens, highs, lows, closes, volumes)


def judged(columns: Columns, policy: QualityPolicy, missing: Sequence[int] = ()) -> Verdict:
    gone = np.zeros(columns.rows, np.bool_)
    gone[list(missing)] = True
    return judge(columns, gone, Timeframe.M1, policy, Before())


def broken(verdict: Verdict, rule: Rule) -> list[bool]:
    found = verdict.broken.get(rule)
    return [False] * len(verdict.rejected) if found is None else found.tolist()


@pytest.mark.parametrize(
    ("prices", "fits"),
    [
        ((0, LIMIT - 1, 0, 0), True),
        ((0, LIMIT, 0, 0), False),
        ((0, LIMIT + 1, 0, 0), False),
        ((0, 0, 1 - LIMIT, 0), True),
        ((0, 0, -LIMIT, 0), False),
        ((0, 0, -LIMIT - 1, 0), False),
        ((LIMIT,) * 4, False),
        ((-LIMIT,) * 4, False),
        ((1 - LIMIT, LIMIT - 1, 1 - LIMIT, LIMIT - 1), True),
    ],
)
def test_a_price_that_fits_no_column_is_inconsistent(
    prices: tuple[int, int, int, int], fits: bool
) -> None:
    verdict = judged(rows([NOON], prices), QualityPolicy(now=LATER))
    assert broken(verdict, Rule.OHLC) == [not fits]
    assert verdict.quarantined.tolist() == [not fits]


@pytest.mark.parametrize(
    ("prices", "is_whole"),
    [
        ((2, 3, 1, 2), True),
        ((2, 2, 2, 2), True),
        ((0, 3, 1, 2), False),  # open below low
        ((4, 3, 1, 2), False),  # open above high
        ((2, 3, 1, 0), False),  # close below low
        ((2, 3, 1, 4), False),  # close above high
    ],
)
def test_high_and_low_enclose_open_and_close(
    prices: tuple[int, int, int, int], is_whole: bool
) -> None:
    verdict = judged(rows([NOON], prices), QualityPolicy(now=LATER))
    assert broken(verdict, Rule.OHLC) == [not is_whole]


def test_a_row_that_is_rejected_is_not_quarantined_as_well() -> None:
    """It would be counted twice, and could be released after it was refused."""
    now = datetime.fromtimestamp((NOON + 2 * MINUTE) / 1000, UTC)
    stamps = [NOON, NOON + MINUTE, NOON + 2 * MINUTE, NOON + 3 * MINUTE]
    whole, torn = (2, 3, 1, 2), (2, 1, 3, 2)
    verdict = judged(rows(stamps, whole, torn, whole, torn), QualityPolicy(now=now))
    assert broken(verdict, Rule.OHLC) == [False, True, False, True]
    assert broken(verdict, Rule.UNCLOSED) == [False, False, True, True]
    assert verdict.rejected.tolist() == [False, False, True, True]
    assert verdict.quarantined.tolist() == [False, True, False, False]
    assert verdict.accepted.tolist() == [True, False, False, False]
    assert verdict.reasons(3) == ["ohlc", "unclosed"]
    assert verdict.counts() == {"ohlc": 2, "unclosed": 2}


async def test_an_import_counts_a_row_that_breaks_two_rules_once(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(
        "timestamp,open,high,low,close,volume\n"
        "1704196800,2,3,1,2,0\n"
        "1704196860,2,1,3,2,0\n"  # no volume, and a low above the high
        "1704196920,2,3,1,2,5\n"
    )
    policy = QualityPolicy(actions={Rule.ZERO_VOLUME: Action.REJECT}, now=LATER)
    async with Storage.in_memory() as storage:
        result = await ImportCandles(storage).run(
            path,
            Timeframe.M1,
            symbol="005930",
            options=ImportOptions(policy=policy, create=Market.KOSPI),
        )
        assert (result.read, result.rejected, result.quarantined) == (3, 2, 0)
        assert await Quarantine(storage).review() == []


# Sessions


@dataclass(frozen=True)
class OneDay:
    """Open from nine to three; a break from half past eleven to half past twelve, if any."""

    name: str = "one day"
    has_break: bool = True

    def sessions(self, first_ms: int, last_ms: int, /) -> Sessions:
        def at(hours: float) -> Any:
            return np.array([NOON + int((hours - 12) * HOUR)], np.int64)

        none = np.array([-1], np.int64)
        begin, end = (at(11.5), at(12.5)) if self.has_break else (none, none)
        return Sessions(at(0), at(9), at(15), begin, end)


def off_session(calendar: OneDay, *hours: float, shift: int = 0) -> list[bool]:
    stamps = [NOON + int((hour - 12) * HOUR) + shift for hour in hours]
    return broken(
        judged(rows(stamps), QualityPolicy(calendar=calendar, now=LATER)), Rule.OFF_SESSION
    )


def test_the_break_at_noon_ends_with_the_bar_that_begins_then() -> None:
    assert off_session(OneDay(), 11, 11.5, 12, 12.5, 13) == [False, True, True, False, False]
    assert off_session(OneDay(), 11.5, 12.5, shift=-MINUTE) == [False, True]
    assert off_session(OneDay(), 11.5, 12.5, shift=MINUTE) == [True, False]
    assert off_session(OneDay(), 12.5, shift=-1) == [True], "to the millisecond"


def test_a_day_without_a_break_has_none() -> None:
    assert not any(off_session(OneDay(has_break=False), 11, 11.5, 12, 12.5, 13))


def test_a_session_lasts_from_its_opening_to_its_close() -> None:
    assert off_session(OneDay(), 9, 15) == [False, False]
    assert off_session(OneDay(), 9, shift=-1) == [True]
    assert off_session(OneDay(), 15, shift=1) == [True]


def test_the_break_of_a_real_exchange() -> None:
    """Tokyo rests from 11:30 to 12:30, which is 2:30 to 3:30 in UTC."""
    moments = ["02:29", "02:30", "03:29", "03:30"]
    stamps = [
        int(datetime.fromisoformat(f"2024-01-10T{moment}:00+00:00").timestamp() * 1000)
        for moment in moments
    ]
    verdict = judged(rows(stamps), QualityPolicy(calendar="XTKS", now=LATER))
    assert broken(verdict, Rule.OFF_SESSION) == [False, True, True, False]


# Prices


@pytest.mark.parametrize(
    ("price", "fits"),
    [
        (1_999, True),
        (2_000, True),
        (2_001, False),
        (4_995, True),
        (5_005, False),
        (20_000, True),
        (20_010, False),
        (49_950, True),
        (50_050, False),
        (199_900, True),
        (200_100, False),
        (499_500, True),
        (500_500, False),
        (501_000, True),
    ],
)
def test_the_price_steps_of_the_korean_exchange(price: int, fits: bool) -> None:
    prices = (price * checks.PRICE_SCALE,) * 4
    verdict = judged(rows([NOON], prices), QualityPolicy(tick="krx", now=LATER))
    assert broken(verdict, Rule.TICK) == [not fits]


def test_what_a_calendar_knows_is_judged_in_a_block_that_begins_before() -> None:
    day = 24 * HOUR
    monday = checks.to_ms(datetime(1985, 1, 7, tzinfo=UTC))
    stamps = monday + np.arange(0, 6_000) * day  # week-ends among them
    policy = QualityPolicy(calendar="exchange", now=LATER).of_exchange("KRX")
    columns, nothing = rows(stamps.tolist()), np.zeros(len(stamps), np.bool_)
    verdict = judge(columns, nothing, Timeframe.D1, policy, Before())
    off = verdict.broken[Rule.OFF_SESSION]
    since_1990 = stamps >= checks.to_ms(datetime(1990, 1, 8, tzinfo=UTC))
    week_end = (stamps - monday) // day % 7 >= 5
    assert off[since_1990 & week_end].all()
    assert not off[stamps < checks.to_ms(datetime(1989, 12, 1, tzinfo=UTC))].any()
