"""Erasing what candles were, so that their values are on the disk no longer.

A deletion of rows that only marks them would not do, and neither would the engine's word: after
each step it is asked whether such rows are there still.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from jts_storage.clickhouse import history_statements
from jts_storage.clickhouse import purge_statements as statements
from jts_storage.clickhouse.change_log import Change, touching
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.statements import names_of
from jts_storage.clickhouse.tables import Tables, holding
from jts_storage.domain.candle import SeriesKey
from jts_storage.errors import StorageError

_KEYS_AT_ONCE: Final = 1_000
_ATTEMPTS: Final = 5
_MUTATING: Final[Mapping[str, Any]] = {"mutations_sync": 2}
"""Until all replicas have done it."""
_MERGING: Final[Mapping[str, Any]] = {"optimize_throw_if_noop": 1, "alter_sync": 2}


class HistoryPurge:
    """Erases former candles of one store; blocking. Doing it again finishes what was begun."""

    def __init__(self, manager: ClickHouseManager, tables: Tables) -> None:
        self._manager, self._tables = manager, tables

    def unknown(self, keys: Sequence[SeriesKey]) -> list[SeriesKey]:
        """Those of which there neither is nor was any candle."""
        history, candles = self._tables.history, self._tables.candles
        is_kept = self._manager.execute(history_statements.count_tables(history))[0][0]
        known: set[tuple[str, ...]] = set()
        for first in range(0, len(keys), _KEYS_AT_ONCE):
            bound = {"keys": names_of(keys[first : first + _KEYS_AT_ONCE])}
            for table in (candles, history) if is_kept else (candles,):
                rows = self._manager.execute(statements.select_known(table), bound)
                known.update(tuple(map(str, row)) for row in rows)
        return [key for key in keys if names_of([key])[0] not in known]

    def erase(self, keys: Sequence[SeriesKey] | None, before: int) -> int:
        """Erase what a version up to `before` ended; return how many former candles there were.

        :param keys: of the series; all there are if None.
        :raises StorageError: something of it is still there.
        """
        history = self._tables.history
        if not self._manager.execute(history_statements.count_tables(history))[0][0]:
            return 0
        rows = sum(self._erase_former(bound) for bound in _bounds(keys, before))
        self._erase_masked()
        bounds = list(_bounds(keys, before))
        self._merge(bounds)
        for bound in bounds:
            self._blank_deleted(bound)
        self._erase_masked()
        return rows

    def _erase_former(self, bound: Mapping[str, Any]) -> int:
        history, of_all = self._tables.history, "keys" not in bound
        rows = self._count(statements.count_former(history, of_all=of_all), bound)
        erase = statements.erase_former(history, self._named(history.name), of_all=of_all)
        count = statements.count_former_rows(history, of_all=of_all)
        self._until_gone(erase, count, [bound], history.name)
        return rows

    def _erase_masked(self) -> None:
        """Take out what was deleted by marking it, as `history_days` does."""
        for table in (self._tables.history, self._tables.candles):
            # Of a cluster only one host would tell.
            is_asked = self._manager.config.cluster is None
            if not is_asked or self._count(statements.count_masked(table), {}):
                with touching(Change(table.name)):
                    erase = statements.erase_masked(self._named(table.name))
                    self._manager.execute(erase, settings=_MUTATING, idempotent=True)

    def _merge(self, bounds: Sequence[Mapping[str, Any]]) -> None:
        candles = self._tables.candles
        count = statements.count_superseded(candles, of_all="keys" not in bounds[0])
        merge = statements.merge(self._named(candles.name))
        self._until_gone(merge, count, bounds, candles.name)

    def _blank_deleted(self, bound: Mapping[str, Any]) -> None:
        candles, of_all = self._tables.candles, "keys" not in bound
        blank = statements.blank_deleted(candles, self._named(candles.name), of_all=of_all)
        count = statements.count_deleted(candles, of_all=of_all)
        self._until_gone(blank, count, [bound], candles.name)

    def _until_gone(
        self, erase: str, count: str, bounds: Sequence[Mapping[str, Any]], name: str
    ) -> None:
        """
        :param count: asks how many of the rows are there still.
        """
        is_mutation = erase.startswith("ALTER")
        settings = _MUTATING if is_mutation else _MERGING
        for _ in range(_ATTEMPTS):
            left = sum(self._count(count, bound) for bound in bounds)
            if not left:
                return
            with touching(Change(name)):
                given = bounds[0] if is_mutation else None
                self._manager.execute(erase, given, settings=settings, idempotent=True)
        left = sum(self._count(count, bound) for bound in bounds)
        if left:
            raise StorageError(
                f"Of what was to be erased from {name}, {left} rows are still there.",
                remedy="See in system.mutations and system.merges what holds ClickHouse up, then"
                " purge again.",
            )

    def _count(self, query: str, bound: Mapping[str, Any]) -> int:
        return int(self._manager.execute(query, bound, settings=statements.IN_ORDER)[0][0])

    def _named(self, name: str) -> str:
        return holding(name, self._manager.config.cluster)


def _bounds(keys: Sequence[SeriesKey] | None, before: int) -> Iterator[dict[str, Any]]:
    """The parameters of statements on all series, or on some of them at once."""
    if keys is None:
        yield {"before": before}
        return
    for first in range(0, len(keys), _KEYS_AT_ONCE):
        yield {"before": before, "keys": names_of(keys[first : first + _KEYS_AT_ONCE])}
