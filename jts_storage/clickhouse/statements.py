"""The statements on candles, made of the columns of the declared table.

Each is compiled when it is first needed and kept as text; the driver replaces its parameters. A
column is called by its key, as the domain calls it, so a column renamed in the table is renamed
here. Prices leave and enter as the integers they are, timestamps as milliseconds, so that whole
columns move without becoming objects.

Most begin with where rows come from, see `candle_rows`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    Table,
    and_,
    bindparam,
    column,
    func,
    insert,
    literal_column,
    select,
    tuple_,
)

from jts_storage.clickhouse import system
from jts_storage.clickhouse.candle_rows import (
    KEY,
    STATE,
    CandleSource,
    Expression,
    TableColumns,
    carried_columns,
    is_in_range,
    is_of_key,
    key_of,
)
from jts_storage.clickhouse.constructs import (
    Prewhere,
    WithValue,
    text_of,
    type_of,
)
from jts_storage.domain import checks
from jts_storage.domain.calendar import DAY_MS
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_TIMESTAMP, to_ms
from jts_storage.domain.columns import FIELDS, PRICES
from jts_storage.domain.enums import Timeframe

Parameters = dict[str, Any]

RESAMPLE_SETTINGS = {
    # Rows come in the order of their series: without this the engine keeps every bar until the
    # end, which takes three times as long.
    "optimize_aggregation_in_order": 1,
    # Weeks and months before 1970.
    "enable_extended_results_for_datetime_functions": 1,
}


def as_stored(c: TableColumns, fields: Iterable[str] = FIELDS) -> list[Expression]:
    return [
        c.timestamp.label("ms"),
        *(c[name].label(f"{name}_" if name in PRICES else name) for name in fields),
    ]


@cache
def stored_types(candles: Table) -> Mapping[str, str]:
    """Return which columns of a result are read as the integers they are, and their types."""
    types = {each.key: type_of(each) for each in candles.c}
    return {
        "ms": types["timestamp"],
        **{f"{name}_": types[name] for name in PRICES},
        "volume": types["volume"],
        "largest": types["volume"],
    }


@cache
def by_year(candles: Table) -> str:
    """Return the partition key of a table that is split by year, as the server writes it."""
    return text_of(func.toYear(candles.c.timestamp))


# ---- parameters


def names_of(keys: Iterable[SeriesKey]) -> tuple[tuple[str, str, str], ...]:
    """Keys as statements on several bind them."""
    return tuple((key.symbol, key.exchange, key.timeframe.value) for key in keys)


def parameters(key: SeriesKey, first: int, last: int) -> Parameters:
    checks.instance(key, SeriesKey, "key")
    return {
        "symbol": key.symbol,
        "exchange": key.exchange,
        "timeframe": key.timeframe.value,
        "first": first,
        "last": last,
    }


# ---- reading


@cache
def select_range(source: CandleSource, *, limited: bool = False) -> str:
    c = source.range.of.c
    statement = source.range.select(*as_stored(c)).order_by(c.timestamp)
    return text_of(statement.limit(bindparam("limit")) if limited else statement)


@cache
def select_rows(source: CandleSource, *, ordered: bool = True) -> str:
    """Select the rows of a range as they lie there: right if no timestamp is there twice, and
    quicker than FINAL.

    :param ordered: by time; few rows are sorted sooner here than the engine plans to.
    """
    c = source.table.c
    rows = Prewhere(source.table, and_(is_of_key(c), is_in_range(c)))
    found = select(*as_stored(rows.c), rows.c.is_deleted.label("deleted"))
    return text_of(found.order_by(rows.c.timestamp) if ordered else found)


@cache
def select_end(source: CandleSource, *, newest: bool) -> str:
    """Select the newest or oldest rows as they lie there, duplicates and deleted ones among them.

    FINAL would merge the whole series to give its last row, and so would a sort by version while
    duplicates wait for a merge. Rows as they lie touch only the end of each part;
    `mappers.series_from_end` finds those that count.
    """
    c = source.table.c
    order = c.timestamp.desc() if newest else c.timestamp.asc()
    return text_of(
        select(*as_stored(c), source.is_deleted.label("deleted"), source.version.label("version"))
        .where(is_of_key(c))
        .order_by(order)
        .limit(bindparam("limit"))
    )


@cache
def select_count(source: CandleSource, *, bounded: bool) -> str:
    rows = source.range if bounded else source.series
    return text_of(rows.select(func.count().label("rows")))


@cache
def select_days(source: CandleSource) -> str:
    day = func.toInt64(func.toDate32(source.series.of.c.timestamp, bindparam("timezone")))
    statement = source.series.select(day.label("day"), func.count().label("rows"))
    return text_of(statement.group_by("day").order_by("day"))


@cache
def select_resampled(
    source: CandleSource, of: Timeframe, target: Timeframe, *, is_utc: bool
) -> str:
    """Select coarser candles, with the figures that show whether a volume may have overflowed."""
    c = source.range.of.c
    slot, bucket = slot_of(c.timestamp, of, target, is_utc=is_utc)
    statement = source.range.select(bucket.label("bucket"), *bucketed(c))
    return text_of(statement.group_by(slot).order_by("bucket"))


def bucketed(c: TableColumns) -> list[Expression]:
    """The candle of a bucket, and the figures that show whether its volume may have overflowed."""
    return [
        func.argMin(c.open, c.timestamp).label("open_"),
        func.max(c.high).label("high_"),
        func.min(c.low).label("low_"),
        func.argMax(c.close, c.timestamp).label("close_"),
        func.sum(c.volume).label("volume_"),
        func.max(c.volume).label("largest"),
        func.count().label("rows"),
    ]


def slot_of(
    timestamp: Expression, source: Timeframe, target: Timeframe, *, is_utc: bool
) -> tuple[Expression, Expression]:
    """What tells the coarser candle that a row belongs to, and its timestamp in milliseconds.

    Dates are told by functions that the engine knows to keep the order of timestamps, so that it
    aggregates as it reads; see `RESAMPLE_SETTINGS`.
    """
    if target.is_intraday:
        ms: Expression = func.toUnixTimestamp64Milli(timestamp)
        # Counted from 1900, which is whole in every step, a remainder is never negative.
        slot = ms - func.modulo(ms - to_ms(FIRST_TIMESTAMP), target.step_ms)
        return slot, slot
    # What is a day or longer already carries its date; only intraday candles have a local day.
    is_local = source.is_intraday and not is_utc
    date: Expression = func.toDate32(timestamp, bindparam("timezone") if is_local else "UTC")
    if target is Timeframe.W1:
        date = func.toStartOfWeek(date, 1)  # from Monday
    elif target is Timeframe.MN1:
        date = func.toStartOfMonth(date)
    return date, func.toInt64(date) * DAY_MS


@cache
def select_keys(candles: Table, *, after: bool) -> str:
    """Select keys of which rows are stored, deleted ones included.

    Each is found where it begins in the sorted rows; an expression of its names would be computed
    for every row.
    """
    c = candles.c
    each = select(*(c[name].label(name) for name in KEY)).distinct()
    if after:
        # The limit keeps the engine from asking every row for what comes after.
        each = each.where(c.symbol >= bindparam("symbol")).limit(2**31)
    found = each.subquery("found").c
    labels = ("s", "e", "t")
    names = [func.toString(found[name]) for name in KEY]
    statement = select(*(name.label(label) for name, label in zip(names, labels, strict=True)))
    if after:
        statement = statement.where(tuple_(*names) > tuple_(*map(bindparam, KEY)))
    return text_of(statement.order_by(*labels).limit(bindparam("limit")))


@cache
def select_keys_with_deletions(candles: Table) -> str:
    c = candles.c
    names = (func.toString(c[name]) for name in KEY)
    return text_of(select(*names).distinct().where(c.is_deleted))


# ---- writing


@cache
def select_highest_version(candles: Table) -> str:
    return text_of(select(func.max(candles.c.version)))


@cache
def select_next_version(candles: Table) -> str:
    """Select a version by the server's clock, above all that is stored in a range.

    The subquery is answered once, so that every shard compares with the same moment. Rows before
    it, nearly all there are, are left out early.
    """
    c = candles.c
    now = select(func.toUInt64(func.toUnixTimestamp64Nano(func.now64(9))))
    moment: Expression = column("moment")
    later = select(func.greatest(moment, func.max(c.version) + 1)).where(
        is_of_key(c), is_in_range(c), c.version >= moment
    )
    return text_of(WithValue(moment.key or "", now, later))


@cache
def delete(source: CandleSource) -> str:
    """Delete by writing, for each row, a later version that says so."""
    table, c = source.table, source.range.of.c
    carried = carried_columns(table)
    version: Expression = bindparam("version")
    deleted = source.range.select(
        *(c[each.key] for each in carried),
        func.toUInt64(version),
        literal_column("1"),
    ).where(c.version < version)
    return text_of(
        insert(table).from_select([*carried, *(table.c[name] for name in STATE)], deleted)
    )


@cache
def count_deleted(candles: Table) -> str:
    c = candles.c
    return text_of(
        select(func.count()).where(
            is_of_key(c), is_in_range(c), c.version == bindparam("version"), c.is_deleted
        )
    )


@cache
def count_written(candles: Table) -> str:
    """Count the candles of a version; one that lies there twice, after a repetition, is one."""
    c = candles.c
    return text_of(
        select(func.uniqExact(*(c[name] for name in KEY), c.timestamp)).where(
            c.symbol.between(bindparam("first_symbol"), bindparam("last_symbol")),
            key_of(c).between(bindparam("first_key"), bindparam("last_key")),
            is_in_range(c),
            c.version == bindparam("version"),
        )
    )


STREAM_SETTINGS = {"max_block_size": 16_384}
"""FINAL reads a block of every part before it gives a row: small ones cost the least there."""


AS_THEY_ARE = {"optimize_on_insert": 0}
"""Settings of an insert of rows whose keys are each there once, which then are not merged with each
other: half of its processor time. FINAL merges such a part until the engine has merged it."""


def write_settings(extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return what makes an insert durable when it is acknowledged; called anew for each attempt.

    The engine notes a token before it has the rows. One that was noted in the moment in which the
    server died would have the repetition dropped, so none is used twice: a repetition is
    recognised by its rows, which carry a version. To ask for no deduplication is not enough: the
    embedded engine then goes by the rows themselves, and drops those that were taken back.
    """
    return {
        "async_insert": 0,
        "insert_deduplicate": 1,
        "insert_deduplication_token": uuid4().hex,
        "max_partitions_per_insert_block": 0,  # by default 100, too few years for some series
        "distributed_foreground_insert": 1,
        **(extra or {}),
    }


# ---- the table itself


@cache
def select_engine(candles: Table) -> str:
    tables = system.tables
    return text_of(
        select(tables.c.engine, tables.c.partition_key).where(
            system.is_here(tables), tables.c.name == candles.name
        )
    )


@cache
def select_parts_state(candles: Table) -> str:
    """Select what changes whenever any row does: parts are never changed, only added and replaced.

    Of a path the folder of the table is taken, which another table of this name has not.
    """
    c = system.parts.c
    folder = func.arrayElement(func.extractAll(c.path, "/store/[0-9a-f]{3}/([0-9a-f-]{36})/"), 1)
    digest = func.groupBitXor(func.cityHash64(c.name, c.hash_of_all_files))
    return text_of(
        select(func.any(c.engine), func.any(folder), func.toString(digest), func.count()).where(
            system.is_here(system.parts), c.table == candles.name, c.active
        )
    )
