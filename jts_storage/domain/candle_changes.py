"""What a unit of work asks of the candles: of each series what to delete, and what to write."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.columns import Columns, concatenate, in_order
from jts_storage.domain.rows import LooseRows, SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.spilled_rows import SpilledRows

log = logging.getLogger(__name__)

_LOOSE_CANDLES = 3_000
"""So many become columns at once: in some milliseconds, for which an event loop can wait."""

MOST_IN_MEMORY = 1_000_000
"""So many rows stay in memory, 48 MB of them; more wait in temporary files."""

WITHOUT_A_PAUSE = 500
"""A caller who adds without end lets others work after so many candles."""


@dataclass(slots=True)
class SeriesChanges:
    """The staged changes of one series: first the ranges to delete, then the rows to write."""

    key: SeriesKey
    deleted: list[tuple[int, int]] = field(default_factory=list)
    _parts: list[Columns] = field(default_factory=list)

    @property
    def upserts(self) -> Columns:
        """The staged rows, ascending, the latest write of a timestamp only."""
        # Joined when asked for: a unit of work may save a series in thousands of small parts.
        if len(self._parts) != 1:
            self._parts = [in_order(concatenate(self._parts))[0]]
        return self._parts[0]

    def save(self, columns: Columns) -> None:
        if columns.rows:
            self._parts.append(columns)

    def delete(self, first: int, last: int) -> None:
        stamps = self.upserts.timestamp
        self._parts = [self.upserts.take((stamps < first) | (stamps > last))]  # type: ignore[arg-type]
        self.deleted.append((first, last))

    def without_rows(self) -> SeriesChanges:
        return SeriesChanges(self.key, self.deleted)

    @property
    def span(self) -> tuple[int, int] | None:
        """The first and last timestamp at which staged and stored rows may differ."""
        stamps = self.upserts.timestamp
        ends = [*self.deleted, *([(int(stamps[0]), int(stamps[-1]))] if len(stamps) else [])]
        return (min(a for a, _ in ends), max(b for _, b in ends)) if ends else None

    def over(self, stored: CandleSeries, first: int, last: int) -> CandleSeries:
        """Apply the changes to `stored`, which is all that is stored from `first` to `last`."""
        kept = stored.columns
        for begin, end in self.deleted:
            outside = (kept.timestamp < begin) | (kept.timestamp > end)
            kept = kept.take(outside)  # type: ignore[arg-type]
        begin, end = np.searchsorted(self.upserts.timestamp, (first, last + 1))
        staged = self.upserts.take(slice(begin, end))
        return CandleSeries.trusted(self.key, in_order(concatenate([kept, staged]))[0])


class CandleChanges:
    """The staged changes of all series, in columns as they come.

    Rows are parted by series only once a read or a deletion asks for one of them. Until then, no
    more than `MOST_IN_MEMORY` are in memory.
    """

    def __init__(self, changes: Iterable[SeriesChanges] = (), source: str = "") -> None:
        """:param source: what the unit of work says of itself."""
        self.source = source
        self._series = {change.key: change for change in changes}
        # Written after what is in `_series`, and before the loose candles.
        self._parts: list[SeriesRows | LooseRows | SpilledRows] = []
        self._rows_here = 0  # of those parts that came after the last one in a file
        self._may_spill = True
        self._loose: list[Candle] = []
        self._keys_of_loose: list[SeriesKey] = []

    def __bool__(self) -> bool:
        return bool(self._series or self._parts or self._loose)

    def __iter__(self) -> Iterator[SeriesChanges]:
        return iter(self.by_series().values())

    def add(self, key: SeriesKey, candles: Sequence[Candle]) -> bool:
        """Save some candles of a series; True after hundreds, to let others work for once."""
        before = len(self._loose)
        self._loose += candles
        rows = len(self._loose)
        self._keys_of_loose += [key] * (rows - before)
        if rows >= _LOOSE_CANDLES:
            self._gather()
            self._spill_if_many()
            return True
        return before // WITHOUT_A_PAUSE < rows // WITHOUT_A_PAUSE

    def save(self, rows: SeriesRows) -> None:
        self._gather()
        if rows.rows:
            self._append(rows)
            self._spill_if_many()

    def delete(self, key: SeriesKey, first: int, last: int) -> None:
        self.by_series().setdefault(key, SeriesChanges(key)).delete(first, last)

    def by_series(self) -> dict[SeriesKey, SeriesChanges]:
        self._gather()
        parts, self._parts, self._rows_here = self._loaded(), [], 0
        if len(parts) > 1 or any(isinstance(part, LooseRows) for part in parts):
            parts = [SeriesRows.joined(parts)]
        for part in parts:
            assert isinstance(part, SeriesRows)
            for series in part:
                self._series.setdefault(series.key, SeriesChanges(series.key)).save(series.columns)
        return self._series

    @property
    def upserts(self) -> SeriesRows:
        """The rows of all series, joined when they are asked for."""
        self._gather()
        of_series = [
            SeriesRows.of(CandleSeries.trusted(key, change.upserts))
            for key, change in self._series.items()
            if change.upserts.rows
        ]
        # What is joined is not kept in two places.
        self._series = {
            key: change.without_rows() for key, change in self._series.items() if change.deleted
        }
        joined = SeriesRows.joined([*of_series, *self._loaded()])
        self._parts = [joined] if joined.rows else []
        self._rows_here = joined.rows
        return joined

    @property
    def rows(self) -> int:
        """How many were written, those that were written twice counted twice."""
        self._gather()
        of_series = sum(change.upserts.rows for change in self._series.values())
        return of_series + sum(_size(part) for part in self._parts)

    def pieces(self, most: int) -> Iterator[SeriesRows]:
        """`upserts` in pieces of at most so many rows, in the order of series and time.

        What waits in files is read piece by piece, and stays there.
        """
        if not any(isinstance(part, SpilledRows) for part in self._parts):
            yield from self.upserts.pieces(most)
            return
        self._gather()
        waiting: list[tuple[SeriesKey, Columns]] = []
        parts = [_by_key(part) for part in self._parts]
        for key in sorted(self.keys, key=lambda key: key.sort_key):
            for piece in self._ordered(key, parts, most):
                if waiting and sum(c.rows for _, c in waiting) + piece.rows > most:
                    together, waiting = _together(waiting), []
                    yield together
                    del together  # what is written need not lie beside what comes next
                waiting.append((key, piece))
        if waiting:
            yield _together(waiting)

    def _ordered(
        self, key: SeriesKey, parts: Sequence[SpilledRows | _ByKey], most: int
    ) -> Iterator[Columns]:
        """The rows of a series, ascending, at most so many at once.

        Where the parts in which they came do not ascend, they have to be joined.
        """
        change = self._series.get(key)
        came = [*parts] if change is None else [_ByKey({key: change.upserts}), *parts]
        ends = {part: found for part in came if (found := part.ends(key)) is not None}
        if not all(before[1] < after[0] for before, after in pairwise(ends.values())):
            loaded = [columns for part in ends if (columns := part.of(key)) is not None]
            ends = {_ByKey({key: in_order(concatenate(loaded))[0]}): (0, 0)}
        for part in ends:
            yield from part.pieces(key, most)

    @property
    def deletions(self) -> list[tuple[SeriesKey, int, int]]:
        """The ranges to delete before anything is written."""
        return [(key, *ends) for key, change in self._series.items() for ends in change.deleted]

    @property
    def keys(self) -> list[SeriesKey]:
        """Of the series that change."""
        self._gather()
        of_parts = (key for part in self._parts for key in part.keys)
        return list(dict.fromkeys([*self._series, *of_parts]))

    def few_keys(self, most: int) -> set[SeriesKey] | None:
        """As `keys`, but None if there are more; nothing is joined for that."""
        known = set(self._series)
        for keys in (*(part.keys for part in self._parts), self._keys_of_loose):
            for start in range(0, len(keys), most):
                known.update(keys[start : start + most])
                if len(known) > most:
                    return None
        return known

    def _gather(self) -> None:
        if self._loose:
            candles, keys = self._loose, self._keys_of_loose
            self._loose, self._keys_of_loose = [], []
            self._append(LooseRows.of(keys, candles))

    def _append(self, part: SeriesRows | LooseRows) -> None:
        self._parts.append(part)
        self._rows_here += part.columns.rows

    @property
    def _here(self) -> list[SeriesRows | LooseRows]:
        """What was written since rows were last put into a file."""
        found: list[SeriesRows | LooseRows] = []
        for part in reversed(self._parts):
            if isinstance(part, SpilledRows):
                break
            found.append(part)
        return found[::-1]

    def _spill_if_many(self) -> None:
        # Counted as they come: thousands of series would be looked through at each of them.
        if self._rows_here > MOST_IN_MEMORY and self._may_spill:
            self._spill()

    def _spill(self) -> None:
        """Put what is in memory into a file, or leave it there for good if there is no room."""
        here = self._here
        joined = SeriesRows.joined(here)
        try:
            spilled = SpilledRows(joined)
        except OSError:
            self._may_spill = False
            log.warning("Staged rows stay in memory: no temporary file takes them.", exc_info=True)
            return
        self._parts[len(self._parts) - len(here) :] = [spilled]
        self._rows_here = 0

    def _loaded(self) -> list[SeriesRows | LooseRows]:
        return [part.loaded() if isinstance(part, SpilledRows) else part for part in self._parts]


def _size(part: SeriesRows | LooseRows | SpilledRows) -> int:
    return part.rows if isinstance(part, SpilledRows) else part.columns.rows


class _ByKey:
    """Rows in memory, asked for by series as those in a file are."""

    def __init__(self, columns: Mapping[SeriesKey, Columns]) -> None:
        self._columns = {key: each for key, each in columns.items() if each.rows}

    def of(self, key: SeriesKey) -> Columns | None:
        return self._columns.get(key)

    def ends(self, key: SeriesKey) -> tuple[int, int] | None:
        found = self._columns.get(key)
        return None if found is None else (int(found.timestamp[0]), int(found.timestamp[-1]))

    def pieces(self, key: SeriesKey, most: int) -> Iterator[Columns]:
        found = self._columns[key]
        for start in range(0, found.rows, most):
            yield found.take(slice(start, start + most))


def _by_key(part: SeriesRows | LooseRows | SpilledRows) -> SpilledRows | _ByKey:
    if isinstance(part, SpilledRows):
        return part
    return _ByKey({series.key: series.columns for series in SeriesRows.joined([part])})


def _together(found: Sequence[tuple[SeriesKey, Columns]]) -> SeriesRows:
    """Pieces of series in one; those of one series follow each other."""
    keys = list(dict.fromkeys(key for key, _ in found))
    sizes = dict.fromkeys(keys, 0)
    for key, columns in found:
        sizes[key] += columns.rows
    offsets = np.cumsum([0, *sizes.values()])
    columns = found[0][1] if len(found) == 1 else concatenate([each for _, each in found])
    return SeriesRows(keys, offsets, columns)
