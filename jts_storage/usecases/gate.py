"""Check the rows of a block, all its series at once: which are stored, which are quarantined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, checked
from jts_storage.domain.rows import SeriesRows
from jts_storage.errors import InvalidData
from jts_storage.readers.blocks import Block, as_json_rows
from jts_storage.usecases.incremental import Known
from jts_storage.usecases.quality import Before, QualityPolicy, Verdict, judge_all
from jts_storage.usecases.quarantine import RowJson
from jts_storage.usecases.results import Tally
from jts_storage.usecases.rules import Spans, offsets_of

_FEW_SERIES = 1 << 16
"""So many have numbers of 16 bits, which sort in a tenth of the time."""


@dataclass(frozen=True, slots=True, eq=False)
class BlockRows:
    """The rows of a block, one series behind the other, those of each as they came.

    :param offsets: where each series begins, and behind the last where it ends.
    :param rows: the number of each row in its source.
    :param missing: where a price or the volume is missing.
    """

    keys: tuple[SeriesKey, ...]
    offsets: Int64Array
    columns: Columns
    rows: Int64Array
    missing: AnyArray
    block: Block

    def take(self, wanted: AnyArray) -> BlockRows:
        if wanted.all():
            return self
        return replace(
            self,
            offsets=offsets_of(self.offsets, wanted),
            columns=self.columns.take(wanted),
            rows=self.rows[wanted],
            missing=self.missing[wanted],
        )

    def spans(self, before: Sequence[Before]) -> Spans:
        timeframes = [key.timeframe for key in self.keys]
        exchanges = [key.exchange for key in self.keys]
        return Spans.of(timeframes, exchanges, self.offsets, before)


@dataclass(frozen=True, slots=True, eq=False)
class Again:
    """Rows of a block that are stored in the place of another row of it.

    :param firsts: of each timestamp of a series the row that came first.
    :param number: of each row that came after it, which key it has.
    :param stamps: their timestamps.
    :param same: which of them have the values of the row whose place they take.
    """

    firsts: SeriesRows
    number: Int64Array
    stamps: Int64Array
    same: AnyArray

    @classmethod
    def of(cls, rows: SeriesRows, number: Int64Array, columns: Columns) -> Again:
        """
        :param rows: the last of each timestamp.
        :param number: which key each row has, in the order they came in.
        """
        if rows.rows == columns.rows:
            nothing = np.empty(0, np.int64)
            return cls(rows, nothing, nothing, np.empty(0, np.bool_))
        order = np.lexsort((columns.timestamp, number))  # stable
        number, columns = number[order], columns.take(order)
        stamps = columns.timestamp
        comes_again = np.append(False, (stamps[1:] == stamps[:-1]) & (number[1:] == number[:-1]))
        at = np.flatnonzero(comes_again)
        same = np.ones(len(at), np.bool_)
        for values in columns[1:]:
            same &= values[at] == values[at - 1]
        firsts = SeriesRows.grouped(rows.keys, number[~comes_again], columns.take(~comes_again))
        return cls(firsts, number[at], stamps[at], same)


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A block after its check: the rows to store, the rows to quarantine, and the counts.

    :param rows: of all series, also of those of which nothing is stored.
    :param again: those before which another of their series and timestamp is stored.
    :param tally: the counts of all together.
    :param counts: of each series, in the order of their keys, by their names.
    :param after: the last row of each series, for the check of the next block.
    """

    rows: SeriesRows
    again: Again
    quarantined: dict[SeriesKey, list[RowJson]]
    tally: Tally
    counts: dict[str, list[int]]
    after: list[Before]

    @property
    def keys(self) -> Sequence[SeriesKey]:
        return self.rows.keys


def by_series(block: Block) -> BlockRows:
    """Arrange the rows of a block by series."""
    keys, which = block.labels.keys, block.labels.which
    if which is None:
        offsets = np.array([0, len(block.rows)] if keys else [0])
        return BlockRows(keys, offsets, block.columns, block.rows, block.missing, block)
    columns, rows, missing = block.columns, block.rows, block.missing
    if (which[1:] < which[:-1]).any():
        numbers = which.astype(np.uint16) if len(keys) <= _FEW_SERIES else which
        # Stable, so that the later of two equal rows stays the later.
        order = np.argsort(numbers, kind="stable")
        rows, missing, columns = rows[order], missing[order], columns.take(order)
    offsets = np.cumsum([0, *np.bincount(which, minlength=len(keys))])
    return BlockRows(keys, offsets, columns, rows, missing, block)


def passed(
    given: BlockRows, policy: QualityPolicy, before: Sequence[Before], known: Known | None = None
) -> Judged:
    """Judge the rows of a block.

    :param before: the last row of each series.
    :param known: what is stored already, which is skipped.
    :raises InvalidData: a moment lies outside of what a store holds.
    """
    tally = Tally(read=given.columns.rows, adjusted=given.block.adjusted)
    found = given
    if known is not None:
        # Rows that are stored already are skipped, whatever the gate would say about them.
        tally.differing = int((known.differing & ~given.missing).sum())
        found = given.take(~known.stored)
        tally.skipped = tally.read - found.columns.rows
    spans = found.spans(before)
    verdict = judge_all(found.columns, found.missing, spans, policy)
    kept = found.take(verdict.accepted)
    _check_each(kept)
    number = _numbers(kept, spans)
    rows = SeriesRows.grouped(kept.keys, number, kept.columns)
    tally.rejected = int(verdict.rejected.sum())
    tally.quarantined = int(verdict.quarantined.sum())
    tally.broken, tally.forwards = verdict.counts(), verdict.forwards
    tally.duplicates = kept.columns.rows - rows.rows
    if rows.rows:
        stamps = rows.columns.timestamp
        tally.first_ms, tally.last_ms = int(stamps.min()), int(stamps.max())
    read, left, stay = (np.diff(each.offsets) for each in (given, found, kept))
    counts = {
        "read": read,
        "skipped": read - left,
        "duplicates": stay - np.diff(rows.offsets),
        "rejected": np.diff(offsets_of(found.offsets, verdict.rejected)),
        "quarantined": np.diff(offsets_of(found.offsets, verdict.quarantined)),
    }
    each = {name: of_each.tolist() for name, of_each in counts.items()}
    again = Again.of(rows, number, kept.columns)
    return Judged(rows, again, _quarantined_rows(found, verdict), tally, each, verdict.after)


def _numbers(kept: BlockRows, spans: Spans) -> Int64Array:
    if kept.columns.rows == spans.rows:
        return spans.number
    return np.repeat(np.arange(len(kept.keys)), np.diff(kept.offsets))


def _check_each(kept: BlockRows) -> None:
    """:raises InvalidData: a row is no candle, with its place in its series."""
    try:
        checked(kept.columns)
    except InvalidData:
        for begin, end in zip(kept.offsets, kept.offsets[1:], strict=False):
            checked(kept.columns.take(slice(begin, end)))
        raise


def _quarantined_rows(found: BlockRows, verdict: Verdict) -> dict[SeriesKey, list[RowJson]]:
    at = np.flatnonzero(verdict.quarantined)
    if not len(at):
        return {}
    came_as: list[dict[str, Any]] = as_json_rows(
        found.block.table, found.block.places(found.rows[at])
    )
    owners = np.searchsorted(found.offsets, at, side="right") - 1
    stamps, *rest = (column[at].tolist() for column in found.columns)
    made: dict[SeriesKey, list[RowJson]] = {}
    each = zip(owners.tolist(), at.tolist(), came_as, stamps, *rest, strict=True)
    for owner, row, original, stamp, *values in each:
        made.setdefault(found.keys[owner], []).append(
            {
                "row": int(found.rows[row]),
                "reasons": verdict.reasons(row),
                "came_as": original,
                "timestamp": stamp,
                # Text, because a volume may be larger than what JSON readers take for a number.
                "values": [str(value) for value in values],
            }
        )
    return made
