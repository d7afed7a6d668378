"""The rules of the quality gate, checked over whole columns before a block is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from enum import Enum

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.calendar import BY_EXCHANGE, TradingCalendar, of_series
from jts_storage.domain.columns import Columns, Int64Array
from jts_storage.domain.enums import Timeframe, member
from jts_storage.errors import InvalidData
from jts_storage.usecases.rules import NO_STAMP, Checks, Mask, Spans


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
    """The last row before a block, of the same series, that its rows are compared with.

    :param timestamp: the latest so far, which is another row's where time went back.
    :param last: its own; `timestamp` where only that is known.
    """

    timestamp: int | None = None
    close: int | None = None
    last: int | None = None

    def __post_init__(self) -> None:
        if self.last is None:
            object.__setattr__(self, "last", self.timestamp)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found in a block: the rows that break each rule, and what becomes of each row.

    :param after: of each series what the rows of the next block are compared with.
    :param forwards: how many rows are later than the one before.
    """

    broken: dict[Rule, Mask]
    rejected: Mask
    quarantined: Mask
    after: list[Before]
    forwards: int = 0

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
    """Look at every row of a block of one series, whose exchange the policy is for."""
    offsets = np.array([0, columns.rows])
    return judge_all(columns, missing, Spans.of([timeframe], [""], offsets, [before]), policy)


def judge_all(columns: Columns, missing: Mask, spans: Spans, policy: QualityPolicy) -> Verdict:
    """Look at every row of a block of many series, those of each in the order they came in.

    First at each by itself. What is set aside then has no part in comparing rows with those before:
    after a bar that contradicts itself the next one has not jumped.
    """
    look = Checks(columns, spans, policy)
    alone: dict[Rule, Callable[[], Mask]] = {
        Rule.MISSING: lambda: missing,
        Rule.OHLC: look.inconsistent,
        Rule.UNCLOSED: look.unclosed,
        Rule.OFF_SESSION: look.off_session,
        Rule.TICK: look.off_tick,
        Rule.ZERO_VOLUME: lambda: columns.volume == 0,
    }
    found = _broken(alone, policy)
    broken = {
        rule: rows if rule is Rule.MISSING else rows & ~missing for rule, rows in found.items()
    }
    aside = _rows_of(broken, policy, columns.rows, Action.REJECT, Action.QUARANTINE)
    left = None
    if aside.any():
        left = np.flatnonzero(~aside)
        look = Checks(columns.take(left), spans.only(~aside), policy)
    with_others: dict[Rule, Callable[[], Mask]] = {
        Rule.DUPLICATE: look.repeated,
        Rule.ORDER: look.backwards,
        Rule.OVERLAP: look.overlapping,
        Rule.JUMP: look.jumps,
    }
    for rule, rows in _broken(with_others, policy).items():
        broken[rule] = rows if left is None else _spread(rows, left, columns.rows)
    # A row that breaks several rules meets the harshest action: rejected beats quarantined.
    rejected = _rows_of(broken, policy, columns.rows, Action.REJECT)
    quarantined = _rows_of(broken, policy, columns.rows, Action.QUARANTINE)
    ordered = {rule: broken[rule] for rule in Rule if rule in broken and broken[rule].any()}
    return Verdict(ordered, rejected, quarantined & ~rejected, _after(look), look.forwards())


def _broken(rules: Mapping[Rule, Callable[[], Mask]], policy: QualityPolicy) -> dict[Rule, Mask]:
    asked = (rule for rule in rules if policy.actions[rule] is not Action.IGNORE)
    return {rule: rows for rule in asked if (rows := rules[rule]()).any()}


def _rows_of(
    broken: Mapping[Rule, Mask], policy: QualityPolicy, count: int, *actions: Action
) -> Mask:
    """Which rows break a rule of one of these actions."""
    found = np.zeros(count, np.bool_)
    for rule, rows in broken.items():
        if policy.actions[rule] in actions:
            found |= rows
    return found


def _spread(rows: Mask, places: Int64Array, count: int) -> Mask:
    found = np.zeros(count, np.bool_)
    found[places] = rows
    return found


def _after(compared: Checks) -> list[Before]:
    """The last of these rows of each series; where there are none, the one before them."""
    spans, filled = compared.spans, compared.spans.filled
    stamps, lasts, closes = (each.copy() for each in (spans.stamps, spans.lasts, spans.closes))
    if filled.any():
        own = compared.columns.timestamp
        ends = spans.offsets[1:][filled] - 1
        stamps[filled] = np.maximum(stamps[filled], np.maximum.reduceat(own, spans.firsts))
        lasts[filled], closes[filled] = own[ends], compared.columns.close[ends]
    each = zip(stamps.tolist(), closes.tolist(), lasts.tolist(), strict=True)
    return [Before() if row[0] == NO_STAMP else Before(*row) for row in each]
