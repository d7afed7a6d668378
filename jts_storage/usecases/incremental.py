"""Which rows of a source were stored already when its import began."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.changes import matched
from jts_storage.domain.columns import AnyArray, Columns, Int64Array, series_of_rows
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.moments import Commit
from jts_storage.domain.series import CandleSeries
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

    def __or__(self, other: Known) -> Known:
        """Of the same rows: what either of them has found."""
        return Known(self.stored | other.stored, self.differing | other.differing)


class Grouped(NamedTuple):
    """The rows of one series behind those of the other, those of each in any order.

    :param offsets: where each series begins, and behind the last where it ends.
    """

    keys: Sequence[SeriesKey]
    offsets: Int64Array
    columns: Columns


class Extents:
    """First and last stored timestamp of the series that an import has met, as it goes on."""

    def __init__(self, candles: CandleReader) -> None:
        self._candles = candles
        self._found: dict[SeriesKey, Extent | None] = {}

    def __contains__(self, key: SeriesKey) -> bool:
        return key in self._found

    async def read_all(self, keys: Sequence[SeriesKey]) -> dict[SeriesKey, Extent | None]:
        """As `read`, for many series by few questions: when they begin is left open then."""
        if len(keys) < MANY:
            return {key: await self.read(key) for key in keys}
        found: dict[SeriesKey, Extent | None] = dict.fromkeys(keys)
        for timeframe in {key.timeframe for key in keys}:
            its = [key for key in keys if key.timeframe is timeframe]
            latest = await self._candles.get_latest_panel(timeframe, keys=its)
            stamps = latest.columns.timestamp.tolist()
            found |= {key: (NEVER[1], last) for key, last in zip(latest, stamps, strict=True)}
        self._found |= found
        return found

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
        rows: Grouped,
        held: Sequence[Extent | None],
        filled: Sequence[Extent | None],
    ) -> Known:
        """Compare rows with what was stored within what is held of their series.

        Reads only the range of the rows.

        :param filled: where the import has stored rows of a series within what is held of it.
        """
        now: dict[int, Extent] = {}
        then: dict[int, Extent] = {}
        for number, ends in ends_of(rows.columns.timestamp, rows.offsets):
            extent = held[number]
            # If all rows lie outside of what is held, nothing need be read.
            if extent is not None and meets(ends, extent):
                within = max(ends[0], extent[0]), min(ends[1], extent[1])
                is_filled = self.began is not None and meets(within, filled[number])
                (then if is_filled else now)[number] = within
        if self.began is not None and then:
            try:
                before = await self._compare(rows, then, Commit(self.began))
            except InvalidData as exc:
                if exc.field != "as_of":
                    raise
                now |= then
            else:
                return before | await self._compare(rows, now)
        return await self._compare(rows, now)

    async def _compare(
        self, rows: Grouped, ends: Mapping[int, Extent], as_of: Commit | None = None
    ) -> Known:
        return await compared(self.candles, rows, ends, self.block_rows, as_of)


async def compared(
    candles: CandleStore,
    rows: Grouped,
    ends: Mapping[int, Extent],
    block_rows: int,
    as_of: Commit | None = None,
) -> Known:
    """Compare rows with candles that are stored.

    :param ends: between what timestamps they are read, by the number of the series.
    """
    found = Known(np.zeros(rows.columns.rows, np.bool_), np.zeros(rows.columns.rows, np.bool_))
    numbers = {rows.keys[number]: number for number in ends}
    async for series in _stored(candles, rows.keys, ends, block_rows, as_of):
        number = numbers[series.key]
        its = slice(int(rows.offsets[number]), int(rows.offsets[number + 1]))
        its_rows, (first, last) = rows.columns.take(its), ends[number]
        is_stored, is_same = matched(its_rows, series.columns)
        # Read together with others, it may reach beyond what was asked.
        is_stored &= (its_rows.timestamp >= first) & (its_rows.timestamp <= last)
        # A longer series comes in parts.
        found.stored[its] |= is_stored
        found.differing[its] |= is_stored & ~is_same
    return found


async def _stored(
    candles: CandleStore,
    keys: Sequence[SeriesKey],
    ends: Mapping[int, Extent],
    block_rows: int,
    as_of: Commit | None,
) -> AsyncIterator[CandleSeries]:
    """Read series together where that does not read much more than was asked."""
    of_timeframes: dict[Timeframe, dict[int, Extent]] = {}
    for number, its in ends.items():
        of_timeframes.setdefault(keys[number].timeframe, {})[number] = its
    for timeframe, together in of_timeframes.items():
        first, last = (
            min(each[0] for each in together.values()),
            max(each[1] for each in together.values()),
        )
        asked = sum(each[1] - each[0] for each in together.values())
        if len(together) >= MANY and 2 * asked >= len(together) * (last - first):
            start, end = checks.from_ms(first), checks.from_ms(last)
            wanted = [keys[number] for number in together]
            async for panel in candles.stream_panels(
                timeframe, start, end, keys=wanted, block_rows=block_rows, as_of=as_of
            ):
                for key in panel:
                    yield panel[key]
        else:
            for number, its in together.items():
                start, end = map(checks.from_ms, its)
                async for series in candles.stream(
                    keys[number], start, end, block_rows=block_rows, as_of=as_of
                ):
                    yield series


def ends_of(stamps: Int64Array, offsets: Int64Array) -> Iterator[tuple[int, Extent]]:
    """The number of each series that has rows, with its first and last timestamp."""
    numbers = np.flatnonzero(np.diff(offsets) > 0)
    if not len(numbers):
        return iter(())
    begins = offsets[:-1][numbers]
    firsts, lasts = np.minimum.reduceat(stamps, begins), np.maximum.reduceat(stamps, begins)
    ends = zip(firsts.tolist(), lasts.tolist(), strict=True)
    return zip(numbers.tolist(), ends, strict=True)
