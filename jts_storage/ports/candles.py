"""The contract of a store of candles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import date, datetime
from typing import Any, Protocol, TypeAlias

from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.correction import Correction
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.moments import AsOf
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.results import Coverage, Page, SaveResult
from jts_storage.domain.series import CandleSeries
from jts_storage.ports.lake import Lake

CandleData: TypeAlias = CandleSeries | Iterable[Candle] | Mapping[str, Any] | Any
"""A series, candles, columns by name, an Arrow table, a pandas or a polars frame."""


class CandleReader(Protocol):
    """Reads candles. Both ends of a range are included; the order is always ascending.

    Every method raises `InvalidData` for an end without a time zone and for a range that runs
    backwards. A series of which nothing is stored is empty; it is never an error.
    """

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        """The candles from `start` to `end`."""
        ...

    async def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        """The same range of several series in one call: one entry a key, in the order asked."""
        ...

    async def get_panel(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        last: int | None = None,
    ) -> CandlePanel:
        """The candles of a whole market from `start` to `end`, in one call.

        :param keys: only these series; all of the timeframe if None.
        :param exchange: only series of this exchange, to the letter; of one that has none the
            panel is empty.
        :param market: only series of symbols that are stored with this market.
        :param fields: only these columns beside the timestamps, which is quicker; all if None.
        :param last: only so many of the last candles of each series.
        """
        ...

    async def get_latest_panel(
        self,
        timeframe: Timeframe,
        count: int = 1,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
    ) -> CandlePanel:
        """The last `count` candles of every series, or of those that `get_panel` would give."""
        ...

    async def resample_panel(
        self,
        timeframe: Timeframe,
        target: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        timezone: str = "UTC",
    ) -> CandlePanel:
        """Return ``(await get_panel(timeframe, ...)).resample(target, timezone=...)``, computed
        where the candles are.

        :raises InvalidData: candles of `timeframe` do not make up whole ones of `target`.
        """
        ...

    def stream_panels(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        block_rows: int = 1_000_000,
    ) -> AsyncIterator[CandlePanel]:
        """What `get_panel` gives, in panels of at most `block_rows` rows, in constant memory.

        A series is whole in one panel, unless it is longer than a block: then it comes in several
        panels of its own, one after the other. What is written meanwhile may or may not be seen.
        """
        ...

    async def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        """The last `count` candles, or as many as there are.

        :raises InvalidData: `count` is below 1.
        """
        ...

    async def get_coverage(self, key: SeriesKey) -> Coverage:
        """First and last timestamp; both None where nothing is stored."""
        ...

    async def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        """Return how many candles each local day holds, ascending, without days that have none."""
        ...

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        """Return how many candles there are, each timestamp once; an open end is no bound."""
        ...

    async def resample(
        self,
        key: SeriesKey,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        timezone: str = "UTC",
    ) -> CandleSeries:
        """Return ``(await get_range(key, start, end)).resample(timeframe, timezone=...)``, computed
        where the candles are.

        :raises InvalidData: candles of the key do not make up whole ones of `timeframe`.
        """
        ...

    def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 262_144
    ) -> AsyncIterator[CandleSeries]:
        """The range in consecutive, non-empty series of at most `block_rows`, in constant memory.

        Leaving the loop early is harmless. What is written meanwhile may or may not be seen.
        """
        ...

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None
    ) -> Page[SeriesKey]:
        """The keys of which candles are stored, by symbol, exchange and timeframe (as text).

        There may be more of them than `limit`: the page says so by its `has_more`.

        :param after: the last key of the page before.
        """
        ...


class CandleStore(CandleReader, Protocol):
    """Reads candles, as they are or as they were, and takes in whole jobs of a lake.

    :param as_of: a time with its zone, a commit, or the name of a snapshot: read what was committed
        up to then; what is committed now if None. `market` asks the symbols as they are now.

    With `as_of`, every method raises `InvalidData` for a moment in the future and for one of which
    no history is kept, and `NotFound` for a snapshot that does not exist.
    """

    async def get_range(
        self, key: SeriesKey, start: datetime, end: datetime, *, as_of: AsOf | None = None
    ) -> CandleSeries: ...

    async def get_ranges(
        self,
        keys: Iterable[SeriesKey],
        start: datetime,
        end: datetime,
        *,
        as_of: AsOf | None = None,
    ) -> dict[SeriesKey, CandleSeries]: ...

    async def get_panel(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        last: int | None = None,
        as_of: AsOf | None = None,
    ) -> CandlePanel: ...

    async def get_latest_panel(
        self,
        timeframe: Timeframe,
        count: int = 1,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        as_of: AsOf | None = None,
    ) -> CandlePanel: ...

    async def resample_panel(
        self,
        timeframe: Timeframe,
        target: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        timezone: str = "UTC",
        as_of: AsOf | None = None,
    ) -> CandlePanel: ...

    def stream_panels(
        self,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        block_rows: int = 1_000_000,
        as_of: AsOf | None = None,
    ) -> AsyncIterator[CandlePanel]: ...

    async def get_latest(
        self, key: SeriesKey, count: int = 1, *, as_of: AsOf | None = None
    ) -> CandleSeries: ...

    async def get_coverage(self, key: SeriesKey, *, as_of: AsOf | None = None) -> Coverage: ...

    async def coverage_by_day(
        self, key: SeriesKey, *, timezone: str = "UTC", as_of: AsOf | None = None
    ) -> dict[date, int]: ...

    async def count(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        as_of: AsOf | None = None,
    ) -> int: ...

    async def resample(
        self,
        key: SeriesKey,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        timezone: str = "UTC",
        as_of: AsOf | None = None,
    ) -> CandleSeries: ...

    def stream(
        self,
        key: SeriesKey,
        start: datetime,
        end: datetime,
        *,
        block_rows: int = 262_144,
        as_of: AsOf | None = None,
    ) -> AsyncIterator[CandleSeries]: ...

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None, as_of: AsOf | None = None
    ) -> Page[SeriesKey]: ...

    async def changes(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        since: AsOf | None = None,
        limit: int = 1_000,
        after: Correction | None = None,
    ) -> Page[Correction]:
        """The candles that were replaced or deleted, in the order of the commits that did it, and
        of their times in each.

        What another program wrote beside the kit is not among them, nor is a candle that a commit
        deleted and wrote again with the same values.

        :param since: only by later commits; by all whose history is kept if None. A snapshot keeps
            what it shows beyond that time, but not what came of it.
        :param after: the last one of the page before.
        :raises InvalidData: no history is kept of `since`, or of `after` any more.
        :raises StorageError: no history is kept at all.
        """
        ...

    async def purge_history(
        self,
        keys: Iterable[SeriesKey] | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        """Erase for good what candles were before they were replaced or deleted; how many rows.

        What is stored now stays. When it returns, no row of ClickHouse's tables has the values of
        former candles, nor those of deleted and replaced ones: the tables are looked at
        afterwards. The engine deletes the files that it has rewritten a little later: after half a
        minute where it is embedded and open, after 8 minutes on a server as it comes. Not erased
        are the times of deleted candles, copies elsewhere (backups, exports, raw bars, files of a
        lake, snapshots of a disk), and what MongoDB keeps of commits for a while.

        From then on, reads as of an earlier moment say that it was purged, and so do `changes`
        since it, data sets and `verify`. Commits may go on meanwhile. Whole parts of the tables are
        rewritten, which takes time and space for a second copy. Where it is interrupted, do it
        again; the next opening and `recover` finish it, too.

        :param keys: of these series only; of all if None.
        :param before: only what was replaced up to this moment, so that it can still be read; up
            to the latest commit if None.
        :param despite_snapshots: although snapshots are of an earlier moment: they stay, and reads
            of them are refused for what was purged.
        :raises NotFound: there neither are nor were candles of a key; nothing is erased.
        :raises InUse: there are such snapshots; nothing is erased.
        :raises StorageError: something could not be erased; what is gone is not told of any more.
        """
        ...

    async def import_lake(self, lake: Lake, job_id: str) -> int:
        """Store every candle that a job left in a lake; how many rows its files have.

        Each file is an upsert of its own and takes effect at once, outside of any unit of work;
        repeating an import that broke off is safe. Where it can, the store reads the files itself.

        :raises NotFound: the lake has no such job.
        :raises InvalidData: a file is damaged, or holds a row that no store may hold.
        """
        ...


class CandleRepository(CandleReader, Protocol):
    """Reads and writes candles. A candle is an upsert: the later write of a timestamp wins.

    Writing the same candles again, in whole or part, in any order, leaves the same rows.
    """

    async def save_many(
        self, key: SeriesKey, candles: CandleData, *, detail: bool = False
    ) -> SaveResult:
        """Store candles of any number, in any order.

        Of several with one timestamp in the batch the last counts. A batch is refused as a whole
        or stored as a whole, as far as it fits one block of the store.

        :param detail: also count how many were new, changed and unchanged, which costs a read.
        :raises InvalidData: with row and field, before anything is written.
        """
        ...

    async def save_panel(self, panel: Any, *, timeframe: Timeframe | None = None) -> SaveResult:
        """Store the candles of many series.

        :param panel: a `CandlePanel`, or a frame with a column `symbol`, and perhaps `exchange`.
        :param timeframe: of a frame, which does not say.
        """
        ...

    async def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        """Remove the candles from `start` to `end`; how many there were. They stay removed."""
        ...
