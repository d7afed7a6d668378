"""One candle, and the name of the series it belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache

from jts_storage.domain import checks
from jts_storage.domain.enums import Timeframe, member
from jts_storage.errors import InvalidData

_TEXT = re.compile(r"(?:(?P<exchange>(?:[^:\\]|\\.)*):)?(?P<symbol>.+)/(?P<timeframe>[^/]+)")
"""How a key reads: colons and backslashes within the exchange stand behind a backslash."""


@dataclass(frozen=True, slots=True, order=False)
class SeriesKey:
    """What names a series everywhere: symbol, timeframe and exchange.

    The same code on two exchanges is two series. An empty exchange is a name like any other.
    """

    symbol: str
    timeframe: Timeframe
    exchange: str = ""

    def __post_init__(self) -> None:
        checks.name(self.symbol, "symbol")
        object.__setattr__(self, "timeframe", member(Timeframe, self.timeframe, "timeframe"))
        if self.exchange:
            checks.name(self.exchange, "exchange")
        elif not isinstance(self.exchange, str):
            raise InvalidData("must be a string", field="exchange", value=self.exchange)

    def __hash__(self) -> int:
        # By the text of the timeframe: the hash of an enum's member is made in Python.
        return hash((self.symbol, self.timeframe._value_, self.exchange))

    def __str__(self) -> str:
        """As ``KRX:005930/1m``; no two keys read the same, whatever their names hold."""
        prefix = ""
        if self.exchange or ":" in self.symbol:
            prefix = self.exchange.replace("\\", r"\\").replace(":", r"\:") + ":"
        return f"{prefix}{self.symbol}/{self.timeframe.value}"

    @classmethod
    def parse(cls, text: str) -> SeriesKey:
        """The key that reads so, as ``KRX:005930/1m``.

        :raises InvalidData: none does.
        """
        found = _TEXT.fullmatch(checks.text(text, "key"))
        if found is not None:
            exchange = re.sub(r"\\(.)", r"\1", found["exchange"] or "")
            timeframe = member(Timeframe, found["timeframe"], "timeframe")
            key = cls(found["symbol"], timeframe, exchange)
            if str(key) == text:
                return key
        raise InvalidData(
            "must read as KRX:005930/1m or 005930/1m",
            field="key",
            value=text,
            remedy="`jts-storage coverage` lists the keys of what is stored.",
        )

    @property
    def sort_key(self) -> tuple[str, str, str]:
        """The order in which every store lists keys."""
        return (self.symbol, self.exchange, self.timeframe.value)


@lru_cache(maxsize=32_768)
def series_key(symbol: str, timeframe: Timeframe, exchange: str) -> SeriesKey:
    """A `SeriesKey`, kept for the next time: a market has the same names each minute."""
    return SeriesKey(symbol, timeframe, exchange)


@dataclass(frozen=True, slots=True)
class Candle:
    """Open, high, low, close and volume from `timestamp` on.

    Prices are exact Decimals of at most four decimals, the timestamp is an aware datetime of whole
    milliseconds and is kept in UTC, and low <= open, close <= high holds.

    :raises InvalidData: naming the field and the value.
    """

    timestamp: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: int

    def __post_init__(self) -> None:
        store = object.__setattr__
        store(self, "timestamp", checks.utc(self.timestamp, "timestamp"))
        for field in ("open", "high", "low", "close"):
            store(self, field, checks.price(getattr(self, field), field))
        checks.whole(self.volume, "volume", below=checks.VOLUME_LIMIT)
        if self.high < self.low:
            raise InvalidData(
                f"must not be below low {self.low}", field="high", value=str(self.high)
            )
        for field in ("open", "close"):
            value = getattr(self, field)
            if not self.low <= value <= self.high:
                raise InvalidData(
                    f"must lie between low {self.low} and high {self.high}",
                    field=field,
                    value=str(value),
                )

    @property
    def is_bullish(self) -> bool:
        return self.close > self.open

    @property
    def body_size(self) -> Decimal:
        return checks.EXACT.abs(checks.EXACT.subtract(self.close, self.open))

    @property
    def range(self) -> Decimal:
        return checks.EXACT.subtract(self.high, self.low)

    @property
    def upper_shadow(self) -> Decimal:
        return checks.EXACT.subtract(self.high, max(self.open, self.close))

    @property
    def lower_shadow(self) -> Decimal:
        return checks.EXACT.subtract(min(self.open, self.close), self.low)
