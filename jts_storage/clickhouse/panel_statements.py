"""The statements that read many series at once; `statements` has those on one series."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import Select, Table, bindparam, func, literal, not_, select, union_all

from jts_storage.clickhouse.candle_rows import is_among_keys, is_in_range
from jts_storage.clickhouse.constructs import Final, LimitBy, text_of
from jts_storage.clickhouse.history_statements import is_gone, rows_as_of, was_former
from jts_storage.clickhouse.statements import as_stored, bucketed, names_of, slot_of
from jts_storage.domain.calendar import DAY_MS
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel_query import PanelQuery

SETTINGS = {"max_query_size": 64 << 20}
"""Some thousand keys are more text than the engine takes by default."""

IN_ORDER = {"optimize_aggregation_in_order": 1}
"""Rows come in the order of their series: each is counted as it comes."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a statement looks like, whatever the values of its parameters are."""

    merged: bool
    has_keys: bool
    has_symbols: bool
    has_exchange: bool
    is_cut: bool
    fields: tuple[str, ...]
    is_first: bool = False
    has_times: bool = False
    is_timed: bool = False

    @classmethod
    def of(
        cls,
        asked: PanelQuery,
        *,
        merged: bool,
        is_first: bool = False,
        has_times: bool = False,
        is_timed: bool = False,
    ) -> Form:
        """
        :param is_first: whether only the first rows of all are wanted.
        :param has_times: whether only rows of some times are wanted, given as `times`.
        :param is_timed: whether rows say if they counted as of a version; see `past_rows`.
        """
        return cls(
            merged,
            has_keys=asked.keys is not None,
            has_symbols=asked.symbols is not None,
            has_exchange=asked.exchange is not None,
            is_cut=asked.rows is not None,
            fields=asked.fields,
            is_first=is_first,
            has_times=has_times,
            is_timed=is_timed,
        )


def bound(asked: PanelQuery) -> dict[str, Any]:
    return {
        "timeframe": asked.timeframe.value,
        "first": asked.first,
        "last": asked.last,
        "keys": names_of(asked.keys or ()),
        "symbols": sorted(asked.symbols or ()),
        "exchange": asked.exchange,
        "rows": asked.rows,
    }


@cache
def select_sizes(candles: Table, form: Form, history: Table | None = None) -> str:
    """:param history: given, what was former as of a version counts, too."""
    sizes = _sizes(candles.c, form)
    if history is None:
        return text_of(sizes.order_by(*_names(candles.c)))
    # A former row has no other in its place where another program has deleted that.
    c = union_all(sizes, _sizes(history.c, form, was_former(history.c))).subquery("both").c
    statement = select(*_names(c), func.sum(c.rows)).group_by(*_names(c)).order_by(*_names(c))
    return text_of(statement)


def _sizes(c: Any, form: Form, *wanted: Any) -> Select[Any]:
    statement = select(*_labelled(_names(c)), func.count().label("rows"))
    return statement.where(*_wanted(c, form), *wanted).group_by(*_names(c))


@cache
def select_ends(candles: Table, form: Form) -> str:
    """Select the last time of each series: key columns alone, in the order of the series."""
    c = candles.c
    last = func.toUnixTimestamp64Milli(func.max(c.timestamp))
    statement = select(*_names(c), last).where(*_wanted(c, form))
    return text_of(statement.group_by(c.timeframe, *_names(c)))


@cache
def select_rows(candles: Table, form: Form, history: Table | None = None) -> str:
    """:param history: given, rows are those as of a version."""
    deleted: Any = literal(0)
    if history is not None:
        c = rows_as_of(candles, history, lambda c: _wanted(c, form)).c
        wanted = []
    elif form.merged:
        c = Final(candles).c
        wanted = [*_wanted(c, form), not_(c.is_deleted)]
    else:
        c = candles.c
        deleted, wanted = is_gone(c) if form.is_timed else c.is_deleted, _wanted(c, form)
    names = _names(c)
    state = [deleted.label("deleted"), *([c.version.label("version")] if form.is_timed else ())]
    statement: Select[Any] = select(*as_stored(c, form.fields), *state, *_labelled(names)).where(
        *wanted
    )
    # As the rows lie in either order of the table, there being but one timeframe; and LIMIT BY
    # takes rows as they come only if its columns begin the order.
    order = (*names, c.timeframe, c.timestamp)
    if not form.is_cut:
        ordered = statement.order_by(*order)
        return text_of(ordered.limit(bindparam("limit")) if form.is_first else ordered)
    # Backwards, so that the last rows of a series are the first; turned round when they are here.
    backwards = statement.order_by(*(each.desc() for each in order))
    return text_of(backwards.suffix_with(LimitBy(*names, rows=bindparam("rows"))))


@cache
def select_former(history: Table, form: Form) -> str:
    """Select what counted as of a version and was replaced or deleted since."""
    c = history.c
    begins = c.since.label("begins")
    statement = select(*as_stored(c, form.fields), begins, *_labelled(_names(c)))
    return text_of(statement.where(*_wanted(c, form), was_former(c)))


def _wanted(c: Any, form: Form) -> list[Any]:
    wanted = [c.timeframe == bindparam("timeframe"), is_in_range(c)]
    if form.has_keys:
        wanted.append(is_among_keys(c))
    if form.has_symbols:
        wanted.append(c.symbol.op("IN", is_comparison=True)(bindparam("symbols")))
    if form.has_exchange:
        wanted.append(c.exchange == bindparam("exchange"))
    if form.has_times:
        # As texts, which the engine reads as the column's type and finds in the order of the rows.
        wanted.append(c.timestamp.op("IN", is_comparison=True)(bindparam("times")))
    return wanted


@cache
def select_resampled(
    candles: Table, form: Form, source: Timeframe, target: Timeframe, *, is_utc: bool
) -> str:
    """Select coarser candles of many series, with what shows whether they are right: the largest
    volume, how many rows there were, how many at different times, and deleted ones.
    """
    rows = Final(candles) if form.merged else candles
    c = rows.c
    slot, bucket = slot_of(c.timestamp, source, target, is_utc=is_utc)
    statement: Select[Any] = select(
        bucket.label("bucket"), *bucketed(c), *_proof(c, source, form), *_labelled(_names(c))
    ).where(*_wanted(c, form))
    if form.merged:
        statement = statement.where(not_(c.is_deleted))
    statement = statement.group_by(*_names(c), c.timeframe, slot)
    return text_of(statement.order_by(*_names(c), "bucket"))


def _proof(c: Any, source: Timeframe, form: Form) -> list[Any]:
    if form.merged:
        return [literal(0).label("deleted"), func.count().label("different")]
    # A bitmap is several times quicker than a set, one of 16 bits quicker still, and no bucket has
    # more than 2**16 steps. Two candles within one step, or steps whose last 16 bits are equal,
    # count as one, which costs a second look and no more.
    step = func.intDiv(func.toUnixTimestamp64Milli(c.timestamp), source.step_ms or DAY_MS)
    different = func.groupBitmap(func.toUInt16(step)).label("different")
    return [func.max(c.is_deleted).label("deleted"), different]


def _names(c: Any) -> tuple[Any, Any]:
    return c.symbol, c.exchange


def _labelled(columns: Iterable[Any]) -> list[Any]:
    return [each.label(each.key) for each in columns]
