"""What is known of many candles as of a version, computed by ClickHouse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from jts_storage.clickhouse import data_set_statements as statements
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.panel_statements import IN_ORDER, SETTINGS
from jts_storage.clickhouse.tables import Tables
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.data_sets import NOTHING, WRAP, DataSet, Figures, SeriesDifference
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.errors import Conflict

_ATTEMPTS = 5
_FIGURES = SETTINGS | IN_ORDER
_PLACES = SETTINGS | statements.ON_EACH_SHARD

Build = Callable[..., str]
FiguresOf = dict[SeriesKey, Figures]


class ClickHouseDataSets:
    """Asks one table of candles and its history; blocking."""

    def __init__(self, manager: ClickHouseManager, tables: Tables) -> None:
        self._manager = manager
        self._candles, self._history = tables.candles, tables.history

    def rows(self, asked: PanelQuery, version: int) -> dict[SeriesKey, int]:
        found = self._figures(statements.select_rows, asked, version)
        return {key: figures.rows for key, figures in found.items() if figures.rows}

    def figures(self, data_set: DataSet) -> FiguresOf:
        return self._figures(statements.select_figures, data_set.asked, data_set.commit.version)

    def differing(self, data_set: DataSet) -> list[SeriesDifference]:
        asked, version = data_set.asked, data_set.commit.version
        if _is_empty(asked):
            return []
        query = statements.select_differing(self._candles, self._history, by=_by(asked))
        found = self._execute(query, asked, version, _PLACES)
        differing = (
            SeriesDifference(SeriesKey(symbol, asked.timeframe, exchange), *map(int, rows))
            for symbol, exchange, *rows in found
        )
        of_it = (each for each in differing if asked.is_of(each.key))
        return sorted(of_it, key=lambda each: each.key.sort_key)

    def _figures(self, build: Build, asked: PanelQuery, version: int) -> FiguresOf:
        """What still counts, and what counted then.

        What is corrected meanwhile would be counted as both: so what is former is asked twice.
        """
        if _is_empty(asked):
            return {}
        former = self._former(asked, version)
        for _ in range(_ATTEMPTS):
            found = self._present(build, asked, version)
            before, former = former, self._former(asked, version)
            if former == before:
                for key, figures in former.items():
                    found[key] = found.get(key, NOTHING).joined(figures)
                return {key: figures for key, figures in found.items() if asked.is_of(key)}
        raise Conflict(
            f"Candles of {asked.timeframe.value} were corrected while they were counted,"
            f" {_ATTEMPTS} times.",
            remedy="Repeat it when the import is done.",
        )

    def _present(self, build: Build, asked: PanelQuery, version: int) -> FiguresOf:
        """Rows as they lie come quicker than merged ones: these are asked for where series have
        several rows of a timestamp.
        """
        found = self._of_rows(build, asked, version, merged=False)
        right = [each for each in found if each[2] == each[3]]
        if len(right) == len(found):
            return _by_key(asked, right)
        left = (each for each in found if each[2] != each[3])
        keys = tuple(SeriesKey(each[0], asked.timeframe, each[1]) for each in left)
        among = replace(asked, keys=keys, symbols=None, exchange=None)
        merged = _by_key(among, self._of_rows(build, among, version, merged=True))
        return merged | _by_key(asked, right)

    def _of_rows(self, build: Build, asked: PanelQuery, version: int, *, merged: bool) -> list[Any]:
        query = build(self._candles, merged=merged, by=_by(asked))
        return list(self._execute(query, asked, version, _FIGURES))

    def _former(self, asked: PanelQuery, version: int) -> FiguresOf:
        # Where nothing is kept, no version of all rows need be looked at.
        kept = statements.count_former(self._history, by=_by(asked))
        if not self._execute(kept, asked, version, SETTINGS)[0][0]:
            return {}
        query = statements.select_former(self._candles, self._history, by=_by(asked))
        found = self._execute(query, asked, version, _PLACES)
        return _by_key(
            asked, ((symbol, exchange, 0, 0, *each) for symbol, exchange, *each in found)
        )

    def _execute(
        self, query: str, asked: PanelQuery, version: int, settings: Mapping[str, Any]
    ) -> Any:
        return self._manager.execute(query, _bound(asked) | {"as_of": version}, settings=settings)


def _is_empty(asked: PanelQuery) -> bool:
    symbols: list[str] | None = _narrowed(asked)["symbols"]
    return symbols == []


def _by_key(asked: PanelQuery, found: Iterable[Any]) -> FiguresOf:
    return {
        SeriesKey(symbol, asked.timeframe, exchange): _as_figures(*figures)
        for symbol, exchange, _, _, *figures in found
    }


def _as_figures(rows: int, total: int = 0, mixed: int = 0) -> Figures:
    return Figures(int(rows), int(total) % WRAP, int(mixed) % WRAP)


def _by(asked: PanelQuery) -> tuple[str, ...]:
    return tuple(name for name, value in _narrowed(asked).items() if value is not None)


def _narrowed(asked: PanelQuery) -> dict[str, Any]:
    """Keys by their symbols and the exchange of all: the engine looks up names sooner than keys.

    Other series that have both are left out when they are here.
    """
    symbols, exchange = asked.symbols, asked.exchange
    if asked.keys is not None:
        named = frozenset(key.symbol for key in asked.keys)
        symbols = named if symbols is None else named & symbols
        exchanges = {key.exchange for key in asked.keys}
        if exchange is None and len(exchanges) == 1:
            exchange = exchanges.pop()
    return {"symbols": None if symbols is None else sorted(symbols), "exchange": exchange}


def _bound(asked: PanelQuery) -> dict[str, Any]:
    ends = {"timeframe": asked.timeframe.value, "first": asked.first, "last": asked.last}
    return ends | _narrowed(asked)
