"""The rules of the quality gate, checked over whole columns before a block is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from jts_storage.domain import checks
from jts_storage.domain.calendar import (
    BY_EXCHANGE,
    ExchangeCalendar,
    TradingCalendar,
    of_series,
    resolve,
)
from jts_storage.domain.columns import Columns, Int64Array, ascends
from jts_storage.domain.enums import Timeframe, member
from jts_storage.errors import InvalidData

Mask = npt.NDArray[np.bool_]


class Rule(Enum):
    """What can be wrong with a row, in the order in which it is looked for."""

    MISSING = "missing"
    OHLC = "ohlc"
    UNCLOSED = "unclosed"
    OFF_SESSION = "off_session"
    DUPLICATE = "duplicate"
    ORDER = "order"
    OVERLAP = "overlap"
    JUMP = "jump"
    TICK = "tick"
    ZERO_VOLUME = "zero_volume"


class Action(Enum):
    """What becomes of a row that breaks a rule."""

    REJECT = "reject"
    QUARANTINE = "quarantine"
    FLAG = "flag"
    IGNORE = "ignore"


_DEFAULTS = {
    Rule.MISSING: Action.REJECT,
    Rule.OHLC: Action.QUARANTINE,
    Rule.UNCLOSED: Action.REJECT,
    Rule.OFF_SESSION: Action.QUARANTINE,
    Rule.DUPLICATE: Action.FLAG,
    Rule.ORDER: Action.FLAG,
    Rule.OVERLAP: Action.FLAG,
    Rule.JUMP: Action.FLAG,
    Rule.TICK: Action.FLAG,
    Rule.ZERO_VOLUME: Action.FLAG,
}
_CANNOT_BE_STORED = frozenset({Rule.MISSING, Rule.OHLC})

# The price steps of the Korean exchange since January 2023: below the price, the step.
_KRX_STEPS = ((2_000, 1), (5_000, 5), (20_000, 10), (50_000, 50), (200_000, 100), (500_000, 500))
_KRX_LAST_STEP = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPolicy:
    """Which rules hold, and what becomes of rows that break them.

    :param actions: what differs from the defaults; a row that breaks several rules meets the
        harshest of their actions.
    :param jump: the largest change from one close to the next, as a part of the former.
    :param tick: the price step, or ``"krx"`` for the Korean exchange's; None looks at no prices.
    :param calendar: of whose sessions bars must be; None looks at no sessions, and ``"exchange"``
        at those of the exchange that each series is of, as far as they are known. Then bars
        beside them are only flagged, unless `actions` says otherwise.
    :param now: the time by which a bar must have closed; None is the present.
    """

    actions: Mapping[Rule, Action] = field(default_factory=dict)
    jump: Decimal = Decimal("0.3")
    tick: Decimal | str | None = None
    calendar: TradingCalendar | str | None = None
    now: datetime | None = None
    is_assumed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        given = {
            member(Rule, rule, "rule"): member(Action, action, "action")
            for rule, action in self.actions.items()
        }
        for rule in _CANNOT_BE_STORED & given.keys():
            if given[rule] in (Action.FLAG, Action.IGNORE):
                raise InvalidData(
                    "must be reject or quarantine: such a row cannot be stored",
                    field=rule.value,
                    value=given[rule].value,
                )
        if isinstance(self.tick, str) and self.tick != "krx":
            raise InvalidData("must be a Decimal or 'krx'", field="tick", value=self.tick)
        if isinstance(self.tick, Decimal) and checks.scaled_price(self.tick, "tick") <= 0:
            raise InvalidData("must be above zero", field="tick", value=str(self.tick))
        unasked = {Rule.OFF_SESSION: Action.FLAG} if self.calendar == BY_EXCHANGE else {}
        object.__setattr__(self, "actions", _DEFAULTS | unasked | given)

    def of_exchange(self, exchange: str) -> QualityPolicy:
        """Return the policy for a series of an exchange."""
        if self.calendar != BY_EXCHANGE:
            return self
        policy = replace(self, calendar=of_series(BY_EXCHANGE, exchange))
        object.__setattr__(policy, "is_assumed", True)
        return policy


@dataclass(frozen=True, slots=True)
class Before:
    """The last row before a block, of the same series."""

    timestamp: int | None = None
    close: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a block: the rows that break each rule, and what becomes of each row."""

    broken: dict[Rule, Mask]
    rejected: Mask
    quarantined: Mask

    @property
    def accepted(self) -> Mask:
        return ~(self.rejected | self.quarantined)

    def counts(self) -> dict[str, int]:
        return {rule.value: int(mask.sum()) for rule, mask in self.broken.items() if mask.any()}

    def reasons(self, row: int) -> list[str]:
        return [rule.value for rule, mask in self.broken.items() if mask[row]]


def judge(
    columns: Columns, missing: Mask, timeframe: Timeframe, policy: QualityPolicy, before: Before
) -> Verdict:
    """Look at every row of a block."""
    look = _Checks(columns, timeframe, policy, before)
    found: dict[Rule, Callable[[], Mask]] = {
        Rule.MISSING: lambda: missing,
        Rule.OHLC: look.inconsistent,
        Rule.UNCLOSED: look.unclosed,
        Rule.OFF_SESSION: look.off_session,
        Rule.DUPLICATE: look.repeated,
        Rule.ORDER: look.backwards,
        Rule.OVERLAP: look.overlapping,
        Rule.JUMP: look.jumps,
        Rule.TICK: look.off_tick,
        Rule.ZERO_VOLUME: lambda: columns.volume == 0,
    }
    broken: dict[Rule, Mask] = {}
    for rule, mask in found.items():
        if policy.actions[rule] is Action.IGNORE:
            continue
        rows = mask()
        if rule is not Rule.MISSING:
            rows = rows & ~missing
        if rows.any():
            broken[rule] = rows
    # A row that breaks several rules meets the harshest action: rejected beats quarantined.
    nothing = np.zeros(columns.rows, np.bool_)
    rejected, quarantined = nothing.copy(), nothing.copy()
    for rule, rows in broken.items():
        if policy.actions[rule] is Action.REJECT:
            rejected |= rows
        elif policy.actions[rule] is Action.QUARANTINE:
            quarantined |= rows
    return Verdict(broken, rejected, quarantined & ~rejected)


@dataclass(frozen=True, slots=True)
class _Checks:
    columns: Columns
    timeframe: Timeframe
    policy: QualityPolicy
    before: Before

    def inconsistent(self) -> Mask:
        c = self.columns
        wrong = (c.low > c.open) | (c.open > c.high) | (c.low > c.close) | (c.close > c.high)
        return wrong | (c.high >= checks.PRICE_LIMIT) | (c.low <= -checks.PRICE_LIMIT)

    def unclosed(self) -> Mask:
        now = checks.to_ms(self.policy.now or checks.now())
        stamps = self.columns.timestamp
        if self.timeframe.step_ms is not None:
            return stamps + self.timeframe.step_ms > now
        month: Any = np.datetime64(now, "ms").astype("M8[M]")
        return np.asarray(stamps >= month.astype("M8[ms]").astype(np.int64))

    def off_session(self) -> Mask:
        calendar = resolve(self.policy.calendar)
        stamps = self.columns.timestamp
        # A Monday or the first of a month, which stamp longer bars, need not be a session.
        if calendar is None or not len(stamps) or self.timeframe in (Timeframe.W1, Timeframe.MN1):
            return np.zeros(len(stamps), np.bool_)
        try:
            sessions = calendar.sessions(int(stamps.min()), int(stamps.max()))
        except InvalidData:  # older than what the calendar knows
            if self.policy.is_assumed and isinstance(calendar, ExchangeCalendar):
                return self._off_session_where(calendar.knows(stamps))
            raise
        if not self.timeframe.is_intraday:
            return ~np.isin(stamps, sessions.dates)
        if not len(sessions):
            return np.ones(len(stamps), np.bool_)
        index = np.minimum(np.searchsorted(sessions.closes, stamps), len(sessions) - 1)
        inside = (stamps >= sessions.opens[index]) & (stamps <= sessions.closes[index])
        # From the start of the break on, and not at its end: there the afternoon begins.
        noon = (stamps >= sessions.break_starts[index]) & (stamps < sessions.break_ends[index])
        return np.asarray(~inside | noon)

    def _off_session_where(self, known: Mask) -> Mask:
        """Look at the rows that the calendar knows of; the others may be in session."""
        off = np.zeros(len(known), np.bool_)
        if known.any():
            off[known] = replace(
                self, columns=self.columns.take(np.flatnonzero(known))
            ).off_session()
        return off

    def repeated(self) -> Mask:
        stamps = self.columns.timestamp
        later = np.zeros(len(stamps), np.bool_)
        if ascends(stamps):
            if len(stamps) and self.before.timestamp is not None:
                later[0] = stamps[0] == self.before.timestamp
            return later
        order = np.argsort(stamps, kind="stable")
        later[order[1:]] = stamps[order[1:]] == stamps[order[:-1]]
        # Without a row before, a timestamp that no row can have.
        known = -(2**62) if self.before.timestamp is None else self.before.timestamp
        return np.asarray(later | (stamps == known))

    def overlapping(self) -> Mask:
        """Bars that begin before the previous one ends, such as minutes imported as hours."""
        stamps, step = self.columns.timestamp, self.timeframe.step_ms
        if step is None or not len(stamps):
            return np.zeros(len(stamps), np.bool_)
        # Without a row before, one that ends just as the first begins.
        first = stamps[0] - step if self.before.timestamp is None else self.before.timestamp
        since = np.diff(stamps, prepend=first)
        return np.asarray((since > 0) & (since < step))

    def backwards(self) -> Mask:
        stamps = self.columns.timestamp
        if not len(stamps):
            return np.zeros(0, np.bool_)
        start = -(2**62) if self.before.timestamp is None else self.before.timestamp
        highest = np.maximum.accumulate(np.concatenate(([start], stamps[:-1])))
        return stamps < highest

    def jumps(self) -> Mask:
        close = self.columns.close
        if not len(close):
            return np.zeros(0, np.bool_)
        first = close[0] if self.before.close is None else self.before.close
        former = np.concatenate(([first], close[:-1])).astype(np.float64)
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


def _krx_steps(prices: Int64Array) -> Int64Array:
    limits = np.array([limit for limit, _ in _KRX_STEPS], np.int64) * checks.PRICE_SCALE
    steps = np.array([*(step for _, step in _KRX_STEPS), _KRX_LAST_STEP], np.int64)
    step: Int64Array = steps[np.searchsorted(limits, prices, side="right")]
    return np.asarray(step * checks.PRICE_SCALE)
