"""What candles in memory were, and since when they are what they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.changes import matched
from jts_storage.domain.columns import Columns, UInt64Array, concatenate, empty, in_order
from jts_storage.domain.correction import Correction, Place
from jts_storage.domain.moments import Commit
from jts_storage.domain.series import CandleSeries


class Former(NamedTuple):
    """Rows that one commit ended.

    :param since: the version that first had the values of each.
    """

    columns: Columns
    since: UInt64Array
    ended: int
    source: str


@dataclass(slots=True)
class Past:
    """The past of one series."""

    begins: UInt64Array = field(default_factory=lambda: np.zeros(0, np.uint64))
    """The version that first had the values of each present row."""

    former: list[Former] = field(default_factory=list)

    def change(self, present: Columns, becomes: Columns, version: int, source: str) -> None:
        """Note that the rows of a series become others."""
        _, stays = matched(present, becomes)
        if not stays.all():
            ended = np.flatnonzero(~stays)
            kept = Former(present.take(ended), self.begins[ended], version, source)
            self.former.append(kept)
        _, same = matched(becomes, present)
        begins = np.full(becomes.rows, version, np.uint64)
        begins[same] = self.begins[stays]
        self.begins = begins

    def as_of(self, present: Columns, version: int) -> Columns:
        parts = [present.take(np.flatnonzero(self.begins <= version))]
        for columns, since, ended, _ in self.former:
            if ended > version:
                parts.append(columns.take(np.flatnonzero(since <= version)))
        return in_order(concatenate(parts))[0]

    def purge(self, before: int) -> int:
        """Forget what a version up to `before` ended; how many rows there were."""
        rows = sum(each.columns.rows for each in self.former if each.ended <= before)
        self.former = [each for each in self.former if each.ended > before]
        return rows

    def corrections(
        self, key: SeriesKey, present: Columns, first: int, last: int, behind: Place
    ) -> Iterator[Correction]:
        """What was replaced or deleted behind a place."""
        then: dict[tuple[int, int], Candle] = {}
        rows = [(present, self.begins), *((each.columns, each.since) for each in self.former)]
        for columns, begins in rows:
            places = zip(columns.timestamp.tolist(), begins.tolist(), strict=True)
            then |= zip(places, CandleSeries.trusted(key, columns), strict=True)
        for columns, _, ended, source in self.former:
            if ended < behind[0]:
                continue
            for ms, before in zip(
                columns.timestamp.tolist(), CandleSeries.trusted(key, columns), strict=True
            ):
                if first <= ms <= last and (ended, ms) > behind:
                    yield Correction(Commit(ended), source, before, then.get((ms, ended)))


def as_of(
    columns: dict[SeriesKey, Columns], past: dict[SeriesKey, Past], version: int
) -> dict[SeriesKey, Columns]:
    """The candles of all series as of a version."""
    found = {key: past[key].as_of(columns.get(key, empty()), version) for key in past}
    return {key: rows for key, rows in found.items() if rows.rows}
