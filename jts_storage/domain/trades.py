"""Many trades at once, checked a column at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Clamped, Context, Decimal, InvalidOperation, Overflow, Rounded, Subnormal
from itertools import repeat
from typing import Any, Final

from jts_storage.domain import checks
from jts_storage.domain.backtest import Trade
from jts_storage.domain.enums import TradeSide
from jts_storage.errors import InvalidData

FIELDS: Final = tuple(each.name for each in fields(Trade))

_OPTIONAL: Final = frozenset({"exit_time", "exit_price", "pnl", "exit_reason"})


def _refusing(digits: int, exponent: int) -> Context:
    """A context in which a number of more digits, or of a larger exponent, is an error."""
    signals = [Clamped, InvalidOperation, Overflow, Rounded, Subnormal]
    return Context(prec=digits, Emin=-exponent, Emax=exponent, traps=signals)


# The digits that a Decimal128 and a double give back, with exponents well within theirs.
_EXACT: Final = _refusing(34, 5_900)
_PERCENTAGE: Final = _refusing(15, 300)


def plain_trades(columns: Mapping[str, Sequence[Any]]) -> tuple[Trade, ...] | None:
    """The trades of the columns of `FIELDS`, None if a value is not plainly right.

    Plain values are of the very types that a trade holds and within narrow bounds, as stores give
    back nearly all of them. `Trade` itself decides about the others and says what is wrong.
    """
    if not _are_plain(columns):
        return None
    # Past the constructor, which would check each value again.
    trades = list(map(object.__new__, repeat(Trade, len(columns["symbol"]))))
    for field in FIELDS:
        setter: Any = vars(Trade)[field].__set__
        deque(map(setter, trades, columns[field]), maxlen=0)
    return tuple(trades)


def _are_plain(columns: Mapping[str, Sequence[Any]]) -> bool:
    given = {
        field: [value for value in column if value is not None] if field in _OPTIONAL else column
        for field, column in columns.items()
    }
    try:
        return (
            _are_texts(given["symbol"], checks.name)
            and _are(TradeSide, given["side"])
            and _are_moments(given["entry_time"])
            and _are_decimals(given["entry_price"], _EXACT)
            and _are_decimals(given["quantity"], _PERCENTAGE)
            and min(given["quantity"]) > 0
            and _are_moments(given["exit_time"])
            and _are_in_order(columns["entry_time"], columns["exit_time"])
            and _are_decimals(given["exit_price"], _EXACT)
            and _are_decimals(given["pnl"], _EXACT)
            and _are_texts(given["exit_reason"], checks.text)
        )
    except (ArithmeticError, InvalidData):
        return False


def _are(kind: type, values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= {kind}


def _are_texts(values: Sequence[Any], check: Callable[[object, str], str]) -> bool:
    """:raises InvalidData: one is not as `check` wants it."""
    if not _are(str, values):
        return False
    for value in set(values):  # few are different
        check(value, "")
    return True


def _are_moments(values: Sequence[Any]) -> bool:
    return not values or (
        _are(datetime, values)
        and all(each.tzinfo is UTC and not each.microsecond % 1000 for each in values)
        and min(values) >= checks.FIRST_TIMESTAMP
        and max(values) <= checks.LAST_TIMESTAMP
    )


def _are_in_order(entries: Sequence[datetime], exits: Sequence[datetime | None]) -> bool:
    return all(
        exit_time is None or entry_time <= exit_time
        for entry_time, exit_time in zip(entries, exits, strict=True)
    )


def _are_decimals(values: Sequence[Any], context: Context) -> bool:
    """:raises ArithmeticError: one has too many digits."""
    if not _are(Decimal, values) or not all(map(Decimal.is_finite, values)):
        return False
    deque(map(context.plus, values), maxlen=0)
    return True
