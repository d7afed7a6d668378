"""Which rows of a source are stored already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import matched
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, series_of_rows
from jts_storage.ports.candles import CandleReader
from jts_storage.usecases.known_symbols import MANY

Extent = tuple[int, int]
"""First and last timestamp of a series, in milliseconds."""

NEVER: Final[Extent] = 2**62, -(2**62)
"""An extent that every timestamp lies outside of."""


@dataclass(frozen=True, slots=True)
class Known:
    """Rows against what is stored.

    :param stored: where a candle of the row's timestamp is stored.
    :param differing: where that candle has other values.
    """

    stored: AnyArray
    differing: AnyArray


class Extents:
    """First and last stored timestamp of the series that an import has met, as it goes on."""

    def __init__(self, candles: CandleReader) -> None:
        self._candles = candles
        self._found: dict[SeriesKey, Extent | None] = {}

    def __contains__(self, key: SeriesKey) -> bool:
        return key in self._found

    async def read_all(self, keys: Sequence[SeriesKey]) -> dict[SeriesKey, Extent | None]:
        """As `read`, for many series; those of which nothing is stored are found at once."""
        if len(keys) < MANY:
            return {key: await self.read(key) for key in keys}
        stored = set(await self._all_stored())
        for key in keys:
            if key not in stored:
                self._found[key] = None
        return {key: await self.read(key) if key in stored else None for key in keys}

    async def _all_stored(self) -> list[SeriesKey]:
        keys: list[SeriesKey] = []
        while True:
            page = await self._candles.list_keys(after=keys[-1] if keys else None)
            keys += page
            if not page.has_more:
                return keys

    async def read(self, key: SeriesKey) -> Extent | None:
        """Read and remember what is stored of a series; None if nothing is."""
        found = await self._candles.get_coverage(key)
        extent = None
        if found.first is not None and found.last is not None:
            extent = checks.to_ms(found.first), checks.to_ms(found.last)
        self._found[key] = extent
        return extent

    def widen(self, key: SeriesKey, first: int, last: int) -> bool:
        """Add rows that are about to be stored; return whether stored ones may lie among them."""
        before = self._found[key]
        if before is None:
            self._found[key] = (first, last)
            return False
        self._found[key] = (min(first, before[0]), max(last, before[1]))
        return first <= before[1] and last >= before[0]


def outside(stamps: Int64Array, offsets: Int64Array, held: Sequence[Extent | None]) -> AnyArray:
    """Return which rows lie before or after everything that is held of their series."""
    firsts = np.array([NEVER[0] if extent is None else extent[0] for extent in held], np.int64)
    lasts = np.array([NEVER[1] if extent is None else extent[1] for extent in held], np.int64)
    number = series_of_rows(offsets)
    found: AnyArray = (stamps < firsts[number]) | (stamps > lasts[number])
    return found


async def known(
    candles: CandleReader,
    keys: Sequence[SeriesKey],
    offsets: Int64Array,
    columns: Columns,
    held: Sequence[Extent | None],
    block_rows: int,
) -> Known:
    """Compare rows with the candles that are stored within what is held of their series.

    Reads only the range of the rows, at most `block_rows` candles at a time.

    :param offsets: where the rows of each series begin, and behind the last where they end.
    """
    found = Known(np.zeros(columns.rows, np.bool_), np.zeros(columns.rows, np.bool_))
    ends = offsets.tolist()
    for key, extent, begin, end in zip(keys, held, ends, ends[1:], strict=False):
        if extent is not None and begin < end:
            its = slice(begin, end)
            part = Known(found.stored[its], found.differing[its])
            await _compare(candles, key, columns.take(its), extent, block_rows, part)
    return found


async def _compare(
    candles: CandleReader,
    key: SeriesKey,
    columns: Columns,
    held: Extent,
    block_rows: int,
    found: Known,
) -> None:
    stamps = columns.timestamp
    first, last = max(int(stamps.min()), held[0]), min(int(stamps.max()), held[1])
    # All rows lie outside of what is held, so nothing need be read.
    if first > last:
        return
    start, end = checks.from_ms(first), checks.from_ms(last)
    async for series in candles.stream(key, start, end, block_rows=block_rows):
        is_stored, is_same = matched(columns, series.columns)
        found.stored[is_stored] = True
        found.differing[is_stored & ~is_same] = True
