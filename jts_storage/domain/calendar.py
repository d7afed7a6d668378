"""When an exchange trades.

A calendar answers with whole arrays of sessions, so that gaps and session-aligned bars are found
without a loop over days. `exchange_calendar` wraps one of the exchange_calendars package, which is
imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from jts_storage.domain import kept_sessions
from jts_storage.domain.kept_sessions import Columns
from jts_storage.errors import InvalidConfiguration, InvalidData

Int64Array = npt.NDArray[np.int64]

DAY_MS = 86_400_000
_FIRST_DAY = "1990-01-01"
_RECENT = "2015-01-01"
_RECENT_MS = 1_422_748_800_000
"""A month after that day: ranges from here on need no schedule from before it, which takes three
times as long to make where holidays go by the moon."""

ALWAYS = "24/7"
"""The calendar of a market that never closes."""

BY_EXCHANGE = "exchange"
"""Stands for the calendar of the exchange that each series is of."""

_ALIASES = {
    "XKRX": "KRX KOSPI KOSDAQ KONEX XKOS XKON",
    "XNYS": "NYSE NASDAQ AMEX ARCA ARCX BATS IEX XNAS XASE",
    "XTKS": "TSE TYO JPX",
    "XLON": "LSE",
    "XHKG": "HKEX HKG",
    "XSHG": "SSE SZSE XSHE",
    "XTSE": "TSX",
    "XASX": "ASX",
    "XFRA": "FWB",
    "XETR": "XETRA",
    "XSWX": "SIX",
    "CMES": "CME CBOT COMEX NYMEX",
    "24/5": "FX FOREX",
    ALWAYS: "CRYPTO UPBIT BITHUMB COINONE BINANCE COINBASE KRAKEN BYBIT OKX BITFINEX BITSTAMP",
}
CALENDARS = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}
"""Calendars of exchanges by the names that people give them."""

_NAMES = """
XKRX XNYS XTKS XLON XHKG XSHG XTSE XASX XFRA XETR XSWX XAMS XBKK XBOM XBRU XBUD XCSE XDUB XHEL XICE
XIDX XIST XJSE XKAR XKLS XLIS XLUX XMAD XMEX XMIL XMOS XNZE XOSL XPAR XPHS XPRA XSAU XSES XSGO XSTO
XTAE XTAI XWAR XWBO BVMF ASEX CMES IEPA 24/5 24/7
"""
_KNOWN = frozenset(_NAMES.split())
"""Names of calendars that serve as names of their exchanges, too."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Consecutive sessions: the UTC midnight of each date, its opening and its close.

    All three are int64 milliseconds UTC. A break at noon lies between `break_starts` and
    `break_ends`; both are -1 on a day without one.
    """

    dates: Int64Array
    opens: Int64Array
    closes: Int64Array
    break_starts: Int64Array
    break_ends: Int64Array

    def __len__(self) -> int:
        return len(self.dates)


class TradingCalendar(Protocol):
    """A source of sessions. `sessions` covers at least every session that touches the range."""

    @property
    def name(self) -> str: ...

    def sessions(self, first_ms: int, last_ms: int, /) -> Sessions: ...


class ExchangeCalendar:
    """A calendar of the exchange_calendars package, by its name (XKRX, XNYS, ...)."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"ExchangeCalendar({self.name!r})"

    def _calendar(self, start: str) -> Any:
        try:
            import exchange_calendars
        except ImportError as exc:
            raise InvalidConfiguration(
                f"calendar {self.name!r} needs the package exchange_calendars.",
                remedy="Run pip install 'jts-storage[calendars]'.",
            ) from exc
        try:
            return _recorded(exchange_calendars.get_calendar, self.name, start)
        except exchange_calendars.errors.InvalidCalendarName as exc:
            raise InvalidData(
                "is no calendar of exchange_calendars", field="calendar", value=self.name
            ) from exc
        except (ValueError, NotImplementedError) as exc:
            raise InvalidConfiguration(
                f"the installed exchange_calendars cannot build calendar {self.name!r}: {exc}",
                remedy="Try other versions of exchange_calendars and pandas.",
            ) from exc

    @cached_property
    def _all(self) -> Sessions:
        return self._since(_FIRST_DAY)

    @cached_property
    def _recent(self) -> Sessions:
        return self._since(_RECENT)

    def _since(self, start: str) -> Sessions:
        kept = kept_sessions.read(self.name, start)
        if kept is None:
            kept = self._made(start)
            kept_sessions.write(self.name, start, kept)
        return Sessions(*kept)

    def _made(self, start: str) -> Columns:
        schedule = self._calendar(start).schedule
        made = Sessions(
            dates=_ms(schedule.index),
            opens=_ms(schedule["open"]),
            closes=_ms(schedule["close"]),
            break_starts=_ms(schedule["break_start"]),
            break_ends=_ms(schedule["break_end"]),
        )
        return tuple(getattr(made, column.name) for column in fields(made))

    def knows(self, stamps: Int64Array) -> npt.NDArray[np.bool_]:
        """Whether each moment is within what the calendar knows."""
        first, last = self._all.dates[0] - DAY_MS, self._all.closes[-1] + DAY_MS
        return np.asarray((stamps >= first) & (stamps <= last))

    def sessions(self, first_ms: int, last_ms: int, /) -> Sessions:
        """:raises InvalidData: the range leaves what the calendar knows."""
        made = "_all" in vars(self)
        every = self._all if made or first_ms < _RECENT_MS else self._recent
        if first_ms < every.dates[0] - DAY_MS or last_ms > every.closes[-1] + DAY_MS:
            first, last = (str(self._all.dates[i].astype("datetime64[ms]"))[:10] for i in (0, -1))
            raise InvalidData(
                f"calendar {self.name} knows only {first} to {last}", field="calendar"
            )
        # One session more on either side: bars before the opening belong to the next one.
        start = max(int(np.searchsorted(every.closes, first_ms, side="left")) - 1, 0)
        stop = int(np.searchsorted(every.opens, last_ms, side="right")) + 1
        return Sessions(
            *(column[start:stop] for column in (every.dates, every.opens, every.closes)),
            *(column[start:stop] for column in (every.break_starts, every.break_ends)),
        )


def _recorded(get: Callable[..., Any], name: str, start: str) -> Any:
    """The calendar from that day on, or from where its holidays are known."""
    try:
        return get(name, start=start)
    except ValueError:  # its holidays are known from a later day on only
        return get(name, start=type(get(name)).bound_min())


@lru_cache(maxsize=32)
def exchange_calendar(name: str) -> ExchangeCalendar:
    """The calendar of that name; one object a name, since building its schedule takes a second."""
    return ExchangeCalendar(name)


def resolve(calendar: TradingCalendar | str | None) -> TradingCalendar | None:
    """Return the calendar of that name or alias; None for a market that never closes."""
    if not isinstance(calendar, str):
        return calendar
    name = CALENDARS.get(calendar.upper(), calendar)
    return None if name == ALWAYS else exchange_calendar(name)


def calendar_of(exchange: str) -> str | None:
    """Return the name of an exchange's calendar; None if the exchange is not known."""
    name = exchange.upper()
    return name if name in _KNOWN else CALENDARS.get(name)


def of_series(
    calendar: TradingCalendar | str | None, exchange: str
) -> TradingCalendar | str | None:
    """Return the calendar for a series of an exchange.

    `BY_EXCHANGE` is the exchange's own; None where it is not known, or no calendars are installed.
    """
    if calendar != BY_EXCHANGE:
        return calendar
    return calendar_of(exchange) if find_spec("exchange_calendars") else None


def _ms(values: Any) -> Int64Array:
    moments = np.asarray(values, dtype="datetime64[ms]")
    return np.where(np.isnat(moments), -1, moments.astype(np.int64))
