"""Where candles come from: the rows of a key and a range, and which of them count.

Columns are called by their keys, as the domain calls them; the declared table says what they are
called in ClickHouse.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    FromClause,
    Select,
    Table,
    and_,
    bindparam,
    column,
    func,
    literal_column,
    not_,
    select,
    tuple_,
)
from sqlalchemy.sql import ColumnElement

from jts_storage.clickhouse.constructs import Final, LimitBy

TableColumns = Any  # SQLAlchemy's own type of `table.c` has no names to complete
Expression = ColumnElement[Any]

KEY = ("symbol", "exchange", "timeframe")
STATE = ("version", "is_deleted")
OWN = (*STATE, "since")
"""The columns of a row that are not the candle itself; an older schema lacks the last."""


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of one key, each timestamp once."""

    of: FromClause
    where: tuple[Expression, ...] = ()

    def select(self, *what: Any) -> Select[Any]:
        return select(*what).select_from(self.of).where(*self.where)


@dataclass(frozen=True, slots=True, eq=False)
class CandleSource:
    """Where the candles of one key come from.

    :param table: the rows as they lie there.
    :param range: the rows of a range that count.
    :param series: those of the whole series.
    :param version: which of two rows of one timestamp is the later, the higher.
    :param is_deleted: whether a row says that there is no candle.
    :param has_versions: whether rows carry these two, so that candles can be written.
    """

    table: Table
    range: Rows
    series: Rows
    version: Expression
    is_deleted: Expression
    has_versions: bool


@cache
def latest(candles: Table) -> CandleSource:
    """Return the rows of our table that count."""
    rows = Final(candles)
    of_key, exists = is_of_key(rows.c), not_(rows.c.is_deleted)
    return CandleSource(
        table=candles,
        range=Rows(rows, (of_key, is_in_range(rows.c), exists)),
        series=Rows(rows, (of_key, exists)),
        version=candles.c.version,
        is_deleted=candles.c.is_deleted,
        has_versions=True,
    )


@cache
def original(candles: Table) -> CandleSource:
    """Return the rows that count of a table of the original schema.

    It is a plain MergeTree that knows no versions and refuses FINAL: of two rows of one timestamp
    the one inserted later counts.
    """
    c = candles.c
    inserted = _inserted()
    each_once = (
        select(*carried_columns(candles))
        .where(is_of_key(c))
        .order_by(c.timestamp, inserted.desc())
        .suffix_with(LimitBy(c.timestamp))
    )
    return CandleSource(
        table=candles,
        range=Rows(each_once.where(is_in_range(c)).subquery(candles.name)),
        series=Rows(each_once.subquery(candles.name)),
        version=inserted,
        is_deleted=literal_column("0"),
        has_versions=False,
    )


def _inserted() -> Expression:
    """Return where a row of a plain MergeTree stands among all: higher means inserted later."""
    # A part is named partition_block_block_level: later inserts have higher numbers of a block.
    part = func.splitByChar("_", func.toString(column("_part")))
    block: Expression = func.toUInt64OrZero(func.arrayElement(part, 2))
    return block * 2**40 + column("_part_offset")


def is_of_key(c: TableColumns) -> Expression:
    return and_(*(c[name] == bindparam(name) for name in KEY))


def is_in_range(c: TableColumns) -> Expression:
    between: Expression = c.timestamp.between(_moment("first"), _moment("last"))
    return between


def _moment(name: str) -> Expression:
    moment: Expression = func.fromUnixTimestamp64Milli(func.toInt64(bindparam(name)), "UTC")
    return moment


def key_of(c: TableColumns) -> Any:
    return tuple_(*(c[name] for name in KEY))


def is_among_keys(c: TableColumns) -> Expression:
    is_among: Expression = key_of(c).op("IN", is_comparison=True)(bindparam("keys"))
    return is_among


def carried_columns(candles: Table) -> list[Any]:
    """Return the columns that are the candle itself."""
    return [each for each in candles.c if each.key not in OWN]
