"""Reading many series at once from ClickHouse: one statement, whole columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from sqlalchemy import Table

from jts_storage.clickhouse import panel_statements as statements
from jts_storage.clickhouse.blocks import Array, DictionaryColumn
from jts_storage.clickhouse.candle_mappers import may_overflow, readable_keys
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.panel_statements import Form, bound
from jts_storage.clickhouse.past_rows import counted
from jts_storage.clickhouse.statements import (
    RESAMPLE_SETTINGS,
    STREAM_SETTINGS,
    stored_types,
)
from jts_storage.clickhouse.stored_rows import numbers_of, places
from jts_storage.clickhouse.unmerged import compete, without_deleted
from jts_storage.domain.calendar import DAY_MS
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import from_ms
from jts_storage.domain.columns import PRICES, Columns, series_of_rows
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.errors import InvalidData

_MOST_TIMES = 100
"""Rows of so many times are quicker to find than to look at all rows."""
_NAMES = {"bucket": "ms", "volume_": "volume"}
"""What is made of the rows of a coarser candle may not be called as its column is."""
_NAMES_OF_SERIES = ("symbol", "exchange")
"""What tells series of one timeframe apart."""


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
        asked = _by_symbols(asked)
        latest = self._latest(asked) if asked.rows == 1 else None
        if latest is not None:
            return latest
        # One row more than wanted shows whether the first of them competes with one behind it.
        more = asked if asked.rows is None else replace(asked, rows=asked.rows + 1)
        found = self._rows(more, merged=False)
        if not _counts(found, is_cut=asked.rows is not None):
            found = self._rows(asked, merged=True)
        panel = _panel(asked, found)
        return panel if asked.rows is None else panel.tail(asked.rows)

    def read_as_of(self, asked: PanelQuery, history: Table, version: int) -> CandlePanel:
        """What `read` would have given when `version` was the latest."""
        if asked.keys == ():
            return _panel(asked, {})
        asked = _by_symbols(asked)
        found = None if asked.rows is not None else self._counted(asked, history, version)
        if found is None:
            found = self._rows(asked, history=history, as_of=version)
        return _panel(asked, found)

    def _counted(
        self, asked: PanelQuery, history: Table, version: int
    ) -> Mapping[str, Array] | None:
        """Rows as they lie with the former ones among them; None if the engine has to tell.

        Those that lie there have to be read first: what they replaced is kept before they are.
        """
        form = Form.of(asked, merged=False, is_timed=True)
        params = bound(asked) | {"as_of": version, "times": []}
        lying = self._columns(statements.select_rows(self._candles, form), params)
        former = self._columns(statements.select_former(history, form), params)
        if not lying or not len(lying["ms"]):
            return None if former and len(former["ms"]) else {}
        begins = _begins(lying)
        place = places(np.cumsum(begins) - 1, lying["ms"].view(np.int64))
        if not former or not len(former["ms"]):
            return counted(place, lying, np.zeros(0, np.int64), {})
        starts = np.flatnonzero(begins)
        names = (_texts(lying[name][starts]) for name in _NAMES_OF_SERIES)
        known = {each: n for n, each in enumerate(zip(*names, strict=True))}
        of_former = numbers_of(former, known, _NAMES_OF_SERIES)
        former_place = places(of_former, former["ms"].view(np.int64))
        return counted(place, lying, former_place, former)

    def _latest(self, asked: PanelQuery) -> CandlePanel | None:
        """The last row of each series, found by its time; None if that does not tell.

        Looking through all rows takes several times as long where each series has many. It has to
        be done where series end at many times, and where a last row competes or is deleted.
        """
        if asked.timeframe.step_ms is None or asked.timeframe.step_ms >= DAY_MS:
            return None
        ends = self._manager.execute(
            statements.select_ends(self._candles, Form.of(asked, merged=False)),
            bound(asked),
            settings=statements.SETTINGS | statements.IN_ORDER,
        )
        times = {last for _, _, last in ends}
        if not 0 < len(times) <= _MOST_TIMES:
            return None
        found = self._rows(replace(asked, rows=None), merged=False, times=sorted(times))
        if not found or found["deleted"].any() or compete(found["ms"], _begins(found)):
            return None
        panel = _panel(asked, found).tail(1)
        lasts = zip(panel.keys(), panel.column("timestamp").tolist(), strict=True)
        is_right = {(key.symbol, key.exchange, last) for key, last in lasts} == set(
            map(tuple, ends)
        )
        return panel if is_right else None

    def first_rows(self, asked: PanelQuery, rows: int) -> CandlePanel:
        """The first rows of what is asked, with no more memory than they take."""
        form = Form.of(asked, merged=True, is_first=True)
        found = self._manager.read_columns(
            statements.select_rows(self._candles, form),
            bound(asked) | {"limit": rows},
            stored=stored_types(self._candles),
            settings=statements.SETTINGS | STREAM_SETTINGS,
            dictionaries=True,
        )
        return _panel(asked, found)

    def sizes(self, asked: PanelQuery) -> dict[SeriesKey, int]:
        """How many rows each series has, duplicates and deleted ones among them."""
        return self._sizes(asked)

    def sizes_as_of(self, asked: PanelQuery, history: Table, version: int) -> dict[SeriesKey, int]:
        """As `sizes`, with what was former as of a version; what was replaced counts twice."""
        return self._sizes(asked, history, version)

    def _sizes(
        self, asked: PanelQuery, history: Table | None = None, version: int | None = None
    ) -> dict[SeriesKey, int]:
        query = statements.select_sizes(self._candles, Form.of(asked, merged=False), history)
        params = bound(asked) | {"as_of": version}
        found = self._manager.execute(query, params, settings=statements.SETTINGS)
        timeframe = asked.timeframe.value
        return {
            key: int(rows) for s, e, rows in found for key in readable_keys([(s, e, timeframe)])
        }

    def _rows(
        self,
        asked: PanelQuery,
        *,
        merged: bool = True,
        history: Table | None = None,
        as_of: int | None = None,
        times: Sequence[int] = (),
    ) -> dict[str, Array]:
        """:param times: only of these."""
        form = Form.of(asked, merged=merged, has_times=bool(times))
        found = self._columns(
            statements.select_rows(self._candles, form, history),
            bound(asked) | {"as_of": as_of, "times": [*map(_as_text, times)]},
        )
        return {name: column[::-1] for name, column in found.items()} if form.is_cut else found

    def _columns(self, query: str, params: Mapping[str, Any]) -> dict[str, Array]:
        return self._manager.read_columns(
            query,
            params,
            stored=stored_types(self._candles),
            settings=statements.SETTINGS,
            dictionaries=True,
        )

    def resampled(self, asked: PanelQuery, target: Timeframe, timezone: str) -> CandlePanel | None:
        """The coarser candles; None if a volume may be too large for the engine's sums."""
        becomes = replace(asked, timeframe=target)
        if asked.keys == ():
            return _panel(becomes, {})
        asked = _by_symbols(asked)
        found = self._coarser(asked, target, timezone, merged=False)
        if found and ((found["different"] != found["rows"]).any() or found["deleted"].any()):
            found = self._coarser(asked, target, timezone, merged=True)
        return None if found and may_overflow(found) else _panel(becomes, found)

    def _coarser(
        self, asked: PanelQuery, target: Timeframe, timezone: str, *, merged: bool
    ) -> dict[str, Array]:
        form, is_utc = Form.of(asked, merged=merged), timezone == "UTC"
        query = statements.select_resampled(
            self._candles, form, asked.timeframe, target, is_utc=is_utc
        )
        found = self._manager.read_columns(
            query,
            bound(asked) | {"timezone": timezone},
            stored=stored_types(self._candles),
            settings=statements.SETTINGS | RESAMPLE_SETTINGS,
            dictionaries=True,
        )
        return {_NAMES.get(name, name): column for name, column in found.items()}


def _as_text(ms: int) -> str:
    return from_ms(ms).isoformat(" ", "milliseconds").removesuffix("+00:00")


def _by_symbols(asked: PanelQuery) -> PanelQuery:
    """Ask for keys of one exchange by their symbols.

    The engine looks up the few names of a column of symbols, but a key for each row.
    """
    exchanges = {key.exchange for key in asked.keys or ()}
    is_narrower = asked.symbols is not None or asked.exchange is not None
    if asked.keys is None or len(exchanges) != 1 or is_narrower:
        return asked
    symbols = frozenset(key.symbol for key in asked.keys)
    return replace(asked, keys=None, symbols=symbols, exchange=exchanges.pop())


def _counts(found: Mapping[str, Array], *, is_cut: bool) -> bool:
    """Whether each row is the only one of its timestamp, so that nothing has to be merged.

    :param is_cut: whether only the last rows of each series are here: then a deleted one stands in
        the place of one that was left out.
    """
    if not found:
        return True
    return not (compete(found["ms"], _begins(found)) or (is_cut and found["deleted"].any()))


def _begins(found: Mapping[str, Array]) -> Array:
    """Whether a row is of another series than the one before it."""
    begins = np.zeros(len(found["ms"]), np.bool_)
    begins[:1] = True
    for name in _NAMES_OF_SERIES:
        # Numbers are compared sooner than the texts they mean; of another type there are texts.
        column: Any = found[name]
        each = column.keys if isinstance(column, DictionaryColumn) else column
        begins[1:] |= each[1:] != each[:-1]
    return begins


@lru_cache(maxsize=1 << 16)
def _key(symbol: str, timeframe: str, exchange: str) -> SeriesKey:
    """Made once: who reads a market again has the same 2,500 names, and checking them takes 5 ms.

    By the text of the timeframe: the hash of an enum's member is made in Python.
    """
    return SeriesKey(symbol, Timeframe(timeframe), exchange)


def _texts(column: Any) -> Array:
    return column.to_array() if isinstance(column, DictionaryColumn) else column


def _panel(asked: PanelQuery, found: Mapping[str, Array]) -> CandlePanel:
    timeframe, fields = asked.timeframe, asked.fields
    if not found:
        return CandlePanel.empty(timeframe).only(*fields)
    found = without_deleted(found)
    rows, starts = len(found["ms"]), np.flatnonzero(_begins(found))
    symbols, exchanges = _texts(found["symbol"][starts]), _texts(found["exchange"][starts])
    offsets = np.append(starts, rows).astype(np.int64)
    try:
        keys = [_key(s, timeframe.value, e) for s, e in zip(symbols, exchanges, strict=True)]
    except InvalidData:
        named = zip(symbols, exchanges, strict=True)
        known = [any(readable_keys([(s, e, timeframe.value)])) for s, e in named]
        of_known = np.array(known)[series_of_rows(offsets)]
        return _panel(asked, {name: column[of_known] for name, column in found.items()})
    nothing = np.zeros(rows, np.int64)
    read = [found.get(f"{price}_", nothing) for price in PRICES]
    volume = found.get("volume", nothing).view(np.uint64)
    columns = Columns.of(found["ms"].view(np.int64), read, volume)
    in_rows = columns.each(np.ascontiguousarray)
    return CandlePanel.trusted(timeframe, keys, offsets, in_rows, fields)
