"""The statements on what candles were; see `statements` and `history`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

from sqlalchemy import (
    FromClause,
    Table,
    and_,
    bindparam,
    false,
    func,
    insert,
    literal_column,
    not_,
    or_,
    select,
    union_all,
)

from jts_storage.clickhouse import system
from jts_storage.clickhouse.candle_rows import (
    KEY,
    CandleSource,
    Expression,
    Rows,
    TableColumns,
    carried_columns,
    is_in_range,
    is_of_key,
)
from jts_storage.clickhouse.constructs import Final, LimitBy, Prewhere, text_of
from jts_storage.clickhouse.statements import as_stored


def begins(c: TableColumns) -> Expression:
    """The version since which a row has had its values."""
    begins: Expression = func.if_(c.since == 0, c.version, c.since)
    return begins


@cache
def count_tables(history: Table) -> str:
    tables = system.tables
    here = system.is_here(tables), tables.c.name == history.name
    return text_of(select(func.count()).select_from(tables).where(*here))


@cache
def select_ends(candles: Table) -> str:
    """Select the last timestamp of each series of which rows lie behind a moment."""
    c = candles.c
    names = [func.toString(c[name]) for name in KEY]
    behind = c.timestamp >= func.fromUnixTimestamp64Milli(func.toInt64(bindparam("first")), "UTC")
    last = func.toUnixTimestamp64Milli(func.max(c.timestamp))
    statement = select(*names, last).where(*_among(c), behind).group_by(*(c[k] for k in KEY))
    return text_of(statement)


@cache
def select_stored(candles: Table, *, one: bool, since: bool = True) -> str:
    """Select rows as they lie there, each with its state.

    :param one: of one series; else of several, with their names.
    :param since: which version first had the values, too, which an older schema does not know.
    """
    c = candles.c
    state = [c.version.label("version"), c.is_deleted.label("deleted")]
    if since:
        state.append(c.since.label("since"))
    names = [] if one else [c[name].label(name) for name in KEY]
    statement = select(*as_stored(c), *state, *names)
    wanted = [is_of_key(c)] if one else _among(c)
    return text_of(statement.where(*wanted, is_in_range(c)))


def is_gone(c: TableColumns) -> Expression:
    """Whether a row, the latest of its time, did not count as of the parameter ``as_of``."""
    return or_(c.is_deleted, begins(c) > _asked())


def was_former(c: TableColumns) -> Expression:
    """Whether a former row counted as of that version."""
    return and_(c.since <= _asked(), c.ended > _asked())


@cache
def select_lying(candles: Table, *, ordered: bool, limited: bool = False) -> str:
    """Select the rows of a range as they lie there, each with whether it counted; see `past_rows`.

    :param ordered: by time; few rows are sorted sooner here than the engine plans to.
    :param limited: only the first ones.
    """
    c = candles.c
    rows = Prewhere(candles, and_(is_of_key(c), is_in_range(c)))
    state = (is_gone(rows.c).label("deleted"), rows.c.version.label("version"))
    found = select(*as_stored(rows.c), *state)
    if ordered or limited:
        found = found.order_by(rows.c.timestamp)
    return text_of(found.limit(bindparam("limit")) if limited else found)


@cache
def select_former(history: Table, *, limited: bool = False) -> str:
    """Select what counted as of a version and was replaced or deleted since.

    :param limited: only the first ones, by time.
    """
    c = history.c
    statement = select(*as_stored(c), c.since.label("begins"))
    found = statement.where(is_of_key(c), is_in_range(c), was_former(c))
    if limited:
        found = found.order_by(c.timestamp).limit(bindparam("limit"))
    return text_of(found)


@cache
def select_kept(history: Table, *, one: bool) -> str:
    """Select what is kept of former rows that ended after a version.

    :param one: of one series; else of several, with their names.
    """
    c = Final(history).c
    state = (c.since.label("since"), c.ended.label("ended"))
    names = [] if one else [c[name].label(name) for name in KEY]
    statement = select(*as_stored(c), *state, *names)
    wanted = [is_of_key(c)] if one else _among(c)
    is_later = c.ended > func.toUInt64(bindparam("version"))
    return text_of(statement.where(*wanted, is_in_range(c), is_later))


@cache
def keep_deleted(source: CandleSource, history: Table) -> str:
    """Keep what a deletion is about to delete.

    It ends with what the same commit writes, which has the version behind the deletion's.
    """
    c = source.range.of.c
    carried = carried_columns(source.table)
    version: Expression = func.toUInt64(bindparam("version"))
    ended: Expression = func.toUInt64(version + literal_column("1"))
    rows = source.range.select(
        *(c[each.key] for each in carried), begins(c), ended, bindparam("source")
    ).where(c.version < version)
    names = [*(each.key for each in carried), "since", "ended", "source"]
    return text_of(insert(history).from_select([history.c[name] for name in names], rows))


def forget(history: Table, name: str, snapshots: Iterable[int]) -> tuple[str, str]:
    """Count, and delete, what was ended before a version and what no snapshot shows.

    :param name: of the table that holds the rows, and what a cluster needs beside it.
    """
    c = history.c
    shown = [
        and_(c.since <= literal_column(str(int(each))), c.ended > literal_column(str(int(each))))
        for each in snapshots
    ]
    wanted = and_(c.ended <= bindparam("before"), not_(or_(false(), *shown)))
    count = select(func.count()).select_from(history).where(wanted)
    return text_of(count), f"DELETE FROM {name} WHERE {text_of(wanted)}"


# ---- as of a version


def rows_as_of(
    candles: Table, history: Table, wanted: Callable[[TableColumns], Iterable[Expression]]
) -> FromClause:
    """The rows that counted as of the parameter ``as_of``: those that still do, and former ones.

    Of two that counted at once, of which a commit that was finished late wrote one, the later.

    :param wanted: which rows, by the columns of either table.
    """
    rows, past = Final(candles), history.c
    carried = [each.key for each in carried_columns(candles)]
    still = select(*(rows.c[name] for name in carried), begins(rows.c).label("begins")).where(
        *wanted(rows.c), not_(rows.c.is_deleted), begins(rows.c) <= _asked()
    )
    former = select(*(past[name] for name in carried), past.since.label("begins")).where(
        *wanted(past), was_former(past)
    )
    both = union_all(still, former).subquery("both")
    key = [both.c[name] for name in (*KEY, "timestamp")]
    return (
        select(both)
        .order_by(*key, both.c.begins.desc())
        .suffix_with(LimitBy(*key))
        .subquery(candles.name)
    )


@cache
def source_as_of(candles: Table, history: Table) -> CandleSource:
    """The candles of one key as of a version."""
    in_range = rows_as_of(candles, history, lambda c: (is_of_key(c), is_in_range(c)))
    return CandleSource(
        table=candles,
        range=Rows(in_range),
        series=Rows(rows_as_of(candles, history, lambda c: (is_of_key(c),))),
        version=candles.c.version,
        is_deleted=candles.c.is_deleted,
        has_versions=True,
    )


@cache
def select_last(source: CandleSource) -> str:
    """Select the last rows of a series, backwards."""
    c = source.series.of.c
    rows = source.series.select(*as_stored(c)).order_by(c.timestamp.desc())
    return text_of(rows.limit(bindparam("limit")))


@cache
def select_coverage(source: CandleSource) -> str:
    stamps = source.series.of.c.timestamp
    ends = (func.toUnixTimestamp64Milli(end(stamps)) for end in (func.min, func.max))
    return text_of(source.series.select(*ends, func.count()))


@cache
def select_keys_as_of(candles: Table, history: Table) -> str:
    c = rows_as_of(candles, history, lambda _: ()).c
    return text_of(select(*(func.toString(c[name]) for name in KEY)).distinct())


# ---- what was corrected


@cache
def select_corrected(history: Table) -> str:
    """Select former rows behind one, by the version that ended them, then by time.

    ``ended`` and ``ms`` are those of the one before: of all rows with that version, if it has none.
    """
    rows = Final(history).c
    ended = (rows.since.label("begins"), rows.ended.label("ended"), rows.source.label("source"))
    version = func.toUInt64(bindparam("ended"))
    stamp: Expression = func.toUnixTimestamp64Milli(rows.timestamp)
    is_behind = and_(rows.ended == version, stamp > func.toInt64(bindparam("ms")))
    later = or_(rows.ended > version, is_behind)
    statement = select(*as_stored(rows), *ended).where(is_of_key(rows), is_in_range(rows), later)
    return text_of(statement.order_by(rows.ended, rows.timestamp).limit(bindparam("limit")))


@cache
def select_present(candles: Table) -> str:
    rows = Final(candles).c
    return text_of(
        select(*as_stored(rows), begins(rows).label("begins")).where(
            is_of_key(rows), _is_at(rows), not_(rows.is_deleted)
        )
    )


@cache
def select_deleted(candles: Table) -> str:
    """Select the latest rows that say that there is no candle."""
    rows = Final(candles).c
    return text_of(
        select(rows.timestamp.label("ms"), rows.version.label("version")).where(
            is_of_key(rows), _is_at(rows), rows.is_deleted
        )
    )


@cache
def select_later(history: Table) -> str:
    c = history.c
    return text_of(select(*as_stored(c), c.since.label("begins")).where(is_of_key(c), _is_at(c)))


def _is_at(c: Any) -> Expression:
    stamp: Expression = func.toUnixTimestamp64Milli(c.timestamp)
    is_at: Expression = stamp.op("IN", is_comparison=True)(bindparam("stamps"))
    return is_in_range(c) & is_at


def _asked() -> Expression:
    version: Expression = func.toUInt64(bindparam("as_of"))
    return version


def _among(c: Any) -> list[Expression]:
    """Of any of these symbols, exchanges and timeframes: names are looked up sooner than keys."""
    return [c[name].op("IN", is_comparison=True)(bindparam(f"{name}s")) for name in KEY]
