"""The statements that tell of candles without giving them out; see `data_sets`.

Of each row there is a hash, and of each series the sum of these and their exclusive or. Both can
be put right afterwards by what is known of single rows: they need not be computed in any order,
nor of all rows at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, reduce
from typing import Any

from sqlalchemy import (
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    func,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
    union_all,
)

from jts_storage.clickhouse.candle_rows import Expression, TableColumns, is_in_range
from jts_storage.clickhouse.constructs import Final, text_of
from jts_storage.clickhouse.history_statements import begins, rows_as_of
from jts_storage.domain.columns import PRICES

IN_ORDER = {"optimize_aggregation_in_order": 1}
"""Rows come in the order of their series: each is counted as it comes."""

ON_EACH_SHARD = {"distributed_product_mode": "local"}
"""All rows of a symbol are on one shard, in either table: it asks no other one about them."""


@cache
def select_rows(candles: Table, *, merged: bool, by: tuple[str, ...]) -> str:
    """Select how many rows of each series count as of a version."""
    return _each_series(candles, (), merged=merged, by=by)


@cache
def select_figures(candles: Table, *, merged: bool, by: tuple[str, ...]) -> str:
    """Select the figures of the rows that count as of a version, of each series.

    :param merged: of several rows of one timestamp look at the latest only.
    :param by: how series are asked for, see `wanted`.
    """
    return _each_series(candles, ("hash",), merged=merged, by=by)


def _each_series(
    candles: Table, hashed: Iterable[str], *, merged: bool, by: tuple[str, ...]
) -> str:
    table = Final(candles) if merged else candles
    c = table.c
    counts = and_(begins(c) <= _version(), not_(c.is_deleted))
    more = [hash_of(c).label(name) for name in hashed]
    # Multiplied instead of chosen or left out: a plain loop over whole columns.
    each = select(*_series(c), counts.label("counts"), *more).where(*wanted(c, by)).subquery().c
    figures: list[Expression] = [func.sum(each.counts)]
    for name in hashed:
        figures += _figures(each[name] * each.counts)
    return text_of(_of_each(each, *figures))


@cache
def select_different(candles: Table, *, by: tuple[str, ...]) -> str:
    """Select how many rows each series has, and how many of different times at least.

    Counted in seconds: two candles within one count as one, which costs a second look and no more.
    """
    c = candles.c
    second = func.toUInt32(func.intDiv(func.toUnixTimestamp64Milli(c.timestamp), 1_000))
    statement = select(*_series(c)[1:], func.count(), func.groupBitmap(second))
    return text_of(statement.where(*wanted(c, by)).group_by(*_series(c)))


@cache
def count_former(history: Table, *, by: tuple[str, ...]) -> str:
    """Count the rows that counted as of a version and were replaced or deleted since."""
    c = history.c
    return text_of(select(func.count()).where(*wanted(c, by), *_ended_since(c)))


@cache
def count_competing(candles: Table, history: Table, *, by: tuple[str, ...]) -> str:
    """Count the later rows that have taken, or are about to take, the place of what counted."""
    c = candles.c
    takes_place = or_(begins(c) <= _version(), _place(c).in_(_former_places(history, by)))
    return text_of(select(func.count()).where(*wanted(c, by), c.version > _version(), takes_place))


@cache
def select_amended(candles: Table, history: Table, *, by: tuple[str, ...]) -> str:
    """Select what former rows change in the figures of those that still count.

    At the times of former rows, what counted takes the place of what counts of the present rows:
    both may be there, if a commit was finished late.
    """
    at = _former_places(history, by)
    was = rows_as_of(candles, history, lambda c: (*wanted(c, by), _place(c).in_(at))).c
    rows = Final(candles)
    counts = begins(rows.c) <= _version()
    each = union_all(
        _signed(was, 1),
        _signed(rows.c, -1).where(*_present(rows.c, by), _place(rows.c).in_(at), counts),
    ).subquery("each")
    c = each.c
    return text_of(_of_each(c, func.sum(c.sign), *_figures(c.hash, func.sum(c.hash * c.sign))))


@cache
def select_differing(candles: Table, history: Table, *, by: tuple[str, ...]) -> str:
    """Select the series that are others than as of a version: their rows that are only there now,
    that are there in other values, and that were only there then.

    Only times of rows that were written or ended since are looked at.
    """
    at = union_all(_former_places(history, by), _later_places(candles, by))
    was = rows_as_of(candles, history, lambda c: (*wanted(c, by), _place(c).in_(at))).c
    now = Final(candles)
    both = union_all(
        _signed(was, 1, was.timestamp),
        _signed(now.c, -1, now.c.timestamp).where(*_present(now.c, by), _place(now.c).in_(at)),
    ).subquery("both")
    names = _series(both.c)
    times = (
        select(
            *names, func.sum(both.c.sign).label("sign"), func.groupBitXor(both.c.hash).label("hash")
        )
        .group_by(*names, both.c.timestamp)
        .subquery("times")
    )
    c = times.c
    kinds = (c.sign < 0, and_(c.sign == 0, c.hash != 0), c.sign > 0)
    statement = _of_each(c, *(func.countIf(each) for each in kinds))
    return text_of(statement.where((c.sign != 0) | (c.hash != 0)))


# ---- parts


def hash_of(c: TableColumns) -> Expression:
    """The hash of a row: of its time, then of that and the first price, and so on."""
    values = [
        func.toUnixTimestamp64Milli(c.timestamp),
        *(func.reinterpretAsInt64(c[price]) for price in PRICES),
        c.volume,
    ]
    first: Expression = func.intHash64(values[0])
    return reduce(lambda chain, value: func.intHash64(func.bitXor(chain, value)), values[1:], first)


def wanted(c: TableColumns, by: tuple[str, ...]) -> list[Expression]:
    """Rows of one timeframe in a range, perhaps of some symbols or one exchange only.

    :param by: ``"symbols"`` and ``"exchange"``, where they are given.
    """
    found: list[Expression] = [c.timeframe == bindparam("timeframe"), is_in_range(c)]
    if "symbols" in by:
        found.append(c.symbol.op("IN", is_comparison=True)(bindparam("symbols")))
    if "exchange" in by:
        found.append(c.exchange == bindparam("exchange"))
    return found


def _series(c: TableColumns) -> list[Expression]:
    return [c.timeframe, c.symbol, c.exchange]


def _place(c: TableColumns) -> Any:
    return tuple_(c.symbol, c.exchange, c.timestamp)


def _version() -> Expression:
    version: Expression = func.toUInt64(bindparam("as_of"))
    return version


def _present(c: TableColumns, by: tuple[str, ...]) -> list[Expression]:
    return [*wanted(c, by), not_(c.is_deleted)]


def _ended_since(c: TableColumns) -> list[Expression]:
    return [c.since <= _version(), c.ended > _version()]


def _former_places(history: Table, by: tuple[str, ...]) -> Select[Any]:
    c = history.c
    return _places(c).where(*wanted(c, by), *_ended_since(c)).correlate(None)


def _later_places(candles: Table, by: tuple[str, ...]) -> Select[Any]:
    """Where rows were written since that are not what was there before."""
    c = candles.c
    return _places(c).where(*wanted(c, by), begins(c) > _version()).correlate(None)


def _places(c: TableColumns) -> Select[Any]:
    return select(c.symbol, c.exchange, c.timestamp)


def _signed(c: TableColumns, sign: int, *more: Expression) -> Select[Any]:
    counted: Expression = func.toInt64(literal_column(str(sign)))
    return select(*_series(c), *more, counted.label("sign"), hash_of(c).label("hash"))


def _figures(each: Expression, total: Expression | None = None) -> list[Expression]:
    return [func.sum(each) if total is None else total, func.groupBitXor(each)]


def _of_each(c: TableColumns, *figures: Expression) -> Select[Any]:
    names = _series(c)
    of: FromClause = c[names[0].key].table
    return select(*names[1:], *figures).select_from(of).group_by(*names)
