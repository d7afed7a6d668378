"""What ``jts-storage history`` reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from jts_storage.cli import arguments, moments
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe

if TYPE_CHECKING:
    from jts_storage.domain.candle import Candle
    from jts_storage.domain.correction import Correction
    from jts_storage.domain.moments import AsOf
    from jts_storage.storage import Storage

PAINTS: Final = ("market", "korea", "west", "colorblind")
_PAGE: Final = 10_000
"""So many corrections are read at once."""

_MOST_CANDLES: Final = 600
"""Of the chart, beside those that were corrected."""

_AROUND: Final = 40
"""So many candles before the first correction are drawn, and behind the last."""

_DAYS: Final = {Timeframe.D1: 1, Timeframe.W1: 7, Timeframe.MN1: 31}


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrected:
    """Corrections of a series, in the order of their commits.

    :param candles: as they are now, of a stretch around the corrections; not all of a long one.
    """

    key: SeriesKey
    corrections: Sequence[Correction]
    has_more: bool = False
    candles: Sequence[Candle] = ()
    is_limited: bool = False

    @property
    def span(self) -> str:
        return " there" if self.is_limited else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which corrections are asked for.

    :param start: of the candles, not of the corrections.
    """

    key: SeriesKey
    since: AsOf | None
    until: datetime | None
    start: datetime | None
    end: datetime | None
    limit: int

    async def read(self, storage: Storage, *, with_candles: bool) -> Corrected:
        """:raises NotFound: nothing of the series is stored, or ever was."""
        since = None if self.since is None else await moments.known(storage, self.since)
        found, has_more = await self._corrections(storage, since)
        if not found:
            await arguments.check_named(self.key, storage)
        return Corrected(
            key=self.key,
            corrections=found,
            has_more=has_more,
            candles=await _around(storage, self.key, found) if with_candles and found else (),
            is_limited=any((self.since, self.until, self.start, self.end)),
        )

    async def _corrections(
        self, storage: Storage, since: AsOf | None
    ) -> tuple[list[Correction], bool]:
        """They are read page by page, and whether there are more than wanted."""
        found: list[Correction] = []
        while True:
            left = self.limit - len(found) if self.limit else _PAGE
            page = await storage.candles.changes(
                self.key,
                self.start,
                self.end,
                since=since,
                limit=min(left, _PAGE),
                after=found[-1] if found else None,
            )
            fit = [each for each in page if self.until is None or each.commit.moment <= self.until]
            found += fit
            has_more = page.has_more and len(fit) == len(page)
            if not has_more or len(found) == self.limit:
                return found, has_more


async def _around(
    storage: Storage, key: SeriesKey, corrections: Iterable[Correction]
) -> list[Candle]:
    """The candles of now that were corrected, and others about them, evenly spread if many."""
    stamps = {each.timestamp for each in corrections}
    days = _DAYS.get(key.timeframe)
    step = timedelta(milliseconds=key.timeframe.step_ms or 0) if days is None else timedelta(days)
    first, last = min(stamps) - _AROUND * step, max(stamps) + _AROUND * step
    ends = max(first, checks.FIRST_TIMESTAMP), min(last, checks.LAST_TIMESTAMP)
    every = await storage.candles.count(key, *ends) // _MOST_CANDLES + 1
    found: list[Candle] = []
    number = 0
    async for block in storage.candles.stream(key, *ends):
        for candle in block:
            if number % every == 0 or candle.timestamp in stamps:
                found.append(candle)
            number += 1
    return found
