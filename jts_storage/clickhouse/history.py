"""What candles were: kept as they are replaced or deleted, in the same commit and before it.

A write that comes behind all that is stored replaces nothing and asks nothing. Any other reads
what is stored in its range, and keeps the rows whose values it changes, with the version that they
have had since then and the one that ends them. A row that is written again with the same values is
not kept: the new row says since when it has had them.

Whoever writes has waited for the earlier commits of its series, so what it reads is what it
replaces. A commit that another process finishes late finds later rows instead: its own rows, never
the latest, are then the ones to keep. Doing it again keeps the same rows once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from sqlalchemy import Table

from jts_storage.clickhouse import history_statements as statements
from jts_storage.clickhouse.candle_mappers import rows_to_columns
from jts_storage.clickhouse.candle_rows import KEY, CandleSource
from jts_storage.clickhouse.change_log import Change, touching
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.panel_statements import SETTINGS
from jts_storage.clickhouse.statements import AS_THEY_ARE, parameters, stored_types, write_settings
from jts_storage.clickhouse.stored_ends import StoredEnds
from jts_storage.clickhouse.stored_rows import (
    Stored,
    as_slice,
    columns_of,
    latest_of,
    numbers_of,
    places,
)
from jts_storage.clickhouse.tables import holding
from jts_storage.domain.calendar import DAY_MS
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.checks import FIRST_MS
from jts_storage.domain.columns import Columns, Int64Array, UInt64Array
from jts_storage.domain.rows import SeriesRows

Span: TypeAlias = tuple[int, int, int]
"""The number of a series, and the first and last millisecond that are wanted of it."""

_ALIKE = 4  # so many times the longest of them, and a day, is what one question spans
_NEARLY = 10  # fewer than one in so many is new
_DELETING = {"lightweight_deletes_sync": 2}


class Kept(NamedTuple):
    """What was found of what is about to be written.

    :param since: the version since which each row has had its values, 0 where that is its own;
        None if that is so for all.
    :param is_append: whether each row comes behind all that is stored of its series.
    :param new: how many rows stand where nothing is stored; None if nobody looked.
    """

    since: UInt64Array | None = None
    is_append: bool = False
    new: int | None = None

    def compete(self, rows: int) -> bool:
        """Whether nearly all that is about to be written, so many rows, replaces stored ones."""
        return self.new is not None and self.new * _NEARLY < rows


class Look(NamedTuple):
    """What is stored where rows of one series are about to be written.

    :param reached: the series, if anything may be stored at or behind their beginning.
    """

    reached: list[SeriesKey]
    stored: Stored

    @property
    def version(self) -> int:
        """The highest there, 0 if nothing is."""
        return int(self.stored.version.max(initial=0))


class _Late(NamedTuple):
    """Rows that come after later ones: which they are, and the version that each ended with."""

    rows: Int64Array
    ends: UInt64Array


class _Former(NamedTuple):
    """Former rows, by series and time in one number."""

    place: Int64Array
    columns: Columns
    since: UInt64Array
    ended: UInt64Array


class CandleHistory:
    """Keeps what is replaced in one table of candles.

    :param ends: behind which nothing is stored.
    """

    def __init__(
        self, manager: ClickHouseManager, candles: Table, history: Table, ends: StoredEnds
    ) -> None:
        self._manager, self._candles, self._history = manager, candles, history
        self._ends = ends
        self._is_there = False

    @property
    def is_there(self) -> bool:
        """Whether the table of former candles exists: an older schema has none."""
        if not self._is_there:
            query = statements.count_tables(self._history)
            self._is_there = bool(self._manager.execute(query)[0][0])
        return self._is_there

    def look(self, rows: SeriesRows) -> Look:
        """Look for what rows of one series are about to replace."""
        spans = rows.spans
        reached = self._ends.reached(spans)
        return Look(reached, self._stored({key: (0, *spans[key]) for key in reached}))

    def keep(self, rows: SeriesRows, version: int, source: str, look: Look | None = None) -> Kept:
        """Keep what these rows are about to replace under `version`.

        :param look: what was found there, if anybody has looked.
        """
        spans = rows.spans
        reached = self._ends.reached(spans) if look is None else look.reached
        if not reached or not self.is_there:
            return Kept(is_append=not reached)
        since: UInt64Array | None = None
        new = rows.rows
        numbers = {key: number for number, key in enumerate(rows.keys)}
        for keys in _alike(reached, spans):
            wanted = {key: (numbers[key], *spans[key]) for key in keys}
            stored = self._stored(wanted) if look is None else look.stored
            if not len(stored.place):
                continue
            if since is None:
                since = np.zeros(rows.rows, np.uint64)
            found, late = self._keep(rows, stored, since, version, source)
            new -= found
            if len(late.rows):
                self._keep_late(rows, wanted, late, version)
        return Kept(since, new=None if since is None else new)

    def keep_deleted(
        self, origin: CandleSource, key: SeriesKey, first: int, last: int, version: int, source: str
    ) -> None:
        """Keep what is about to be deleted under `version`: it counts until the one behind it."""
        if not self.is_there:
            return
        with touching(Change(self._history.name, {key: (first, last)})):
            self._manager.execute(
                statements.keep_deleted(origin, self._history),
                parameters(key, first, last) | {"version": version, "source": source},
                settings=write_settings,
                idempotent=True,
            )

    def forget(self, before: int, snapshots: Sequence[int]) -> int:
        """Delete what was replaced before a version and no snapshot shows; return how much."""
        name = holding(self._history.name, self._manager.config.cluster)
        count, delete = statements.forget(self._history, name, snapshots)
        bound = {"before": before}
        rows = int(self._manager.execute(count, bound)[0][0])
        if rows:
            with touching(Change(self._history.name)):
                self._manager.execute(delete, bound, settings=_DELETING, idempotent=True)
        return rows

    def is_untouched(self, key: SeriesKey) -> bool:
        """Whether nothing of a series is stored that has to be kept."""
        return not self.is_there or not self._ends.reached({key: (FIRST_MS, FIRST_MS)})

    def _keep(
        self, rows: SeriesRows, stored: Stored, since: UInt64Array, version: int, source: str
    ) -> tuple[int, _Late]:
        """Keep what is replaced; return how many rows replace any, and which come late."""
        number = rows.number
        ours, at = _matched(places(number, rows.columns.timestamp), stored.place)
        new, old = rows.columns.take(as_slice(ours)), stored.columns.take(as_slice(at))
        begins, is_deleted = stored.begins[as_slice(at)], stored.is_deleted[as_slice(at)]
        same = ~is_deleted
        for mine, theirs in zip(new[1:], old[1:], strict=True):
            same &= mine == theirs
        is_later = stored.version[as_slice(at)] > version
        stays = same & ~is_later
        since[as_slice(ours)] = np.where(stays, begins, 0)
        replaced = as_slice(np.flatnonzero(~(same | is_later | is_deleted)))
        self._insert(
            _part(rows, number[ours[replaced]], old.take(replaced)),
            since=begins[replaced],
            ended=version,
            source=source,
        )
        # Where the later row has had its values from before, these never counted.
        is_later &= begins > version
        # A deletion counts from the version behind its own.
        ended = begins + is_deleted.astype(np.uint64)
        return len(ours), _Late(ours[is_later], ended[is_later])

    def _keep_late(
        self, rows: SeriesRows, wanted: Mapping[SeriesKey, Span], late: _Late, version: int
    ) -> None:
        """Keep rows that came when later ones stood in their place already.

        Each counted until the first of what came after it: a row that is kept, the end of one, or
        the latest row. One that is kept already is of a commit that is applied again.
        """
        former, ends = self._former(wanted, version), late.ends.copy()
        is_kept = np.zeros(len(ends), np.bool_)
        if former is not None:
            place = places(rows.number, rows.columns.timestamp)[late.rows]
            at = np.minimum(np.searchsorted(place, former.place), len(place) - 1)
            of_late = np.flatnonzero(place[at] == former.place)
            at = at[of_late]
            for event in (former.since[of_late], former.ended[of_late]):
                is_after = event > version
                np.minimum.at(ends, at[is_after], event[is_after])
            covers = former.since[of_late] <= version
            for ours, theirs in zip(rows.columns[1:], former.columns[1:], strict=True):
                covers &= ours[late.rows[at]] == theirs[of_late]
            is_kept[at[covers]] = True
        chosen = late.rows[~is_kept]
        part = _part(rows, rows.number[chosen], rows.columns.take(chosen))
        self._insert(part, since=version, ended=ends[~is_kept], source="")

    def _insert(self, rows: SeriesRows, **more: Any) -> None:
        if rows.rows:
            self._manager.insert_columns(
                self._history.name,
                rows_to_columns(self._history, rows, **more),
                settings=partial(write_settings, AS_THEY_ARE),
                idempotent=True,
            )

    def _stored(self, wanted: Mapping[SeriesKey, Span]) -> Stored:
        """What is stored of some series."""
        if not wanted:
            return latest_of(0, {})
        found = self._read(statements.select_stored(self._candles, one=len(wanted) == 1), wanted)
        return latest_of(_numbers(found, wanted), found)

    def _former(self, wanted: Mapping[SeriesKey, Span], version: int) -> _Former | None:
        """What is kept of some series and ended after a version."""
        query = statements.select_kept(self._history, one=len(wanted) == 1)
        found = self._read(query, wanted, version=version)
        if not found:
            return None
        columns = columns_of(found)
        place = places(_numbers(found, wanted), columns.timestamp)
        return _Former(place, columns, found["since"], found["ended"])

    def _read(self, query: str, wanted: Mapping[SeriesKey, Span], **more: Any) -> Mapping[str, Any]:
        keys, values = list(wanted), wanted.values()
        bound = parameters(keys[0], min(a for _, a, _ in values), max(b for _, _, b in values))
        if len(keys) > 1:
            names = zip(*(key.sort_key for key in keys), strict=True)
            bound |= {f"{name}s": sorted(set(each)) for name, each in zip(KEY, names, strict=True)}
        found: Mapping[str, Any] = self._manager.read_columns(
            query,
            bound | more,
            stored=stored_types(self._candles),
            settings=SETTINGS,
            dictionaries=True,
        )
        return found


def _matched(place: Int64Array, stored: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Which rows stand where others are stored, and beside which of those."""
    if np.array_equal(place, stored):
        every = np.arange(len(place))
        return every, every
    at = np.minimum(np.searchsorted(stored, place), len(stored) - 1)
    ours = np.flatnonzero(stored[at] == place)
    return ours, at[ours]


def _numbers(found: Mapping[str, Any], wanted: Mapping[SeriesKey, Span]) -> Int64Array | int:
    """The number of each row's series, or of all."""
    if len(wanted) == 1:
        return next(iter(wanted.values()))[0]
    return numbers_of(found, {key.sort_key: of[0] for key, of in wanted.items()}) if found else 0


def _alike(keys: Sequence[SeriesKey], spans: Mapping[SeriesKey, Any]) -> Iterator[list[SeriesKey]]:
    """Series whose ranges are near each other, so that one question reads little between them."""
    together: list[SeriesKey] = []
    first = last = longest = 0
    for key in sorted(keys, key=spans.__getitem__):
        begin, end = spans[key]
        longest = max(longest, end - begin)
        if together and max(last, end) - first > _ALIKE * longest + DAY_MS:
            yield together
            together = []
        if not together:
            first, last, longest = begin, end, end - begin
        together.append(key)
        last = max(last, end)
    yield together


def _part(rows: SeriesRows, number: Int64Array, columns: Columns) -> SeriesRows:
    """Rows of the same series, by series and time."""
    offsets = np.searchsorted(number, np.arange(len(rows.keys) + 1))
    return SeriesRows(rows.keys, offsets, columns)
