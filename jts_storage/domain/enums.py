"""The closed sets of the domain. A member's value is what every store writes."""

from __future__ import annotations

from enum import Enum
from functools import cache
from typing import Any, TypeVar

from jts_storage.domain import checks
from jts_storage.errors import InvalidData

E = TypeVar("E", bound=Enum)


class Market(Enum):
    """Where a symbol is listed. `own` names any other market; it is a member of none of these."""

    KOSPI = "KOSPI"
    KOSDAQ = "KOSDAQ"
    ETF = "ETF"
    KONEX = "KONEX"
    NYSE = "NYSE"
    NASDAQ = "NASDAQ"
    CRYPTO = "CRYPTO"
    FX = "FX"
    OTHER = "OTHER"

    @classmethod
    def own(cls, text: str) -> Market:
        """Return the market that stores write as this text: one of these, or one of your own.

        A text alone is not taken for a market of one's own anywhere, since it may be misspelled.

        :raises InvalidData: no store takes it as a name.
        """
        known = _members(cls).get(checks.name(text, "market", longest=_LONGEST_MARKET))
        if known is None:
            known = object.__new__(cls)
            known._value_ = known._name_ = text
            # Of two threads that make the same one, both get the first.
            known = _OWN_MARKETS.setdefault(text, known)
        market: Market = known
        return market

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Market.own, (self.value,)


_OWN_MARKETS: dict[str, Market] = {}
_LONGEST_MARKET = 64


class Timeframe(Enum):
    """How long one candle lasts. `step_ms` is None where a step has no fixed length."""

    M1 = "1m"
    M3 = "3m"
    M5 = "5m"
    M10 = "10m"
    M15 = "15m"
    M30 = "30m"
    H1 = "1h"
    H2 = "2h"
    H4 = "4h"
    D1 = "1d"
    W1 = "1w"
    MN1 = "1M"

    @property
    def step_ms(self) -> int | None:
        return _STEP_MS[self]

    @property
    def is_intraday(self) -> bool:
        return self in _INTRADAY

    def nests_in(self, coarser: Timeframe) -> bool:
        """Return whether whole candles of this timeframe make up one of `coarser`."""
        # A week may lie in two months.
        if self is Timeframe.W1 or _ORDER.index(self) >= _ORDER.index(coarser):
            return False
        # Neither does a bar of ten minutes lie in one of fifteen.
        return not coarser.is_intraday or _STEP_MS[coarser] % _STEP_MS[self] == 0  # type: ignore[operator]


_ORDER = list(Timeframe)
_MINUTE = 60_000
_STEP_MS: dict[Timeframe, int | None] = {
    Timeframe.M1: _MINUTE,
    Timeframe.M3: 3 * _MINUTE,
    Timeframe.M5: 5 * _MINUTE,
    Timeframe.M10: 10 * _MINUTE,
    Timeframe.M15: 15 * _MINUTE,
    Timeframe.M30: 30 * _MINUTE,
    Timeframe.H1: 60 * _MINUTE,
    Timeframe.H2: 120 * _MINUTE,
    Timeframe.H4: 240 * _MINUTE,
    Timeframe.D1: 24 * 60 * _MINUTE,
    Timeframe.W1: 7 * 24 * 60 * _MINUTE,
    Timeframe.MN1: None,
}
_INTRADAY = frozenset(_ORDER[: _ORDER.index(Timeframe.D1)])


class FormulaCategory(Enum):
    SCAN = "scan"
    ENTRY = "entry"
    EXIT = "exit"
    STOP_LOSS = "stop_loss"


class ParameterType(Enum):
    INT = "int"
    FLOAT = "float"
    DECIMAL = "decimal"
    STRING = "string"
    BOOL = "bool"


class StopLossType(Enum):
    FORMULA = "formula"
    FIXED_PCT = "fixed_pct"


class TradeSide(Enum):
    BUY = "buy"
    SELL = "sell"
    LONG = "long"
    SHORT = "short"


class Metric(Enum):
    """The figures of a backtest by which results can be ranked."""

    TOTAL_RETURN_PCT = "total_return_pct"
    SHARPE_RATIO = "sharpe_ratio"
    MAX_DRAWDOWN_PCT = "max_drawdown_pct"
    WIN_RATE = "win_rate"
    PROFIT_FACTOR = "profit_factor"
    TOTAL_TRADES = "total_trades"

    @property
    def higher_is_better(self) -> bool:
        return self is not Metric.MAX_DRAWDOWN_PCT


@cache
def _members(kind: type[Enum]) -> dict[object, Any]:
    """The members by what names them: asking the enum itself takes five times as long."""
    return {**{item.value: item for item in kind}, **{item: item for item in kind}}


def member(
    kind: type[E], value: object, field: str, *, row: int | None = None, document: str | None = None
) -> E:
    """The member of `kind` that `value` is or names.

    :raises InvalidData: there is none.
    """
    try:
        found: E = _members(kind)[value]
        return found
    except (KeyError, TypeError):
        if isinstance(value, kind):  # a market of one's own
            return value
        known = ", ".join(str(item.value) for item in kind)
        raise InvalidData(
            f"must be one of {known}",
            field=field,
            value=value,
            row=row,
            document=document,
            remedy="Market.own(text) names a market of your own." if kind is Market else None,
        ) from None
