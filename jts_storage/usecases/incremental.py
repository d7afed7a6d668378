"""Which rows of a source were stored already when its import began."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import matched
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, series_of_rows
from jts_storage.domain.moments import Commit
from jts_storage.errors import InvalidData
from jts_storage.ports.candles import CandleReader, CandleStore
from jts_storage.usecases.any_storage import AnyStorage
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
        self._found[key] = widened((first, last), before)
        return meets((first, last), before)


def meets(one: Extent, other: Extent | None) -> bool:
    return other is not None and one[0] <= other[1] and one[1] >= other[0]


def widened(one: Extent, other: Extent | None) -> Extent:
    return one if other is None else (min(one[0], other[0]), max(one[1], other[1]))


def outside(stamps: Int64Array, offsets: Int64Array, held: Sequence[Extent | None]) -> AnyArray:
    """Return which rows lie before or after everything that is held of their series."""
    firsts = np.array([NEVER[0] if extent is None else extent[0] for extent in held], np.int64)
    lasts = np.array([NEVER[1] if extent is None else extent[1] for extent in held], np.int64)
    number = series_of_rows(offsets)
    found: AnyArray = (stamps < firsts[number]) | (stamps > lasts[number])
    return found


async def latest_commit(storage: AnyStorage, key: SeriesKey) -> int | None:
    """The version of the latest commit; None if no history is kept, so that none can be read.

    :param key: any series.
    """
    first = checks.FIRST_TIMESTAMP
    try:
        found = await storage.data_set(key.timeframe, first, first, keys=[key])
    except InvalidData as exc:
        if exc.field != "as_of":
            raise
        return None
    return found.commit.version


@dataclass(frozen=True, slots=True)
class StoredBefore:
    """Compares rows with the candles that were stored before an import began.

    What the import itself has stored since then does not count. Where a block may meet that, it is
    compared with what was stored as of the last commit before; elsewhere with what is stored now,
    which costs less. Without history (it is switched off, or was purged or forgotten meanwhile) it
    is always what is stored now: then the first of two rows of a timestamp stays, if they stand in
    different blocks, and the later one is skipped.

    :param block_rows: how many candles are read at a time.
    :param began: the last commit before; None if it is not known.
    """

    candles: CandleStore
    block_rows: int
    began: int | None

    async def known(
        self,
        keys: Sequence[SeriesKey],
        offsets: Int64Array,
        columns: Columns,
        held: Sequence[Extent | None],
        filled: Sequence[Extent | None],
    ) -> Known:
        """Compare rows with what was stored within what is held of their series.

        Reads only the range of the rows.

        :param offsets: where the rows of each series begin, and behind the last where they end.
        :param filled: where the import has stored rows of a series within what is held of it.
        """
        found = Known(np.zeros(columns.rows, np.bool_), np.zeros(columns.rows, np.bool_))
        ends = offsets.tolist()
        for number, (key, begin, end) in enumerate(zip(keys, ends, ends[1:], strict=False)):
            extent = held[number]
            if extent is not None and begin < end:
                its = slice(begin, end)
                part = Known(found.stored[its], found.differing[its])
                await self._compare(key, columns.take(its), extent, filled[number], part)
        return found

    async def _compare(
        self,
        key: SeriesKey,
        columns: Columns,
        held: Extent,
        filled: Extent | None,
        found: Known,
    ) -> None:
        stamps = columns.timestamp
        ends = max(int(stamps.min()), held[0]), min(int(stamps.max()), held[1])
        # All rows lie outside of what is held, so nothing need be read.
        if ends[0] > ends[1]:
            return
        if self.began is not None and meets(ends, filled):
            try:
                await self._mark(key, columns, ends, Commit(self.began), found)
                return
            except InvalidData as exc:
                if exc.field != "as_of":
                    raise
                found.stored[:] = found.differing[:] = False
        await self._mark(key, columns, ends, None, found)

    async def _mark(
        self,
        key: SeriesKey,
        columns: Columns,
        ends: Extent,
        as_of: Commit | None,
        found: Known,
    ) -> None:
        start, end = map(checks.from_ms, ends)
        async for series in self.candles.stream(
            key, start, end, block_rows=self.block_rows, as_of=as_of
        ):
            is_stored, is_same = matched(columns, series.columns)
            found.stored[is_stored] = True
            found.differing[is_stored & ~is_same] = True
