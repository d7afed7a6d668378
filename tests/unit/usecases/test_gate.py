"""The gate judges a block of many series as it would judge each alone, a row at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jts_storage import SeriesKey, Timeframe
from jts_storage.domain import checks
from jts_storage.domain.calendar import BY_EXCHANGE, Sessions, resolve
from jts_storage.domain.columns import Columns
from jts_storage.errors import InvalidData
from jts_storage.readers.blocks import Block
from jts_storage.readers.owners import Labels
from jts_storage.usecases.gate import Judged, by_series, passed
from jts_storage.usecases.incremental import Known
from jts_storage.usecases.quality import Action, Before, QualityPolicy, Rule

NOW = datetime(2024, 1, 3, 4, tzinfo=UTC)
NOW_MS = checks.to_ms(NOW)
MONTH_MS = checks.to_ms(datetime(2024, 1, 1, tzinfo=UTC))
MINUTE = 60_000
FIRST_ROW = 7_000
KEYS = tuple(
    sorted(
        [
            SeriesKey("A", Timeframe.M1, "KRX"),
            SeriesKey("A", Timeframe.M1, "NYSE"),
            SeriesKey("A", Timeframe.H1, "KRX"),
            SeriesKey("B", Timeframe.D1, "KRX"),
            SeriesKey("B", Timeframe.MN1, "KRX"),
            SeriesKey("C", Timeframe.W1, "NYSE"),
            SeriesKey("D", Timeframe.M1, "of its own"),
        ],
        key=lambda key: key.sort_key,
    )
)
WITH_OTHERS = {Rule.DUPLICATE, Rule.ORDER, Rule.OVERLAP, Rule.JUMP}
KRX_STEPS = ((2_000, 1), (5_000, 5), (20_000, 10), (50_000, 50), (200_000, 100), (500_000, 500))


@dataclass(frozen=True)
class Row:
    """A row as it came; `skipped` and `differs` say what is stored of it."""

    owner: int
    stamp: int
    prices: tuple[int, int, int, int] = (10_000,) * 4
    volume: int = 1
    is_missing: bool = False
    is_skipped: bool = False
    differs: bool = False


@dataclass
class Expected:
    """What becomes of the rows of one series."""

    read: int = 0
    skipped: int = 0
    duplicates: int = 0
    rejected: int = 0
    quarantined: int = 0
    differing: int = 0
    stored: dict[int, Row] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    aside: list[tuple[int, list[str]]] = field(default_factory=list)
    after: Before = field(default_factory=Before)


def alone(
    key: SeriesKey, rows: Sequence[tuple[int, Row]], policy: QualityPolicy, before: Before
) -> Expected:
    """Judge the rows of one series, one after the other."""
    expected = Expected(
        read=len(rows), differing=sum(r.differs and not r.is_missing for _, r in rows)
    )
    left = [(number, row) for number, row in rows if not row.is_skipped]
    expected.skipped = len(rows) - len(left)
    compared: list[Row] = []
    for number, row in left:
        stamps = [earlier.stamp for earlier in compared]
        former = compared[-1] if compared else None
        found = {
            Rule.MISSING: row.is_missing,
            Rule.OHLC: is_torn(row),
            Rule.UNCLOSED: is_unclosed(row.stamp, key.timeframe),
            Rule.OFF_SESSION: is_off(row.stamp, key, policy),
            Rule.DUPLICATE: row.stamp
            in (
                before.last if former is None else former.stamp,
                max((s for s in (*stamps, before.timestamp) if s is not None), default=None),
            ),
            Rule.ORDER: any(row.stamp < s for s in (*stamps, before.timestamp) if s is not None),
            Rule.OVERLAP: overlaps(row, former, key.timeframe, before.last),
            Rule.JUMP: jumps(row, before.close if former is None else former.prices[3], policy),
            Rule.TICK: any(is_off_tick(price, policy) for price in row.prices),
            Rule.ZERO_VOLUME: row.volume == 0,
        }
        broken = [
            rule
            for rule, is_broken in found.items()
            if is_broken
            and policy.actions[rule] is not Action.IGNORE
            and (rule is Rule.MISSING or not row.is_missing)
        ]
        actions = {policy.actions[rule] for rule in broken if rule not in WITH_OTHERS}
        if actions & {Action.REJECT, Action.QUARANTINE}:
            # What it is itself keeps it out of any comparison.
            broken = [rule for rule in broken if rule not in WITH_OTHERS]
        else:
            compared.append(row)
        for rule in broken:
            expected.broken[rule.value] = expected.broken.get(rule.value, 0) + 1
        actions = {policy.actions[rule] for rule in broken}
        if Action.REJECT in actions:
            expected.rejected += 1
        elif Action.QUARANTINE in actions:
            expected.quarantined += 1
            expected.aside.append((number, [rule.value for rule in broken]))
        else:
            expected.duplicates += row.stamp in expected.stored
            expected.stored[row.stamp] = row
    expected.after = before
    if compared:
        latest = max(row.stamp for row in compared)
        if before.timestamp is not None:
            latest = max(latest, before.timestamp)
        expected.after = Before(latest, compared[-1].prices[3], compared[-1].stamp)
    return expected


def is_torn(row: Row) -> bool:
    opening, high, low, close = row.prices
    is_wide = high >= checks.PRICE_LIMIT or low <= -checks.PRICE_LIMIT
    return is_wide or not (low <= opening <= high and low <= close <= high)


def is_unclosed(stamp: int, timeframe: Timeframe) -> bool:
    if timeframe.step_ms is None:
        return stamp >= MONTH_MS
    return stamp + timeframe.step_ms > NOW_MS


def is_off(stamp: int, key: SeriesKey, policy: QualityPolicy) -> bool:
    calendar = resolve(policy.of_exchange(key.exchange).calendar)
    if calendar is None or key.timeframe in (Timeframe.W1, Timeframe.MN1):
        return False
    found = calendar.sessions(stamp, stamp)
    if not key.timeframe.is_intraday:
        return stamp not in found.dates.tolist()
    return not any(
        opens <= stamp <= closes and not begin <= stamp < end
        for opens, closes, begin, end in zip(
            found.opens, found.closes, found.break_starts, found.break_ends, strict=True
        )
    )


def overlaps(row: Row, former: Row | None, timeframe: Timeframe, before: int | None) -> bool:
    last = before if former is None else former.stamp
    return (
        timeframe.step_ms is not None
        and last is not None
        and 0 < row.stamp - last < timeframe.step_ms
    )


def jumps(row: Row, former: int | None, policy: QualityPolicy) -> bool:
    if not former:
        return False
    return abs(row.prices[3] - float(former)) / abs(float(former)) > float(policy.jump)


def is_off_tick(price: int, policy: QualityPolicy) -> bool:
    if policy.tick is None:
        return False
    if isinstance(policy.tick, Decimal):
        return price % checks.scaled_price(policy.tick, "tick") != 0
    limits = (step for limit, step in KRX_STEPS if price < limit * checks.PRICE_SCALE)
    step: int = next(limits, 1_000) * checks.PRICE_SCALE
    return price % step != 0


class HalfDays:
    """Sessions from midnight to 03:00 UTC with a break from 01:00 to 02:00."""

    name = "half days"

    def sessions(self, first_ms: int, last_ms: int, /) -> Sessions:
        day, hour = 86_400_000, 3_600_000
        dates = np.arange(first_ms // day - 1, last_ms // day + 2) * day
        return Sessions(dates, dates, dates + 3 * hour, dates + hour, dates + 2 * hour)


def block_of(rows: Sequence[Row]) -> tuple[Block, Known]:
    numbers = np.arange(FIRST_ROW, FIRST_ROW + len(rows))
    prices = np.array([row.prices for row in rows], np.int64).reshape(len(rows), 4)
    columns = Columns.of(
        np.array([row.stamp for row in rows], np.int64),
        (np.ascontiguousarray(prices[:, n]) for n in range(4)),
        np.array([row.volume for row in rows], np.uint64),
    )
    came = sorted({row.owner for row in rows})
    which = np.array([came.index(row.owner) for row in rows], np.int64)
    labels = Labels(tuple(KEYS[owner] for owner in came), which if len(came) > 1 else None)
    missing = np.array([row.is_missing for row in rows], np.bool_)
    table = pa.table({"came": [str(number) for number in numbers]})
    block = Block(FIRST_ROW + len(rows), columns, numbers, labels, missing, table)
    by_owner = sorted(rows, key=lambda row: row.owner)
    flags = [[row.is_skipped for row in by_owner], [row.differs for row in by_owner]]
    return block, Known(*(np.array(flag, np.bool_) for flag in flags))


prices = st.one_of(
    st.just((10_000,) * 4),
    st.sampled_from([0, 10_000, 12_000, 14_000, 5_000_000, 20_005_000]).map(lambda p: (p,) * 4),
    st.tuples(*[st.sampled_from([0, 9_000, 10_000, 11_000, checks.PRICE_LIMIT])] * 4),
)
stamps = st.one_of(
    st.integers(-8, 8).map(lambda minutes: NOW_MS + minutes * MINUTE),
    st.integers(-200, 5).map(lambda hours: NOW_MS + hours * 30 * MINUTE),
    st.sampled_from([MONTH_MS, MONTH_MS - 1, MONTH_MS + 86_400_000, NOW_MS + 1]),
)
some_rows = st.lists(
    st.builds(
        Row,
        st.integers(0, len(KEYS) - 1),
        stamps,
        prices,
        st.sampled_from([0, 1, 2**64 - 1]),
        st.sampled_from([False] * 5 + [True]),
        st.sampled_from([False] * 3 + [True]),
        st.booleans(),
    ),
    max_size=40,
)
blocks = st.one_of(some_rows, some_rows.map(lambda rows: sorted(rows, key=lambda row: row.stamp)))
befores = st.lists(
    st.one_of(
        st.just(Before()),
        st.builds(Before, stamps, st.sampled_from([0, 5_000, 10_000, 10**17]), st.none() | stamps),
    ),
    min_size=len(KEYS),
    max_size=len(KEYS),
)
policies = st.builds(
    QualityPolicy,
    actions=st.dictionaries(
        st.sampled_from([rule for rule in Rule if rule not in (Rule.MISSING, Rule.OHLC)]),
        st.sampled_from(Action),
    ),
    jump=st.sampled_from([Decimal("0.3"), Decimal("0.2"), Decimal(0)]),
    tick=st.sampled_from([None, "krx", Decimal("0.05")]),
    calendar=st.sampled_from([None, HalfDays(), "XKRX", BY_EXCHANGE]),
    now=st.just(NOW),
)


@given(blocks, policies, befores, st.booleans())
@example([], QualityPolicy(now=NOW), [Before()] * len(KEYS), False)
@example(
    # Any row may repeat the latest of those before, whether rows go back or not.
    [Row(owner, MONTH_MS + minute * MINUTE) for owner in (0, 1) for minute in (4, 3 - 4 * owner)]
    + [Row(1, MONTH_MS + 3 * MINUTE), Row(2, MONTH_MS - MINUTE), Row(2, MONTH_MS + 3 * MINUTE)],
    QualityPolicy(now=NOW),
    [Before(MONTH_MS + 3 * MINUTE, 10_000)] * len(KEYS),
    False,
)
def test_a_block_is_judged_as_each_of_its_series_alone(
    rows: list[Row], policy: QualityPolicy, before: list[Before], is_incremental: bool
) -> None:
    if not is_incremental:
        rows = [Row(r.owner, r.stamp, r.prices, r.volume, r.is_missing) for r in rows]
    block, known = block_of(rows)
    arranged = by_series(block)
    owners = [KEYS.index(key) for key in arranged.keys]
    judged = passed(
        arranged, policy, [before[owner] for owner in owners], known if is_incremental else None
    )
    numbered = list(enumerate(rows, FIRST_ROW))
    expected = {
        owner: alone(
            KEYS[owner],
            [(number, row) for number, row in numbered if row.owner == owner],
            policy,
            before[owner],
        )
        for owner in owners
    }
    assert_same(judged, list(expected.values()))


def assert_same(judged: Judged, expected: list[Expected]) -> None:
    for name in ("read", "skipped", "duplicates", "rejected", "quarantined"):
        assert judged.counts[name] == [getattr(each, name) for each in expected]
        assert getattr(judged.tally, name) == sum(judged.counts[name])
    assert judged.tally.differing == sum(each.differing for each in expected)
    assert judged.after == [each.after for each in expected]
    broken: dict[str, int] = {}
    for each in expected:
        for rule, count in each.broken.items():
            broken[rule] = broken.get(rule, 0) + count
    assert judged.tally.broken == broken
    series = {each.key: each for each in judged.rows}
    for key, each in zip(judged.keys, expected, strict=True):
        stored = [each.stored[stamp] for stamp in sorted(each.stored)]
        found: list[Any] = list(
            zip(*(column.tolist() for column in series[key].columns), strict=True)
        )
        assert found == [(row.stamp, *row.prices, row.volume) for row in stored]
        aside = judged.quarantined.get(key, [])
        assert [(row["row"], row["reasons"]) for row in aside] == each.aside
        assert [row["came_as"] for row in aside] == [{"came": str(n)} for n, _ in each.aside]
    every = [stamp for each in expected for stamp in each.stored]
    ends = (min(every), max(every)) if every else (None, None)
    assert (judged.tally.first_ms, judged.tally.last_ms) == ends


def test_a_moment_that_no_store_holds_is_refused_with_its_place_in_its_series() -> None:
    fine, beyond = Row(1, MONTH_MS - MINUTE), Row(0, checks.FIRST_MS - 1)
    block, _ = block_of([fine, Row(0, MONTH_MS - MINUTE), beyond, fine])
    with pytest.raises(InvalidData, match="1900") as caught:
        passed(by_series(block), QualityPolicy(now=NOW), [Before()] * 2)
    assert (caught.value.field, caught.value.row) == ("timestamp", 1)
