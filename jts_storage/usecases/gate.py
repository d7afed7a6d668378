"""Check the rows of one series in a block: which are stored, which are quarantined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, checked, in_order
from jts_storage.domain.series import CandleSeries
from jts_storage.readers.adjusting import Adjusted
from jts_storage.readers.blocks import NOTHING_ADJUSTED, Block, as_json_rows
from jts_storage.usecases.incremental import Known
from jts_storage.usecases.quality import Before, QualityPolicy, Verdict, judge
from jts_storage.usecases.quarantine import RowJson
from jts_storage.usecases.results import Tally


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a block that belong to one series, in the order in which they came."""

    key: SeriesKey
    columns: Columns
    rows: Int64Array
    missing: AnyArray
    block: Block
    adjusted: Adjusted = NOTHING_ADJUSTED

    def take(self, wanted: AnyArray) -> Part:
        if wanted.all():
            return self
        return Part(
            self.key,
            self.columns.take(wanted),
            self.rows[wanted],
            self.missing[wanted],
            self.block,
            self.adjusted,
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """A part after its check: the rows to store, the rows to quarantine and their counts.

    :param after: the last row, for the check of the next block.
    """

    key: SeriesKey
    series: CandleSeries
    quarantined: list[RowJson]
    tally: Tally
    after: Before


def parts(block: Block) -> list[Part]:
    """Split a block by series, its rows in the order in which they came.

    What was rounded in the block is counted with the first of them.
    """
    if not len(block.rows):
        return []
    keys, which = block.labels.keys, block.labels.which
    if which is None:
        return [Part(keys[0], block.columns, block.rows, block.missing, block, block.adjusted)]
    columns, rows, missing = block.columns, block.rows, block.missing
    if (which[1:] < which[:-1]).any():
        # Stable, so that the later of two equal rows stays the later.
        order = np.argsort(which, kind="stable")
        which, rows, missing = which[order], rows[order], missing[order]
        columns = columns.take(order)
    starts = np.flatnonzero(np.append(True, which[1:] != which[:-1]))
    split = [
        Part(keys[which[part.start]], columns.take(part), rows[part], missing[part], block)
        for part in map(slice, starts, [*starts[1:], len(which)])
    ]
    return [replace(split[0], adjusted=block.adjusted), *split[1:]]


def passed(part: Part, policy: QualityPolicy, before: Before, known: Known | None = None) -> Judged:
    """Judge a part.

    :param known: what is stored already, which is skipped.
    :raises InvalidData: a moment lies outside of what a store holds.
    """
    tally = Tally(read=part.columns.rows, adjusted=part.adjusted)
    if known is not None:
        # Rows that are stored already are skipped, whatever the gate would say about them.
        tally.differing = int((known.differing & ~part.missing).sum())
        part = part.take(~known.stored)
        tally.skipped = tally.read - part.columns.rows
    policy = policy.of_exchange(part.key.exchange)
    verdict = judge(part.columns, part.missing, part.key.timeframe, policy, before)
    tally.rejected = int(verdict.rejected.sum())
    tally.quarantined = int(verdict.quarantined.sum())
    tally.broken = verdict.counts()
    kept = part.take(verdict.accepted).columns
    columns, tally.duplicates = in_order(checked(kept))
    if columns.rows:
        tally.first_ms, tally.last_ms = (int(columns.timestamp[i]) for i in (0, -1))
    after = Before(int(kept.timestamp.max()), int(kept.close[-1])) if kept.rows else before
    series = CandleSeries.trusted(part.key, columns)
    return Judged(part.key, series, _quarantined_rows(part, verdict), tally, _latest(before, after))


def _latest(before: Before, after: Before) -> Before:
    """The last row for the next block; where time went back, with the latest timestamp so far."""
    if before.timestamp is None or after.timestamp is None or after.timestamp >= before.timestamp:
        return after
    return Before(before.timestamp, after.close)


def _quarantined_rows(part: Part, verdict: Verdict) -> list[RowJson]:
    at = np.flatnonzero(verdict.quarantined)
    if not len(at):
        return []
    came_as: list[dict[str, Any]] = as_json_rows(part.block.table, part.block.places(part.rows[at]))
    stamps, *rest = (column[at].tolist() for column in part.columns)
    return [
        {
            "row": int(part.rows[row]),
            "reasons": verdict.reasons(int(row)),
            "came_as": original,
            "timestamp": stamp,
            # Text, because a volume may be larger than what JSON readers take for a number.
            "values": [str(value) for value in values],
        }
        for row, original, stamp, *values in zip(at, came_as, stamps, *rest, strict=True)
    ]
