"""Behind which timestamp of a series nothing is stored, so that what comes there replaces nothing.

In the embedded store this process remembers it: the log of its statements tells of all that is
written. A server is asked each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping

from sqlalchemy import Table

from jts_storage._runtime.forks import tell_children
from jts_storage.clickhouse import history_statements as statements
from jts_storage.clickhouse.candle_rows import KEY
from jts_storage.clickhouse.change_log import Spans
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.panel_statements import SETTINGS
from jts_storage.domain.candle import SeriesKey


class StoredEnds:
    """The last timestamps of series, or later ones. Safe to share among threads.

    :param is_logged: whether the log of this process tells of all that is written to the table.
    """

    def __init__(
        self, manager: ClickHouseManager, candles: Table, is_logged: Callable[[], bool]
    ) -> None:
        self._manager, self._candles, self._is_logged = manager, candles, is_logged
        self.begin_in_child()
        tell_children(self)

    def begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[SeriesKey, int] = {}
        self._seen = 0  # of the log

    def reached(self, spans: Spans) -> list[SeriesKey]:
        """The series of which something may be stored at or behind the beginning of a span."""
        firsts, ends = [first for first, _ in spans.values()], self._known(spans)
        unknown = {
            key: first for key, first, end in zip(spans, firsts, ends, strict=True) if end is None
        }
        if unknown:
            begun = self._manager.changes.number
            found = self._ask(unknown)
            self._remember(found, begun)
            ends = [found.get(key, end) for key, end in zip(spans, ends, strict=True)]
        each = zip(spans, firsts, ends, strict=True)
        return [key for key, first, end in each if end is not None and first <= end]

    def _known(self, keys: Iterable[SeriesKey]) -> list[int | None]:
        """The end of each series, None where it is not known."""
        is_logged = self._is_logged()
        with self._lock:
            if is_logged:
                self._catch_up()
            else:
                self._ends = {}
            return list(map(self._ends.get, keys))

    def _remember(self, found: Mapping[SeriesKey, int], begun: int) -> None:
        if not self._is_logged():
            return
        _, changes = self._manager.changes.since(begun, under_way=True)
        spans = [change.spans for change in changes if change.touches(self._candles.name)]
        if any(each is None for each in spans):
            return
        # What was written during the question may not be in the answer.
        written = {key for each in spans for key in each or ()}
        with self._lock:
            self._catch_up()
            for key, end in found.items():
                if key not in written:
                    self._ends.setdefault(key, end)

    def _ask(self, firsts: Mapping[SeriesKey, int]) -> dict[SeriesKey, int]:
        names: dict[str, list[str]] = {f"{name}s": [] for name in KEY}
        for key in firsts:
            for name, value in zip(KEY, key.sort_key, strict=True):
                names[f"{name}s"].append(value)
        bound = {name: sorted(set(values)) for name, values in names.items()}
        query = statements.select_ends(self._candles)
        rows = self._manager.execute(
            query, bound | {"first": min(firsts.values())}, settings=SETTINGS
        )
        last = {(s, e, t): end for s, e, t, end in rows}
        return {
            key: max(last.get(key.sort_key, first - 1), first - 1) for key, first in firsts.items()
        }

    def _catch_up(self) -> None:
        if self._seen == self._manager.changes.number:
            return
        self._seen, changes = self._manager.changes.since(self._seen, under_way=True)
        once = {id(change): change for change in changes}  # told of as it begins and as it ends
        for change in once.values():
            if not change.touches(self._candles.name):
                continue
            for key, (_, last) in (change.spans or {}).items():
                end = self._ends.get(key)
                if end is not None and end < last:
                    self._ends[key] = last
            if change.spans is None:
                self._ends = {}
