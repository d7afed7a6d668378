"""What the rules of the quality gate find, over the rows of many series at once.

A rule that looks at the rows before must not look across the end of a series: there it meets the
last row that an earlier block had of the same series. It meets no row that another rule has set
aside for what it is itself, whether in its own block or in an earlier one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import NoneType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from jts_storage.domain import checks
from jts_storage.domain.calendar import ExchangeCalendar, TradingCalendar, resolve
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, series_of_rows
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import InvalidData

if TYPE_CHECKING:
    from jts_storage.usecases.quality import Before, QualityPolicy

Mask = npt.NDArray[np.bool_]

NO_STAMP: Final = -(2**62)
"""In place of the timestamp before, where there is none: no row can have it."""
NO_CLOSE: Final = -(2**63)
"""In place of the close before, where there is none: no price that may be stored is so low."""

# The price steps of the Korean exchange since January 2023: below the price, the step.
_KRX_STEPS = ((2_000, 1), (5_000, 5), (20_000, 10), (50_000, 50), (200_000, 100), (500_000, 500))
_KRX_LAST_STEP = 1_000
_STAMPED_APART = (Timeframe.W1, Timeframe.MN1)
"""Stamped with a Monday or the first of a month, which need not be a session."""


def offsets_of(offsets: Int64Array, wanted: AnyArray) -> Int64Array:
    """Where each series begins among the rows that are wanted."""
    counted: Int64Array = np.concatenate(([0], np.cumsum(wanted, dtype=np.int64)))[offsets]
    return counted


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Which rows belong to which series, one series behind the other.

    :param offsets: where the rows of each series begin, and behind the last where they end.
    :param stamps: of each series the latest timestamp before these rows, or `NO_STAMP`.
    :param lasts: of each series the timestamp of the row before these, or `NO_STAMP`.
    :param closes: of each series the close before these rows, or `NO_CLOSE`.
    """

    timeframes: Sequence[Timeframe]
    exchanges: Sequence[str]
    offsets: Int64Array
    stamps: Int64Array
    lasts: Int64Array
    closes: Int64Array
    filled: Mask = field(init=False)
    firsts: Int64Array = field(init=False)
    number: Int64Array = field(init=False)

    def __post_init__(self) -> None:
        sizes = np.diff(self.offsets)
        object.__setattr__(self, "filled", sizes > 0)
        object.__setattr__(self, "firsts", self.offsets[:-1][self.filled])
        object.__setattr__(self, "number", series_of_rows(self.offsets))

    @classmethod
    def of(
        cls,
        timeframes: Sequence[Timeframe],
        exchanges: Sequence[str],
        offsets: Int64Array,
        before: Sequence[Before],
    ) -> Spans:
        rows = [
            (
                NO_STAMP if row.timestamp is None else row.timestamp,
                NO_STAMP if row.last is None else row.last,
                NO_CLOSE if row.close is None else row.close,
            )
            for row in before
        ]
        stamps, lasts, closes = np.array(rows, np.int64).reshape(-1, 3).T
        return cls(timeframes, exchanges, offsets, stamps, lasts, closes)

    def only(self, wanted: Mask) -> Spans:
        """The spans of those of the rows."""
        return replace(self, offsets=offsets_of(self.offsets, wanted))

    @property
    def rows(self) -> int:
        return int(self.offsets[-1])

    def of_rows(self, values: AnyArray) -> AnyArray:
        """What each row has of values of the series."""
        return values[self.number]

    def steps(self) -> Int64Array:
        """How long the bars of each series are; 0 where that differs from bar to bar."""
        return np.array([timeframe.step_ms or 0 for timeframe in self.timeframes], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Checks:
    """One method a rule, each saying which rows break it."""

    columns: Columns
    spans: Spans
    policy: QualityPolicy

    def inconsistent(self) -> Mask:
        c = self.columns
        wrong = (c.low > c.open) | (c.open > c.high) | (c.low > c.close) | (c.close > c.high)
        return wrong | (c.high >= checks.PRICE_LIMIT) | (c.low <= -checks.PRICE_LIMIT)

    def unclosed(self) -> Mask:
        now = checks.to_ms(self.policy.now or checks.now())
        month: Any = np.datetime64(now, "ms").astype("M8[M]")
        begun = int(month.astype("M8[ms]").astype(np.int64))
        steps = self.spans.steps()
        # The first timestamp of each series whose bar cannot have closed.
        least = np.where(steps > 0, now - steps + 1, begun)
        return np.asarray(self.columns.timestamp >= self.spans.of_rows(least))

    def off_session(self) -> Mask:
        off = np.zeros(self.columns.rows, np.bool_)
        if self.policy.calendar is None:
            return off
        stamps = self.columns.timestamp
        for policy, is_intraday, members in self._by_calendar():
            is_theirs = self.spans.of_rows(members)
            off[is_theirs] = _off_session(stamps[is_theirs], is_intraday, policy)
        return off

    def _by_calendar(self) -> Iterator[tuple[QualityPolicy, bool, Mask]]:
        """The series that are looked at in the same way, and how."""
        spans = self.spans
        policies = {name: self.policy.of_exchange(name) for name in set(spans.exchanges)}
        ways: dict[tuple[int | str | None, bool], list[int]] = {}
        pairs = zip(spans.timeframes, spans.exchanges, strict=True)
        for number, (timeframe, exchange) in enumerate(pairs):
            calendar = policies[exchange].calendar
            name = calendar if isinstance(calendar, str | NoneType) else id(calendar)
            if timeframe not in _STAMPED_APART:
                ways.setdefault((name, timeframe.is_intraday), []).append(number)
        for (_, is_intraday), numbers in ways.items():
            members = np.zeros(len(spans.timeframes), np.bool_)
            members[numbers] = True
            yield policies[spans.exchanges[numbers[0]]], is_intraday, members

    def repeated(self) -> Mask:
        """Rows with the timestamp of the row before, or with the latest of all before.

        To find it among all others, every timestamp of a series would have to be remembered.
        """
        stamps, spans = self.columns.timestamp, self.spans
        if not len(stamps):
            return np.zeros(0, np.bool_)
        former = np.empty(len(stamps), np.int64)
        former[1:] = stamps[:-1]
        former[spans.firsts] = spans.lasts[spans.filled]
        return np.asarray((stamps == former) | (stamps == self._latest()))

    def overlapping(self) -> Mask:
        """Bars that begin before the previous one ends, such as minutes imported as hours."""
        stamps, spans, steps = self.columns.timestamp, self.spans, self.spans.steps()
        # Without a row before, one that ends just as the first begins.
        first = stamps[spans.firsts] - steps[spans.filled]
        since = np.diff(stamps, prepend=0)
        former = spans.lasts[spans.filled]
        since[spans.firsts] = stamps[spans.firsts] - np.where(former == NO_STAMP, first, former)
        # A length of 0 is that of no bar, so nothing lies below it.
        return np.asarray((since > 0) & (since < spans.of_rows(steps)))

    def backwards(self) -> Mask:
        """Rows before the latest of the rows that came before them."""
        return np.asarray(self.columns.timestamp < self._latest())

    def forwards(self) -> int:
        """How many rows are later than the one of their series before them."""
        spans = self.spans
        later = self._rises()
        lasts = spans.lasts[spans.filled]
        later[spans.firsts] = (lasts != NO_STAMP) & (self.columns.timestamp[spans.firsts] > lasts)
        return int(np.count_nonzero(later))

    def _latest(self) -> Int64Array:
        """The latest timestamp of the rows of its series before each row, or `NO_STAMP`."""
        stamps, spans = self.columns.timestamp, self.spans
        latest = np.empty(len(stamps), np.int64)
        if self._rises().all():
            latest[1:] = stamps[:-1]
            latest[spans.firsts] = NO_STAMP
            return np.maximum(latest, spans.of_rows(spans.stamps))
        order = np.lexsort((stamps, spans.number))
        differs = np.append(
            True,
            (stamps[order[1:]] != stamps[order[:-1]])
            | (spans.number[order[1:]] != spans.number[order[:-1]]),
        )
        # Ranks of timestamps, which begin anew, and higher, with each series.
        ranked, rank = np.cumsum(differs) - 1, np.empty(len(stamps), np.int64)
        rank[order] = ranked
        stamp_of = stamps[order][differs]
        latest[1:] = stamp_of[np.maximum.accumulate(rank)[:-1]]
        latest[spans.firsts] = NO_STAMP
        return np.maximum(latest, spans.of_rows(spans.stamps))

    def jumps(self) -> Mask:
        close, spans = self.columns.close, self.spans
        if not len(close):
            return np.zeros(0, np.bool_)
        former = np.empty(len(close), np.float64)
        former[1:] = close[:-1]
        before = spans.closes[spans.filled]
        former[spans.firsts] = np.where(before == NO_CLOSE, close[spans.firsts], before)
        # A ratio to compare, not a price to store: floats are exact enough.
        with np.errstate(divide="ignore", invalid="ignore"):
            change = np.abs(close - former) / np.abs(former)
        return np.nan_to_num(change, nan=0.0, posinf=0.0) > float(self.policy.jump)

    def off_tick(self) -> Mask:
        tick = self.policy.tick
        wrong = np.zeros(self.columns.rows, np.bool_)
        if tick is None:
            return wrong
        for prices in self.columns[1:5]:
            step: Int64Array | int = (
                _krx_steps(prices) if isinstance(tick, str) else checks.scaled_price(tick, "tick")
            )
            wrong |= prices % step != 0
        return wrong

    def _rises(self) -> Mask:
        """Which rows are later than the one before; the first of a series counts as such."""
        stamps = self.columns.timestamp
        rises = np.ones(len(stamps), np.bool_)
        np.greater(stamps[1:], stamps[:-1], out=rises[1:])
        rises[self.spans.firsts] = True
        return rises


def _off_session(stamps: Int64Array, is_intraday: bool, policy: QualityPolicy) -> Mask:
    calendar = resolve(policy.calendar)
    if calendar is None or not len(stamps):
        return np.zeros(len(stamps), np.bool_)
    try:
        return _beside_sessions(stamps, is_intraday, calendar)
    except InvalidData:  # older than what the calendar knows
        if not (policy.is_assumed and isinstance(calendar, ExchangeCalendar)):
            raise
        known = calendar.knows(stamps)
    # Of the others nobody can say, so they may be in session.
    off = np.zeros(len(stamps), np.bool_)
    if known.any():
        off[known] = _beside_sessions(stamps[known], is_intraday, calendar)
    return off


def _beside_sessions(stamps: Int64Array, is_intraday: bool, calendar: TradingCalendar) -> Mask:
    sessions = calendar.sessions(int(stamps.min()), int(stamps.max()))
    if not is_intraday:
        return ~np.isin(stamps, sessions.dates)
    if not len(sessions):
        return np.ones(len(stamps), np.bool_)
    index = np.minimum(np.searchsorted(sessions.closes, stamps), len(sessions) - 1)
    inside = (stamps >= sessions.opens[index]) & (stamps <= sessions.closes[index])
    # From the start of the break on, and not at its end: there the afternoon begins.
    noon = (stamps >= sessions.break_starts[index]) & (stamps < sessions.break_ends[index])
    return np.asarray(~inside | noon)


def _krx_steps(prices: Int64Array) -> Int64Array:
    limits = np.array([limit for limit, _ in _KRX_STEPS], np.int64) * checks.PRICE_SCALE
    steps = np.array([*(step for _, step in _KRX_STEPS), _KRX_LAST_STEP], np.int64)
    step: Int64Array = steps[np.searchsorted(limits, prices, side="right")]
    return np.asarray(step * checks.PRICE_SCALE)
