"""Stored results and their trades: read a column at a time, or one by one if that fails.

Of 10,000 trades, a document of the model for each and the checks of each entity took two thirds
of the time of a read. Columns of plain values need neither. What is not plain goes the careful
way from the beginning, so that both ways give the same entities and the same errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, TypeVar

from bson import Decimal128

from jts_storage.domain.backtest import BacktestResult, Trade
from jts_storage.domain.enums import TradeSide, member
from jts_storage.domain.trades import FIELDS, plain_trades
from jts_storage.errors import InvalidData
from jts_storage.mongo.decimals import from_decimal128s
from jts_storage.mongo.documents import BacktestDocument, TradeChunkDocument, TradeFields
from jts_storage.mongo.mappers import backtest_from_document, read_stored, trades_from_document
from jts_storage.mongo.values import decimal, percentage

D = TypeVar("D", BacktestDocument, TradeChunkDocument)


def read_backtest(model: type[BacktestDocument], stored: Mapping[str, Any]) -> BacktestResult:
    """The result of a stored document that holds all of its trades.

    :raises InvalidData: as `read_stored`.
    """
    trades = _quickly(model, stored)
    if trades is None:
        return read_stored(model, backtest_from_document, stored)
    head = {**stored, model.path("trades"): None}
    return read_stored(model, lambda document: backtest_from_document(document, trades), head)


def read_trades(
    model: type[D], stored: Mapping[str, Any], *, is_part: bool = False
) -> tuple[Trade, ...]:
    """The trades of a stored result, or of a chunk of them.

    :raises InvalidData: as `read_stored`.
    """
    trades = _quickly(model, stored)
    if trades is None:
        return read_stored(model, trades_from_document, stored, is_part=is_part)
    head = {**stored, model.path("trades"): None}
    return read_stored(model, lambda _: trades, head, is_part=is_part)


def _quickly(
    model: type[BacktestDocument | TradeChunkDocument], stored: Mapping[str, Any]
) -> tuple[Trade, ...] | None:
    """None if not every trade is plain."""
    trades = stored.get(model.path("trades"))
    if not trades or not isinstance(trades, list):
        return None
    try:
        return plain_trades(_columns(model.nested("trades"), trades))
    except (InvalidData, KeyError, TypeError, ValueError, ArithmeticError):
        return None  # the careful way says what it is


def _columns(
    model: type[TradeFields], trades: Sequence[Mapping[str, Any]]
) -> dict[str, Sequence[Any]]:
    columns: dict[str, Sequence[Any]] = {
        field: list(map(itemgetter(model.path(field)), trades)) for field in FIELDS
    }
    columns["side"] = [member(TradeSide, side, "side") for side in columns["side"]]
    columns["quantity"] = list(map(percentage, columns["quantity"]))
    for field in ("entry_price", "exit_price", "pnl"):
        columns[field] = _decimals(columns[field])
    return columns


def _decimals(values: Sequence[Any]) -> list[Any]:
    stored = [value for value in values if value is not None]
    if set(map(type, stored)) != {Decimal128}:
        return list(map(decimal, values))
    numbers = from_decimal128s(stored)
    if len(numbers) == len(values):
        return numbers
    following = iter(numbers)
    return [None if value is None else next(following) for value in values]
