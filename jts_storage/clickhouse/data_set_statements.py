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
from jts_storage.clickhouse.constructs import Final, LimitBy, text_of
from jts_storage.clickhouse.history_statements import begins
from jts_storage.domain.columns import PRICES

ON_EACH_SHARD = {"distributed_product_mode": "local"}
"""All rows of a symbol are on one shard, in either table: it asks no other one about them."""


@cache
def select_rows(candles: Table, *, merged: bool, by: tuple[str, ...]) -> str:
    """As `select_figures`, without hashes."""
    return _each_series(candles, (), merged=merged, by=by)


@cache
def select_figures(candles: Table, *, merged: bool, by: tuple[str, ...]) -> str:
    """Select of each series how many rows it has, of how many different times at least, and the
    figures of those that counted as of a version and still do.

    Times are counted in seconds: two candles within one count as one, which costs a second look.

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
    second = func.toUInt32(func.intDiv(func.toUnixTimestamp64Milli(c.timestamp), 1_000))
    more = [hash_of(c).label(name) for name in hashed] + (
        [] if merged else [second.label("second")]
    )
    # Multiplied instead of chosen or left out: a plain loop over whole columns.
    each = select(*_series(c), counts.label("counts"), *more).where(*wanted(c, by)).subquery().c
    different = func.count() if merged else func.groupBitmap(each.second)
    figures: list[Expression] = [func.count(), different, func.sum(each.counts)]
    for name in hashed:
        figures += _figures(each[name] * each.counts)
    return text_of(_of_each(each, *figures))


@cache
def count_former(history: Table, *, by: tuple[str, ...]) -> str:
    """Count the rows that are kept as having counted as of a version and no more."""
    c = history.c
    ended = (c.since <= _version(), c.ended > _version())
    return text_of(select(func.count()).select_from(history).where(*wanted(c, by), *ended))


@cache
def select_former(candles: Table, history: Table, *, by: tuple[str, ...]) -> str:
    """Select the figures of the rows that counted as of a version and do not any more."""
    c = _former(candles, history, by).subquery("former").c
    return text_of(_of_each(c, func.count(), *_figures(c.hash)))


@cache
def select_differing(candles: Table, history: Table, *, by: tuple[str, ...]) -> str:
    """Select the series that are others than as of a version: how many rows are only there now,
    are there in other values, and were only there then.
    """
    was = _former(candles, history, by).subquery("was").c
    now = _later(candles, by).subquery("now").c
    both = union_all(_signed(was, 1), _signed(now, -1).where(not_(now.is_deleted))).subquery("both")
    c = both.c
    signs, hashes = func.sum(c.sign).label("sign"), func.groupBitXor(c.hash).label("hash")
    times = select(*_series(c), signs, hashes).group_by(*_series(c), c.timestamp).subquery("times")
    c = times.c
    kinds = (c.sign < 0, and_(c.sign == 0, c.hash != 0), c.sign > 0)
    statement = _of_each(c, *(func.countIf(each) for each in kinds))
    return text_of(statement.where(or_(c.sign != 0, c.hash != 0)))


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


def _former(candles: Table, history: Table, by: tuple[str, ...]) -> Select[Any]:
    """The rows that counted as of a version and do not any more, the later of two at one time.

    A writer that died before its candles were there leaves rows that did not end: they count as
    present ones.
    """
    c = history.c
    ended = (c.since <= _version(), c.ended > _version(), _place(c).in_(_later_places(candles, by)))
    return _first_of_each(c, c.since, _rows(c).where(*wanted(c, by), *ended))


def _later(candles: Table, by: tuple[str, ...]) -> Select[Any]:
    """The latest rows of times that changed since a version, deleted ones among them.

    The latest is picked first: a writer that was paused may have left a row that never counted.
    """
    c = candles.c
    state = (
        c.is_deleted.label("is_deleted"),
        c.version.label("version"),
        begins(c).label("begins"),
    )
    # Versions first: few rows have a later one, and only of these the other columns are read.
    rows = _rows(c).add_columns(*state).where(*wanted(c, by), c.version >= _version())
    latest = _first_of_each(c, c.version, rows).subquery("latest").c
    # A deletion counts from the version behind its own, with what its commit writes.
    is_deletion = and_(latest.is_deleted, latest.version == _version())
    is_later = and_(latest.version > _version(), latest.begins > _version())
    found = select(*_series(latest), latest.timestamp, latest.hash, latest.is_deleted)
    return found.where(or_(is_later, is_deletion))


def _later_places(candles: Table, by: tuple[str, ...]) -> Select[Any]:
    c = _later(candles, by).subquery("later").c
    return select(c.symbol, c.exchange, c.timestamp).correlate(None)


def _rows(c: TableColumns) -> Select[Any]:
    return select(*_series(c), c.timestamp, hash_of(c).label("hash"))


def _first_of_each(c: TableColumns, by: Expression, rows: Select[Any]) -> Select[Any]:
    """Of the rows of one time that with the highest `by`."""
    place = (c.symbol, c.exchange, c.timestamp)
    return rows.order_by(*place, by.desc()).suffix_with(LimitBy(*place))


def _signed(c: TableColumns, sign: int) -> Select[Any]:
    counted: Expression = func.toInt64(literal_column(str(sign)))
    return select(*_series(c), c.timestamp, c.hash, counted.label("sign"))


def _figures(each: Expression) -> list[Expression]:
    return [func.sum(each), func.groupBitXor(each)]


def _of_each(c: TableColumns, *figures: Expression) -> Select[Any]:
    names = _series(c)
    of: FromClause = c[names[0].key].table
    return select(*names[1:], *figures).select_from(of).group_by(*names)
