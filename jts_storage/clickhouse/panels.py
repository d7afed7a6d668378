"""Reading many series at once from ClickHouse: one statement, whole columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from jts_storage.domain.columns import PRICES, Columns
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
            return _panel(asked, {})
        found = self._rows(asked, merged=False)
        if not _counts(found, is_cut=asked.rows is not None):
            found = self._rows(asked, merged=True)
        return _panel(asked, found)

    def sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        """How many rows each series has, duplicates and deleted ones among them."""
        query = _select_sizes(self._candles, _Form.of(asked, merged=False))
        found = self._manager.execute(query, _bound(asked))
        return {SeriesKey(s, asked.timeframe, e): int(rows) for s, e, rows in found}

    def _rows(self, asked: PanelQuery, *, merged: bool) -> dict[str, Array]:
        form = _Form.of(asked, merged=merged)
        query, types = _select(self._candles, form), stored_types(self._candles)
        found = self._manager.read_columns(query, _bound(asked), stored=types)
        return {name: column[::-1] for name, column in found.items()} if form.is_cut else found


@dataclass(frozen=True, slots=True)
class _Form:
    """What a statement looks like, whatever the values of its parameters are."""

    merged: bool
    has_keys: bool
    has_symbols: bool
    has_exchange: bool
    is_cut: bool
    fields: tuple[str, ...]

    @classmethod
    def of(cls, asked: PanelQuery, *, merged: bool) -> _Form:
        return cls(
            merged,
            has_keys=asked.keys is not None,
            has_symbols=asked.symbols is not None,
            has_exchange=asked.exchange is not None,
            is_cut=asked.rows is not None,
            fields=asked.fields,
        )


def _bound(asked: PanelQuery) -> dict[str, Any]:
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
def _select_sizes(candles: Table, form: _Form) -> str:
    names = (candles.c.symbol, candles.c.exchange)
    statement = select(*names, func.count()).where(*_wanted(candles.c, form))
    return text_of(statement.group_by(*names).order_by(*names))


@cache
def _select(candles: Table, form: _Form) -> str:
    merged = form.merged
    rows = Final(candles) if merged else candles
    c = rows.c
    deleted = literal(0) if merged else c.is_deleted
    names = (c.symbol, c.exchange)
    statement: Select[Any] = select(
        *as_stored(c, form.fields), deleted.label("deleted"), _series(c).label("series"), *names
    ).where(*_wanted(c, form))
    if merged:
        statement = statement.where(not_(c.is_deleted))
    # As the rows lie, so that the engine need not sort, though there is but one timeframe.
    order = (*names, c.timeframe, c.timestamp)
    if not form.is_cut:
        return text_of(statement.order_by(*order))
    # Backwards, so that the last rows of a series are the first; turned round when they are here.
    backwards = statement.order_by(*(each.desc() for each in order))
    return text_of(backwards.suffix_with(LimitBy(*names, rows=bindparam("rows"))))


def _series(c: Any) -> Any:
    """A number that changes where the next series begins."""
    return func.cityHash64(c.symbol, c.exchange)


def _wanted(c: Any, form: _Form) -> list[Any]:
    wanted = [c.timeframe == bindparam("timeframe"), is_in_range(c)]
    if form.has_keys:
        wanted.append(is_among_keys(c))
    if form.has_symbols:
        wanted.append(c.symbol.op("IN", is_comparison=True)(bindparam("symbols")))
    if form.has_exchange:
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


def _panel(asked: PanelQuery, found: Mapping[str, Array]) -> CandlePanel:
    timeframe, fields = asked.timeframe, asked.fields
    if not found:
        return CandlePanel.empty(timeframe).only(*fields)
    if found["deleted"].any():
        kept = found["deleted"] == 0
        found = {name: column[kept] for name, column in found.items()}
    series = found["series"]
    starts = np.flatnonzero(np.append(True, series[1:] != series[:-1])[: len(series)])
    symbols, exchanges = found["symbol"][starts], found["exchange"][starts]
    keys = [SeriesKey(s, timeframe, e) for s, e in zip(symbols, exchanges, strict=True)]
    offsets = np.append(starts, len(series)).astype(np.int64)
    nothing = np.zeros(len(series), np.int64)
    read = [found.get(f"{price}_", nothing) for price in PRICES]
    volume = found.get("volume", nothing).view(np.uint64)
    columns = Columns.of(found["ms"].view(np.int64), read, volume)
    in_rows = columns.each(np.ascontiguousarray)
    return CandlePanel.trusted(timeframe, keys, offsets, in_rows, fields)
