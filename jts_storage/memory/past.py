"""What candles in memory were, and since when they are what they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import matched
from jts_storage.domain.columns import Columns, UInt64Array, concatenate, empty, in_order


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


def as_of(
    columns: dict[SeriesKey, Columns], past: dict[SeriesKey, Past], version: int
) -> dict[SeriesKey, Columns]:
    """The candles of all series as of a version."""
    found = {key: past[key].as_of(columns.get(key, empty()), version) for key in past}
    return {key: rows for key, rows in found.items() if rows.rows}
