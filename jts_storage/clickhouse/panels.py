"""Reading many series at once from ClickHouse: one statement, whole columns."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import Select, Table, bindparam, func, literal, not_, select

from jts_storage.clickhouse.blocks import Array
from jts_storage.clickhouse.candle_rows import is_among_keys, is_in_range
from jts_storage.clickhouse.constructs import Final, LimitBy, text_of
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.statements import as_stored, names_of, stored_types
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Columns
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery


class PanelReader:
    """Reads panels from a table whose rows carry versions."""

    def __init__(self, manager: ClickHouseManager, candles: Table) -> None:
        self._manager = manager
        self._candles = candles

    def read(self, asked: PanelQuery) -> CandlePanel:
        """Rows as they lie come several times quicker than merged ones, and show whether any
        competes with another; where one does, the engine is asked to merge them.
        """
        if asked.keys == ():
            return CandlePanel.empty(asked.timeframe)
        found = self._rows(asked, merged=False)
        if not _counts(found, is_cut=asked.rows is not None):
            found = self._rows(asked, merged=True)
        return _panel(asked.timeframe, found)

    def _rows(self, asked: PanelQuery, *, merged: bool) -> dict[str, Array]:
        bound: dict[str, Any] = {
            "timeframe": asked.timeframe.value,
            "first": asked.first,
            "last": asked.last,
            "keys": names_of(asked.keys or ()),
            "exchange": asked.exchange,
            "rows": asked.rows,
        }
        given = (asked.keys is not None, asked.exchange is not None)
        is_cut = asked.rows is not None
        query = _select(self._candles, merged, *given, is_cut=is_cut)
        types = stored_types(self._candles)
        found = self._manager.read_columns(query, bound, stored=types)
        return {name: column[::-1] for name, column in found.items()} if is_cut else found


@cache
def _select(
    candles: Table, merged: bool, has_keys: bool, has_exchange: bool, *, is_cut: bool
) -> str:
    rows = Final(candles) if merged else candles
    c = rows.c
    deleted = literal(0) if merged else c.is_deleted
    names = (c.symbol, c.exchange)
    statement: Select[Any] = select(
        *as_stored(c), deleted.label("deleted"), _series(c).label("series"), *names
    ).where(*_wanted(c, has_keys, has_exchange))
    if merged:
        statement = statement.where(not_(c.is_deleted))
    # As the rows lie, so that the engine need not sort, though there is but one timeframe.
    order = (*names, c.timeframe, c.timestamp)
    if not is_cut:
        return text_of(statement.order_by(*order))
    # Backwards, so that the last rows of a series are the first; turned round when they are here.
    backwards = statement.order_by(*(each.desc() for each in order))
    return text_of(backwards.suffix_with(LimitBy(*names, rows=bindparam("rows"))))


def _series(c: Any) -> Any:
    """A number that changes where the next series begins."""
    return func.cityHash64(c.symbol, c.exchange)


def _wanted(c: Any, has_keys: bool, has_exchange: bool) -> list[Any]:
    wanted = [c.timeframe == bindparam("timeframe"), is_in_range(c)]
    if has_keys:
        wanted.append(is_among_keys(c))
    if has_exchange:
        wanted.append(c.exchange == bindparam("exchange"))
    return wanted


def _counts(found: Mapping[str, Array], *, is_cut: bool) -> bool:
    """Whether each row is the only one of its timestamp, so that nothing has to be merged.

    :param is_cut: whether only the last rows of each series are here: then a deleted one stands in
        the place of one that was left out.
    """
    if not found:
        return True
    series, stamps = found["series"], found["ms"]
    repeated = (series[1:] == series[:-1]) & (stamps[1:] == stamps[:-1])
    return not (repeated.any() or (is_cut and found["deleted"].any()))


def _panel(timeframe: Timeframe, found: Mapping[str, Array]) -> CandlePanel:
    if not found:
        return CandlePanel.empty(timeframe)
    if found["deleted"].any():
        kept = found["deleted"] == 0
        found = {name: column[kept] for name, column in found.items()}
    series = found["series"]
    starts = np.flatnonzero(np.append(True, series[1:] != series[:-1])[: len(series)])
    symbols, exchanges = found["symbol"][starts], found["exchange"][starts]
    keys = [SeriesKey(s, timeframe, e) for s, e in zip(symbols, exchanges, strict=True)]
    timestamp, opening, high, low, close, volume = list(found.values())[:6]
    prices = (opening, high, low, close)
    columns = Columns.of(timestamp.view(np.int64), prices, volume.view(np.uint64))
    offsets = np.append(starts, len(series)).astype(np.int64)
    return CandlePanel.trusted(timeframe, keys, offsets, columns.each(np.ascontiguousarray))
