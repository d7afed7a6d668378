"""The blocking twins of the ports, generated from them by scripts/generate_sync.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Generic, Self

from jts_storage import ports
from jts_storage.domain.backtest import BacktestResult, BacktestSummary, Trade
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.candle import Candle, SeriesKey
from jts_storage.domain.correction import Correction
from jts_storage.domain.data_sets import Verification
from jts_storage.domain.enums import FormulaCategory, Market, Metric, Timeframe
from jts_storage.domain.events import DomainEvent
from jts_storage.domain.formula import Formula
from jts_storage.domain.moments import AsOf, Commit
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.rate_limits import RateLimits, RateLimitState, Slot
from jts_storage.domain.results import CommitResult, Coverage, Page, SaveResult
from jts_storage.domain.revision import Revision
from jts_storage.domain.series import CandleSeries
from jts_storage.domain.snapshot import Snapshot
from jts_storage.domain.strategy import Strategy
from jts_storage.domain.subscriptions import PlainEvent
from jts_storage.domain.symbol import Symbol
from jts_storage.ports.candles import CandleData
from jts_storage.ports.events import E_co
from jts_storage.ports.lake import Lake
from jts_storage.ports.models import Model
from jts_storage.ports.unit_of_work import R
from jts_storage.sync.declared import Blocking
from jts_storage.sync.portal import Portal
from jts_storage.sync.twin import Twin


class EnteredOnce(Twin):
    """A context manager that is entered once."""

    _twin: ports.EnteredOnce

    def __init__(self, portal: Portal, twin: ports.EnteredOnce) -> None:
        self._portal = portal
        self._twin = twin

    def __enter__(self) -> Self:
        self._portal.call(self._twin.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self._portal.call(self._twin.__aexit__(kind, error, traceback))


class EventCollector(Twin):
    """Where a unit of work takes events."""

    _twin: ports.EventCollector

    def __init__(self, portal: Portal, twin: ports.EventCollector) -> None:
        self._portal = portal
        self._twin = twin

    def add(self, event: DomainEvent) -> None:
        """Publish `event` once the unit of work has committed, and only then.

        Adding the same event again changes nothing.

        :raises InvalidData: it cannot be stored, or has the id of another event that was added.
        """
        self._twin.add(event)


class Subscription(EnteredOnce, Generic[E_co]):
    """The events of one subscriber: at least once, in the order of their commits.

    Use it once, as an asynchronous context manager, and iterate within: that waits for events, and
    does not end by itself. An event counts as acknowledged when the next one is asked for, or by
    `acknowledge`; the one that was had last when the block is left does not. Asking stores what was
    acknowledged now and then: after a crash the last hundred events at most, or those of the last
    second, may come again. `acknowledge` stores it at once.

    An event comes once its commit is in every store. One whose class is not imported, or refuses
    what is stored, is parked: it is logged, and the next one comes.

    Entering raises `InUse` while another consumer has the durable subscription of this name.
    """

    _twin: ports.Subscription[E_co]

    def __init__(self, portal: Portal, twin: ports.Subscription[E_co]) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def __iter__(self) -> Iterator[E_co]:
        return self._portal.iterate(self._twin.__aiter__())

    def __next__(self) -> E_co:
        return self._portal.call(self._twin.__anext__())

    def next(self, *, within: float) -> E_co | None:
        """The next event; None if there is none within so many seconds.

        It acknowledges the one before in either case.
        """
        return self._portal.call(self._twin.next(within=within))

    def plain(self) -> Iterator[PlainEvent]:
        """The same events as they are stored, for those who lack their classes: none is parked."""
        return self._portal.iterate(self._twin.plain())

    def batch(self, most: int) -> Sequence[PlainEvent]:
        """The next events as they are stored: those there are, up to so many, and at least one.

        It acknowledges those had before. It is for whoever hands them on, or stores many at once.
        """
        return self._portal.call(self._twin.batch(most))

    def acknowledge(self) -> None:
        """Store that all events had so far are dealt with, so that none of them comes again."""
        self._portal.call(self._twin.acknowledge())


class CandleReader(Twin):
    """Reads candles. Both ends of a range are included; the order is always ascending.

    Every method raises `InvalidData` for an end without a time zone and for a range that runs
    backwards. A series of which nothing is stored is empty; it is never an error.
    """

    _twin: ports.CandleReader

    def __init__(self, portal: Portal, twin: ports.CandleReader) -> None:
        self._portal = portal
        self._twin = twin

    def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        """The candles from `start` to `end`."""
        return self._portal.call(self._twin.get_range(key, start, end))

    def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        """The same range of several series in one call: one entry a key, in the order asked."""
        return self._portal.call(self._twin.get_ranges(keys, start, end))

    def get_panel(
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
        return self._portal.call(
            self._twin.get_panel(
                timeframe,
                start,
                end,
                keys=keys,
                exchange=exchange,
                market=market,
                fields=fields,
                last=last,
            )
        )

    def get_latest_panel(
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
        return self._portal.call(
            self._twin.get_latest_panel(
                timeframe, count, keys=keys, exchange=exchange, market=market, fields=fields
            )
        )

    def resample_panel(
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
        return self._portal.call(
            self._twin.resample_panel(
                timeframe,
                target,
                start,
                end,
                keys=keys,
                exchange=exchange,
                market=market,
                timezone=timezone,
            )
        )

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
        block_rows: int = 1000000,
    ) -> Iterator[CandlePanel]:
        """What `get_panel` gives, in panels of at most `block_rows` rows, in constant memory.

        A series is whole in one panel, unless it is longer than a block: then it comes in several
        panels of its own, one after the other. What is written meanwhile may or may not be seen.
        """
        return self._portal.iterate(
            self._twin.stream_panels(
                timeframe,
                start,
                end,
                keys=keys,
                exchange=exchange,
                market=market,
                fields=fields,
                block_rows=block_rows,
            )
        )

    def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        """The last `count` candles, or as many as there are.

        :raises InvalidData: `count` is below 1.
        """
        return self._portal.call(self._twin.get_latest(key, count))

    def get_coverage(self, key: SeriesKey) -> Coverage:
        """First and last timestamp; both None where nothing is stored."""
        return self._portal.call(self._twin.get_coverage(key))

    def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        """Return how many candles each local day holds, ascending, without days that have none."""
        return self._portal.call(self._twin.coverage_by_day(key, timezone=timezone))

    def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        """Return how many candles there are, each timestamp once; an open end is no bound."""
        return self._portal.call(self._twin.count(key, start, end))

    def resample(
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
        return self._portal.call(self._twin.resample(key, timeframe, start, end, timezone=timezone))

    def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 262144
    ) -> Iterator[CandleSeries]:
        """The range in consecutive, non-empty series of at most `block_rows`, in constant memory.

        Leaving the loop early is harmless. What is written meanwhile may or may not be seen.
        """
        return self._portal.iterate(self._twin.stream(key, start, end, block_rows=block_rows))

    def list_keys(self, *, limit: int = 1000, after: SeriesKey | None = None) -> Page[SeriesKey]:
        """The keys of which candles are stored, by symbol, exchange and timeframe (as text).

        There may be more of them than `limit`: the page says so by its `has_more`.

        :param after: the last key of the page before.
        """
        return self._portal.call(self._twin.list_keys(limit=limit, after=after))


class CandleStore(CandleReader):
    """Reads candles, as they are or as they were, and takes in whole jobs of a lake.

    :param as_of: a time with its zone, a commit, or the name of a snapshot: read what was committed
        up to then; what is committed now if None. `market` asks the symbols as they are now.

    With `as_of`, every method raises `InvalidData` for a moment in the future and for one of which
    no history is kept, and `NotFound` for a snapshot that does not exist.
    """

    _twin: ports.CandleStore

    def __init__(self, portal: Portal, twin: ports.CandleStore) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def get_range(
        self, key: SeriesKey, start: datetime, end: datetime, *, as_of: AsOf | None = None
    ) -> CandleSeries:
        return self._portal.call(self._twin.get_range(key, start, end, as_of=as_of))

    def get_ranges(
        self,
        keys: Iterable[SeriesKey],
        start: datetime,
        end: datetime,
        *,
        as_of: AsOf | None = None,
    ) -> dict[SeriesKey, CandleSeries]:
        return self._portal.call(self._twin.get_ranges(keys, start, end, as_of=as_of))

    def get_panel(
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
    ) -> CandlePanel:
        return self._portal.call(
            self._twin.get_panel(
                timeframe,
                start,
                end,
                keys=keys,
                exchange=exchange,
                market=market,
                fields=fields,
                last=last,
                as_of=as_of,
            )
        )

    def get_latest_panel(
        self,
        timeframe: Timeframe,
        count: int = 1,
        *,
        keys: Iterable[SeriesKey] | None = None,
        exchange: str | None = None,
        market: Market | None = None,
        fields: Iterable[str] | None = None,
        as_of: AsOf | None = None,
    ) -> CandlePanel:
        return self._portal.call(
            self._twin.get_latest_panel(
                timeframe,
                count,
                keys=keys,
                exchange=exchange,
                market=market,
                fields=fields,
                as_of=as_of,
            )
        )

    def resample_panel(
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
    ) -> CandlePanel:
        return self._portal.call(
            self._twin.resample_panel(
                timeframe,
                target,
                start,
                end,
                keys=keys,
                exchange=exchange,
                market=market,
                timezone=timezone,
                as_of=as_of,
            )
        )

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
        block_rows: int = 1000000,
        as_of: AsOf | None = None,
    ) -> Iterator[CandlePanel]:
        return self._portal.iterate(
            self._twin.stream_panels(
                timeframe,
                start,
                end,
                keys=keys,
                exchange=exchange,
                market=market,
                fields=fields,
                block_rows=block_rows,
                as_of=as_of,
            )
        )

    def get_latest(
        self, key: SeriesKey, count: int = 1, *, as_of: AsOf | None = None
    ) -> CandleSeries:
        return self._portal.call(self._twin.get_latest(key, count, as_of=as_of))

    def get_coverage(self, key: SeriesKey, *, as_of: AsOf | None = None) -> Coverage:
        return self._portal.call(self._twin.get_coverage(key, as_of=as_of))

    def coverage_by_day(
        self, key: SeriesKey, *, timezone: str = "UTC", as_of: AsOf | None = None
    ) -> dict[date, int]:
        return self._portal.call(self._twin.coverage_by_day(key, timezone=timezone, as_of=as_of))

    def count(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        as_of: AsOf | None = None,
    ) -> int:
        return self._portal.call(self._twin.count(key, start, end, as_of=as_of))

    def resample(
        self,
        key: SeriesKey,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        timezone: str = "UTC",
        as_of: AsOf | None = None,
    ) -> CandleSeries:
        return self._portal.call(
            self._twin.resample(key, timeframe, start, end, timezone=timezone, as_of=as_of)
        )

    def stream(
        self,
        key: SeriesKey,
        start: datetime,
        end: datetime,
        *,
        block_rows: int = 262144,
        as_of: AsOf | None = None,
    ) -> Iterator[CandleSeries]:
        return self._portal.iterate(
            self._twin.stream(key, start, end, block_rows=block_rows, as_of=as_of)
        )

    def list_keys(
        self, *, limit: int = 1000, after: SeriesKey | None = None, as_of: AsOf | None = None
    ) -> Page[SeriesKey]:
        return self._portal.call(self._twin.list_keys(limit=limit, after=after, as_of=as_of))

    def changes(
        self,
        key: SeriesKey,
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        since: AsOf | None = None,
        limit: int = 1000,
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
        return self._portal.call(
            self._twin.changes(key, start, end, since=since, limit=limit, after=after)
        )

    def purge_history(
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
        return self._portal.call(
            self._twin.purge_history(keys, before=before, despite_snapshots=despite_snapshots)
        )

    def import_lake(self, lake: Lake, job_id: str) -> int:
        """Store every candle that a job left in a lake; how many rows its files have.

        Each file is an upsert of its own and takes effect at once, outside of any unit of work;
        repeating an import that broke off is safe. Where it can, the store reads the files itself.

        :raises NotFound: the lake has no such job.
        :raises InvalidData: a file is damaged, or holds a row that no store may hold.
        """
        return self._portal.call(self._twin.import_lake(lake, job_id))


class CandleRepository(CandleReader):
    """Reads and writes candles. A candle is an upsert: the later write of a timestamp wins.

    Writing the same candles again, in whole or part, in any order, leaves the same rows.
    """

    _twin: ports.CandleRepository

    def __init__(self, portal: Portal, twin: ports.CandleRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save_many(self, key: SeriesKey, candles: CandleData, *, detail: bool = False) -> SaveResult:
        """Store candles of any number, in any order.

        Of several with one timestamp in the batch the last counts. A batch is refused as a whole
        or stored as a whole, as far as it fits one block of the store.

        :param detail: also count how many were new, changed and unchanged, which costs a read.
        :raises InvalidData: with row and field, before anything is written.
        """
        return self._portal.call(self._twin.save_many(key, candles, detail=detail))

    def save_panel(self, panel: Any, *, timeframe: Timeframe | None = None) -> SaveResult:
        """Store the candles of many series.

        :param panel: a `CandlePanel`, or a frame with a column `symbol`, and perhaps `exchange`.
        :param timeframe: of a frame, which does not say.
        """
        return self._portal.call(self._twin.save_panel(panel, timeframe=timeframe))

    def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        """Remove the candles from `start` to `end`; how many there were. They stay removed."""
        return self._portal.call(self._twin.delete_range(key, start, end))


class LiveIngest(EnteredOnce):
    """Takes single candles as a collector gets them, and commits many at once.

    Use it once, as an asynchronous context manager. Candles are committed in units of work of its
    own, in the order in which they were added, so that of two of one timestamp the later counts.
    A candle is safe once `flush` has returned after it was added, or the block was left without
    an error; of what was added since, a crash may lose some. Leaving the block stores what was
    added, also when it is left by an exception or a cancellation, which then goes on.

    When a commit fails, after the repetitions that `Storage.run` makes, its candles are kept and
    tried again; the failure is raised once, by the next `add` or by a `flush` that waits. Only
    when leaving the block cannot store them are they lost, and that is raised.
    """

    _twin: ports.LiveIngest

    def __init__(self, portal: Portal, twin: ports.LiveIngest) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def add(self, key: SeriesKey, candle: Candle) -> None:
        """Take a candle; wait first while as many as the limit are not stored yet.

        :raises InvalidData: it is no candle, or the key no key.
        :raises StorageError: a commit has failed. This candle was not taken: add it again.
        """
        self._portal.call(self._twin.add(key, candle))

    def flush(self) -> None:
        """Store what was added before, and return when it is stored.

        :raises StorageError: it could not be stored; it is kept and tried again.
        """
        self._portal.call(self._twin.flush())

    @property
    def oldest(self) -> timedelta | None:
        """How long ago the oldest candle was added that is not stored; None if all are."""
        return self._twin.oldest

    @property
    def pending(self) -> int:
        """How many candles were added and are not stored."""
        return self._twin.pending

    @property
    def stored(self) -> int:
        """How many candles that were added are stored."""
        return self._twin.stored

    @property
    def commits(self) -> int:
        """How many commits have stored them."""
        return self._twin.commits


class SymbolReader(Twin):
    """Reads symbols. Lists are ordered by code; `after` is the last code of the page before."""

    _twin: ports.SymbolReader

    def __init__(self, portal: Portal, twin: ports.SymbolReader) -> None:
        self._portal = portal
        self._twin = twin

    def get_by_code(self, code: str) -> Symbol | None:
        """The symbol of that code, None if there is none."""
        return self._portal.call(self._twin.get_by_code(code))

    def get_by_market(
        self, market: Market, *, limit: int = 1000, after: str | None = None
    ) -> Sequence[Symbol]:
        """The symbols of a market, active or not."""
        return self._portal.call(self._twin.get_by_market(market, limit=limit, after=after))

    def get_all_active(self, *, limit: int = 10000, after: str | None = None) -> Sequence[Symbol]:
        """The symbols that are active."""
        return self._portal.call(self._twin.get_all_active(limit=limit, after=after))

    def search(self, query: str, *, limit: int = 100, after: str | None = None) -> Sequence[Symbol]:
        """The symbols whose code or name contains `query`, whatever its case.

        Every character counts as itself: there are no wildcards. An empty query finds nothing.
        """
        return self._portal.call(self._twin.search(query, limit=limit, after=after))

    def list(self, *, limit: int = 1000, after: str | None = None) -> Sequence[Symbol]:
        """All symbols."""
        return self._portal.call(self._twin.list(limit=limit, after=after))


class SymbolRepository(SymbolReader):
    """Reads and writes symbols. A symbol is an upsert by its code: the later write wins, in a unit
    of work the later commit, whatever `updated_at` says.
    """

    _twin: ports.SymbolRepository

    def __init__(self, portal: Portal, twin: ports.SymbolRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save(self, symbol: Symbol) -> Symbol:
        """Store a symbol; what is returned carries the `updated_at` under which it is stored."""
        return self._portal.call(self._twin.save(symbol))

    def save_many(self, symbols: Iterable[Symbol]) -> Sequence[Symbol]:
        """Store several in one go; of equal codes the last counts."""
        return self._portal.call(self._twin.save_many(symbols))


class FormulaReader(Twin):
    """Reads formulas. Lists are ordered by id; `after` is the last id of the page before.

    An id that is no document id is simply not found. What is stored and cannot be read is left out
    of lists, with a line in the log; `get_by_id` raises `InvalidData` for it.
    """

    _twin: ports.FormulaReader

    def __init__(self, portal: Portal, twin: ports.FormulaReader) -> None:
        self._portal = portal
        self._twin = twin

    def get_by_id(self, formula_id: str) -> Formula | None:
        """The formula of that id, None if there is none."""
        return self._portal.call(self._twin.get_by_id(formula_id))

    def get_by_category(
        self, category: FormulaCategory, *, limit: int = 1000, after: str | None = None
    ) -> Sequence[Formula]:
        """The formulas of a category."""
        return self._portal.call(self._twin.get_by_category(category, limit=limit, after=after))

    def get_by_tag(
        self, tag: str, *, limit: int = 1000, after: str | None = None
    ) -> Sequence[Formula]:
        """The formulas that carry the tag, spelled exactly so."""
        return self._portal.call(self._twin.get_by_tag(tag, limit=limit, after=after))

    def get_by_tags(
        self, tags: Iterable[str], *, limit: int = 1000, after: str | None = None
    ) -> Sequence[Formula]:
        """The formulas that carry every one of the tags; no tags find nothing."""
        return self._portal.call(self._twin.get_by_tags(tags, limit=limit, after=after))

    def search(self, query: str, *, limit: int = 100) -> Sequence[Formula]:
        """The formulas that have every word of `query`, or words that begin with it, in name,
        description or tags, whatever the case.

        Those that match in the name come before those that match in tags or description only. In
        Korean, Chinese and Japanese, which join words, the query may also begin within a word:
        "크로스" finds "골든크로스", behind all that begins with it. An empty query finds nothing,
        and punctuation is no operator.
        """
        return self._portal.call(self._twin.search(query, limit=limit))

    def list(
        self, *, limit: int = 1000, after: str | None = None, strict: bool = False
    ) -> Sequence[Formula]:
        """All formulas.

        :param strict: raise `InvalidData` for one that cannot be read, in place of leaving it out.
        """
        return self._portal.call(self._twin.list(limit=limit, after=after, strict=strict))


class FormulaStore(FormulaReader):
    """Reads formulas as they are, and as they were.

    The history is what the commits of units of work made of them: what another program writes
    straight into MongoDB is in the history once a unit of work saves it. Lists as of a moment are
    those of `Storage.as_of`.
    """

    _twin: ports.FormulaStore

    def __init__(self, portal: Portal, twin: ports.FormulaStore) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def get_by_id(
        self, formula_id: str, *, version: int | None = None, as_of: AsOf | None = None
    ) -> Formula | None:
        """The formula of that id as it is, None if there is none.

        :param version: give it as it was under this version of its own, also if it is deleted by
            now; None if it has not come so far, and where nothing is known of it any more.
        :param as_of: give it as it was then, after every commit up to that moment; None if there
            was none.
        :raises NotFound: the version is not kept: it is older than the history, or was purged, or
            no backtest result names it and `history_days` are over; or there is no such snapshot.
        :raises InvalidData: both are given; or the moment is in the future, or no history of it is
            kept, or what it was then was purged.
        """
        return self._portal.call(self._twin.get_by_id(formula_id, version=version, as_of=as_of))

    def history(
        self, formula_id: str, *, limit: int = 1000, after: Revision[Formula] | None = None
    ) -> Page[Revision[Formula]]:
        """What is kept of what commits made of the formula, oldest first; deletions, too.

        The first may be what it was when history began, or at the beginning of what is kept of it.
        One that cannot be read is left out, with a line in the log; one that was purged without.

        :param after: the last one of the page before.
        """
        return self._portal.call(self._twin.history(formula_id, limit=limit, after=after))

    def purge_history(
        self,
        formula_id: str | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        """Erase for good what the formula was, as far as that was over by a moment.

        What it was at the moment, and later, stays; so do deletions. Reads as of a moment of which
        something was erased are refused: of the formula, and of lists that it may belong to.

        :param formula_id: None stands for all.
        :param before: up to this moment; up to now if None.
        :param despite_snapshots: although snapshots show some of it: they stay, and reads of them
            are refused for what was purged.
        :return: how many revisions were erased.
        :raises InUse: a snapshot shows one of them. Nothing is erased.
        :raises InvalidData: the moment is in the future.
        :raises NotFound: there neither is nor was such a formula, or there is no such snapshot.
        """
        return self._portal.call(
            self._twin.purge_history(formula_id, before=before, despite_snapshots=despite_snapshots)
        )


class FormulaRepository(FormulaReader):
    """Reads and writes formulas."""

    _twin: ports.FormulaRepository

    def __init__(self, portal: Portal, twin: ports.FormulaRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save(self, formula: Formula) -> Formula:
        """Insert a formula without an id, or update the one of that id; the stored one returns.

        What returns carries its id, its version (counted up by an update) and its times.

        :raises Conflict: the stored version is not the formula's, or its `created_at` or
            `updated_at`, as far as the formula has them; or it was deleted meanwhile.
        :raises InvalidData: it is larger than could be updated later.
        """
        return self._portal.call(self._twin.save(formula))

    def save_many(self, formulas: Iterable[Formula]) -> Sequence[Formula]:
        """`save` for several in few round trips, in their order.

        :raises Conflict: for the first at fault; those before it may be stored, outside a unit of
            work, which stores all or none.
        """
        return self._portal.call(self._twin.save_many(formulas))

    def delete(self, formula_id: str, *, force: bool = False) -> bool:
        """Remove a formula; whether there was one.

        :param force: remove it although strategies use it, or somebody begins to.
        :raises Conflict: strategies use it; the message has their names. Or somebody saves one that
            begins to use it at the same time: of the two, the first to commit wins.
        """
        return self._portal.call(self._twin.delete(formula_id, force=force))


class StrategyReader(Twin):
    """Reads strategies. Lists are ordered by id; `after` is the last id of the page before.

    What is stored and cannot be read is left out of lists, with a line in the log.
    """

    _twin: ports.StrategyReader

    def __init__(self, portal: Portal, twin: ports.StrategyReader) -> None:
        self._portal = portal
        self._twin = twin

    def get_by_id(self, strategy_id: str) -> Strategy | None:
        """The strategy of that id, None if there is none or it is no document id."""
        return self._portal.call(self._twin.get_by_id(strategy_id))

    def get_by_formula(
        self, formula_id: str, *, limit: int = 1000, after: str | None = None
    ) -> Sequence[Strategy]:
        """The strategies that use the formula to enter, to leave or to stop a loss."""
        return self._portal.call(self._twin.get_by_formula(formula_id, limit=limit, after=after))

    def list(
        self, *, limit: int = 1000, after: str | None = None, strict: bool = False
    ) -> Sequence[Strategy]:
        """All strategies.

        :param strict: raise `InvalidData` for one that cannot be read, in place of leaving it out.
        """
        return self._portal.call(self._twin.list(limit=limit, after=after, strict=strict))


class StrategyStore(StrategyReader):
    """Reads strategies as they are, and as they were.

    The history is what the commits of units of work made of them: what another program writes
    straight into MongoDB is in the history once a unit of work saves it. Lists as of a moment are
    those of `Storage.as_of`.
    """

    _twin: ports.StrategyStore

    def __init__(self, portal: Portal, twin: ports.StrategyStore) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def get_by_id(
        self, strategy_id: str, *, version: int | None = None, as_of: AsOf | None = None
    ) -> Strategy | None:
        """The strategy of that id as it is, None if there is none.

        :param version: give it as it was under this version of its own, also if it is deleted by
            now; None if it has not come so far, and where nothing is known of it any more.
        :param as_of: give it as it was then, after every commit up to that moment; None if there
            was none.
        :raises NotFound: the version is not kept: it is older than the history, or was purged, or
            no backtest result names it and `history_days` are over; or there is no such snapshot.
        :raises InvalidData: both are given; or the moment is in the future, or no history of it is
            kept, or what it was then was purged.
        """
        return self._portal.call(self._twin.get_by_id(strategy_id, version=version, as_of=as_of))

    def history(
        self, strategy_id: str, *, limit: int = 1000, after: Revision[Strategy] | None = None
    ) -> Page[Revision[Strategy]]:
        """What is kept of what commits made of the strategy, oldest first; deletions, too.

        The first may be what it was when history began, or at the beginning of what is kept of it.
        One that cannot be read is left out, with a line in the log; one that was purged without.

        :param after: the last one of the page before.
        """
        return self._portal.call(self._twin.history(strategy_id, limit=limit, after=after))

    def purge_history(
        self,
        strategy_id: str | None = None,
        *,
        before: AsOf | None = None,
        despite_snapshots: bool = False,
    ) -> int:
        """Erase for good what the strategy was, as far as that was over by a moment.

        What it was at the moment, and later, stays; so do deletions. Reads as of a moment of which
        something was erased are refused: of the strategy, and of lists that it may belong to.

        :param strategy_id: None stands for all.
        :param before: up to this moment; up to now if None.
        :param despite_snapshots: although snapshots show some of it: they stay, and reads of them
            are refused for what was purged.
        :return: how many revisions were erased.
        :raises InUse: a snapshot shows one of them. Nothing is erased.
        :raises InvalidData: the moment is in the future.
        :raises NotFound: there neither is nor was such a strategy, or there is no such snapshot.
        """
        return self._portal.call(
            self._twin.purge_history(
                strategy_id, before=before, despite_snapshots=despite_snapshots
            )
        )


class StrategyRepository(StrategyReader):
    """Reads and writes strategies."""

    _twin: ports.StrategyRepository

    def __init__(self, portal: Portal, twin: ports.StrategyRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save(self, strategy: Strategy) -> Strategy:
        """Insert a strategy without an id, or update the one of that id; as formulas are saved.

        The formulas that it names are not looked up: a reference may point to nothing.

        :raises Conflict: as for formulas; or a formula that it begins to use is deleted, or put to
            use, by somebody else at the same time.
        """
        return self._portal.call(self._twin.save(strategy))

    def save_many(self, strategies: Iterable[Strategy]) -> Sequence[Strategy]:
        """`save` for several in few round trips, in their order.

        :raises Conflict: as for formulas.
        """
        return self._portal.call(self._twin.save_many(strategies))

    def delete(self, strategy_id: str) -> bool:
        """Remove a strategy; whether there was one. Its backtest results stay."""
        return self._portal.call(self._twin.delete(strategy_id))


class BacktestReader(Twin):
    """Reads backtest results; of equal `run_at` the greater id counts as the newer.

    Lists give summaries: the trades of a result are read only when they are asked for. A summary
    that cannot be read is left out of lists, with a line in the log.
    """

    _twin: ports.BacktestReader

    def __init__(self, portal: Portal, twin: ports.BacktestReader) -> None:
        self._portal = portal
        self._twin = twin

    def get_by_id(self, result_id: str) -> BacktestResult | None:
        """The result of that id with all its trades, None if there is none.

        :raises InvalidData: the result, or one of its trades, cannot be read.
        """
        return self._portal.call(self._twin.get_by_id(result_id))

    def get_many(self, result_ids: Iterable[str]) -> Sequence[BacktestResult]:
        """The results of those ids with all their trades, in the order given.

        An id of which nothing is stored is left out.

        :raises InvalidData: a result, or one of its trades, cannot be read.
        """
        return self._portal.call(self._twin.get_many(result_ids))

    def get_by_strategy(
        self, strategy_id: str, *, limit: int = 100, after: str | None = None
    ) -> Sequence[BacktestSummary]:
        """The results of a strategy without their trades, newest first.

        :param after: the id of the last result of the page before.
        """
        return self._portal.call(self._twin.get_by_strategy(strategy_id, limit=limit, after=after))

    def latest(self, strategy_id: str) -> BacktestResult | None:
        """The newest result of a strategy, with all its trades."""
        return self._portal.call(self._twin.latest(strategy_id))

    def best(
        self, metric: Metric, *, limit: int = 10, strategy_id: str | None = None
    ) -> Sequence[BacktestSummary]:
        """Results ranked by a metric, of one strategy or of all; equal ones newest first.

        They come without their trades. Where less is better (the drawdown) the least comes first.
        Results without the metric are left out.
        """
        return self._portal.call(self._twin.best(metric, limit=limit, strategy_id=strategy_id))

    def list(
        self, *, limit: int = 100, after: str | None = None, strict: bool = False
    ) -> Sequence[BacktestSummary]:
        """All results without their trades, by id.

        :param strict: raise `InvalidData` for one that cannot be read, in place of leaving it out.
        """
        return self._portal.call(self._twin.list(limit=limit, after=after, strict=strict))

    def trades(self, result_id: str) -> Iterator[Trade]:
        """The trades of a result in their order, in constant memory; none if there is no result."""
        return self._portal.iterate(self._twin.trades(result_id))


class BacktestStore(BacktestReader):
    """Reads backtest results, and compares what they saw with what is stored."""

    _twin: ports.BacktestStore

    def __init__(self, portal: Portal, twin: ports.BacktestStore) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def verify(self, result_id: str) -> Verification:
        """Compare the candles that a backtest saw with those that are stored now.

        They are compared where they are stored. The fingerprint is computed again as of the commit
        of the data set, so that a damaged history is noticed.

        :raises NotFound: there is no such result.
        :raises InvalidData: the result names no data set or no fingerprint of one, or the history
            no longer reaches back to its commit.
        """
        return self._portal.call(self._twin.verify(result_id))


class BacktestRepository(BacktestReader):
    """Reads and writes backtest results. A result is written once."""

    _twin: ports.BacktestRepository

    def __init__(self, portal: Portal, twin: ports.BacktestRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save(self, result: BacktestResult) -> BacktestResult:
        """Store a result of any number of trades; what returns carries its id.

        In a unit of work, a result that names no versions gets those of its strategy and of the
        formulas that it uses, as they are stored. Saved once more, it keeps them.

        :raises Conflict: a different result is stored under that id.
        """
        return self._portal.call(self._twin.save(result))

    def delete(self, result_id: str) -> bool:
        """Remove a result and its trades; whether there was one."""
        return self._portal.call(self._twin.delete(result_id))


class SymbolBarsReader(Twin):
    """Reads aggregates of one symbol and day. Lists are ordered by day."""

    _twin: ports.SymbolBarsReader

    def __init__(self, portal: Portal, twin: ports.SymbolBarsReader) -> None:
        self._portal = portal
        self._twin = twin

    def get(self, symbol: str, trading_day: date) -> SymbolBars | None:
        """The aggregate of that symbol and day, None if there is none."""
        return self._portal.call(self._twin.get(symbol, trading_day))

    def list(
        self, symbol: str, *, limit: int = 1000, after: date | None = None
    ) -> Sequence[SymbolBars]:
        """The aggregates of a symbol; `after` is the last day of the page before."""
        return self._portal.call(self._twin.list(symbol, limit=limit, after=after))


class SymbolBarsRepository(SymbolBarsReader):
    """Reads and writes aggregates with optimistic concurrency."""

    _twin: ports.SymbolBarsRepository

    def __init__(self, portal: Portal, twin: ports.SymbolBarsRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save(self, bars: SymbolBars) -> SymbolBars:
        """Store a new aggregate (version 0) or a new state of one; its new version returns.

        :raises Conflict: the stored version is not the aggregate's.
        """
        return self._portal.call(self._twin.save(bars))

    def delete(self, symbol: str, trading_day: date) -> bool:
        """Remove an aggregate; whether there was one."""
        return self._portal.call(self._twin.delete(symbol, trading_day))


class CheckpointReader(Twin):
    """Reads checkpoints."""

    _twin: ports.CheckpointReader

    def __init__(self, portal: Portal, twin: ports.CheckpointReader) -> None:
        self._portal = portal
        self._twin = twin

    def get(self, name: str) -> Checkpoint | None:
        """The checkpoint of that name, None if there is none."""
        return self._portal.call(self._twin.get(name))

    def list(self, *, limit: int = 1000, after: str | None = None) -> Sequence[Checkpoint]:
        """All checkpoints by name; `after` is the last name of the page before."""
        return self._portal.call(self._twin.list(limit=limit, after=after))


class CheckpointRepository(CheckpointReader):
    """Reads and writes checkpoints. The later write wins; in a unit of work, a checkpoint that was
    changed since the unit read or wrote it is a `Conflict` when it commits.
    """

    _twin: ports.CheckpointRepository

    def __init__(self, portal: Portal, twin: ports.CheckpointRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save(self, name: str, data: Mapping[str, Any]) -> Checkpoint:
        """Store a JSON object under a name.

        :raises InvalidData: it holds what JSON cannot hold exactly.
        """
        return self._portal.call(self._twin.save(name, data))

    def update(
        self, name: str, change: Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
    ) -> Checkpoint:
        """Replace the object by `change` of it (of None, if there is none) in one atomic step.

        `change` may be called again when somebody was faster, so it should do nothing else.
        """
        return self._portal.call(self._twin.update(name, change))

    def delete(self, name: str) -> bool:
        """Remove a checkpoint; whether there was one."""
        return self._portal.call(self._twin.delete(name))


class OHLCVReader(Twin):
    """Reads raw bars. Ends of ranges are included, the order is ascending."""

    _twin: ports.OHLCVReader

    def __init__(self, portal: Portal, twin: ports.OHLCVReader) -> None:
        self._portal = portal
        self._twin = twin

    def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        """The bars from `start` to `end`; an empty series where there are none."""
        return self._portal.call(self._twin.get_range(key, start, end))

    def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 10000
    ) -> Iterator[CandleSeries]:
        """The range in consecutive, non-empty series of at most `block_rows` each."""
        return self._portal.iterate(self._twin.stream(key, start, end, block_rows=block_rows))

    def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        """Return how many bars there are; an open end is no bound."""
        return self._portal.call(self._twin.count(key, start, end))


class OHLCVRepository(OHLCVReader):
    """Reads and writes raw bars as they came in. A bar is an upsert: the later write wins."""

    _twin: ports.OHLCVRepository

    def __init__(self, portal: Portal, twin: ports.OHLCVRepository) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def save_many(self, key: SeriesKey, candles: CandleData) -> SaveResult:
        """Store bars in one transaction.

        :raises InvalidData: with row and field, before anything is written.
        """
        return self._portal.call(self._twin.save_many(key, candles))

    def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        """Remove the bars from `start` to `end`; how many there were."""
        return self._portal.call(self._twin.delete_range(key, start, end))


class IngestionReader(Twin):
    """The read side of the bookkeeping."""

    _twin: ports.IngestionReader

    def __init__(self, portal: Portal, twin: ports.IngestionReader) -> None:
        self._portal = portal
        self._twin = twin

    @property
    def symbol_bars(self) -> SymbolBarsReader:
        return SymbolBarsReader(self._portal, self._twin.symbol_bars)

    @property
    def bars(self) -> OHLCVReader:
        return OHLCVReader(self._portal, self._twin.bars)

    @property
    def checkpoints(self) -> CheckpointReader:
        return CheckpointReader(self._portal, self._twin.checkpoints)


class IngestionRepository(Twin):
    """The bookkeeping of ingestion: aggregates a symbol and day, raw bars, checkpoints."""

    _twin: ports.IngestionRepository

    def __init__(self, portal: Portal, twin: ports.IngestionRepository) -> None:
        self._portal = portal
        self._twin = twin

    @property
    def symbol_bars(self) -> SymbolBarsRepository:
        return SymbolBarsRepository(self._portal, self._twin.symbol_bars)

    @property
    def bars(self) -> OHLCVRepository:
        return OHLCVRepository(self._portal, self._twin.bars)

    @property
    def checkpoints(self) -> CheckpointRepository:
        return CheckpointRepository(self._portal, self._twin.checkpoints)


class SnapshotStore(Twin):
    """Names for moments: reads take them as ``as_of``.

    A snapshot copies nothing. What it shows is kept beyond `history_days`, until it is deleted.
    """

    _twin: ports.SnapshotStore

    def __init__(self, portal: Portal, twin: ports.SnapshotStore) -> None:
        self._portal = portal
        self._twin = twin

    def create(self, name: str, *, note: str = "") -> Snapshot:
        """Name the present: all that is committed before, and nothing that comes later.

        :raises InvalidData: the name reads as a moment, such as ``2026-11-01``, or as the number of
            a commit.
        :raises Conflict: there is one of this name.
        :raises StorageError: no history is kept.
        """
        return self._portal.call(self._twin.create(name, note=note))

    def get(self, name: str) -> Snapshot:
        """:raises NotFound: there is none of this name."""
        return self._portal.call(self._twin.get(name))

    def list(self, *, limit: int = 1000, after: str | None = None) -> Page[Snapshot]:
        """Those there are, by name.

        :param after: the name of the last one of the page before.
        """
        return self._portal.call(self._twin.list(limit=limit, after=after))

    def delete(self, name: str) -> bool:
        """Forget a name; False if there was none.

        What only this snapshot kept may be deleted from now on.
        """
        return self._portal.call(self._twin.delete(name))


class View(Twin):
    """All that was committed up to a moment, and nothing later: it never changes.

    Symbols, backtest results and bookkeeping keep no history; read them of the storage. A search
    for formulas reads all of them, since only those of now have an index.
    """

    _twin: ports.View

    def __init__(self, portal: Portal, twin: ports.View) -> None:
        self._portal = portal
        self._twin = twin

    @property
    def commit(self) -> Commit:
        """The moment, as a place in the order of commits."""
        return self._twin.commit

    @property
    def candles(self) -> CandleReader:
        return CandleReader(self._portal, self._twin.candles)

    @property
    def formulas(self) -> FormulaReader:
        return FormulaReader(self._portal, self._twin.formulas)

    @property
    def strategies(self) -> StrategyReader:
        return StrategyReader(self._portal, self._twin.strategies)


class AcquiredSlot(Twin):
    """A slot of a rate limit, for as long as its block runs.

    Use it once, as an asynchronous context manager. It may be entered by many tasks, each with one
    of its own: they are served in the order in which they came. Leaving never fails: where it
    cannot be told to the store, the slot counts until its lease ends.
    """

    _twin: ports.AcquiredSlot

    def __init__(self, portal: Portal, twin: ports.AcquiredSlot) -> None:
        self._portal = portal
        self._twin = twin

    def __enter__(self) -> Slot:
        """Wait for a slot and take it; a cancellation meanwhile takes none.

        :raises QuotaExhausted: at once; a day's quota does not allow it any more.
        :raises RateLimited: no slot became free in time.
        :raises ConnectionFailed: the store did not answer in time. A slot is never given away
            without it.
        """
        return self._portal.call(self._twin.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self._portal.call(self._twin.__aexit__(kind, error, traceback))


class RateLimiter(Twin):
    """Slots of rate limits that several processes share.

    A slot counts from entering until a window after leaving, so that the far end never sees more
    than the limit, however long requests travel. Of a day's quota it counts from entering.
    """

    _twin: ports.RateLimiter

    def __init__(self, portal: Portal, twin: ports.RateLimiter) -> None:
        self._portal = portal
        self._twin = twin

    @property
    def limits(self) -> RateLimits:
        """The limits that are set."""
        return self._twin.limits

    def acquire(
        self,
        name: str,
        account: str = "",
        *,
        cost: int = 1,
        timeout: float | None = 10.0,
        longest: float = 30.0,
    ) -> AcquiredSlot:
        """A slot of all limits of a name: ``async with limits.acquire("kis", account) as slot``.

        :param account: each has the limits for itself.
        :param cost: how much it counts.
        :param timeout: seconds to wait at most; None waits as long as it takes.
        :param longest: seconds; what is not left by then, as when its process has died, counts as
            left. Give more than any request can take.
        :raises InvalidData: nothing is set for the name, a limit never allows the cost, or a value
            is out of range.
        """
        return AcquiredSlot(
            self._portal,
            self._twin.acquire(name, account, cost=cost, timeout=timeout, longest=longest),
        )

    def state(self, name: str, account: str = "") -> RateLimitState:
        """What counts of the limits of an account now.

        :raises InvalidData: nothing is set for the name.
        """
        return self._portal.call(self._twin.state(name, account))

    def accounts(self, name: str) -> Sequence[str]:
        """Those of which something was counted, sorted.

        :raises InvalidData: nothing is set for the name.
        """
        return self._portal.call(self._twin.accounts(name))

    def reset(self) -> None:
        """Forget all that was counted, of all names and by all processes: for tests."""
        self._portal.call(self._twin.reset())


class Repositories(Twin):
    """What a unit of work reads and writes with."""

    _twin: ports.Repositories

    def __init__(self, portal: Portal, twin: ports.Repositories) -> None:
        self._portal = portal
        self._twin = twin

    @property
    def candles(self) -> CandleRepository:
        return CandleRepository(self._portal, self._twin.candles)

    @property
    def symbols(self) -> SymbolRepository:
        return SymbolRepository(self._portal, self._twin.symbols)

    @property
    def formulas(self) -> FormulaRepository:
        return FormulaRepository(self._portal, self._twin.formulas)

    @property
    def strategies(self) -> StrategyRepository:
        return StrategyRepository(self._portal, self._twin.strategies)

    @property
    def backtests(self) -> BacktestRepository:
        return BacktestRepository(self._portal, self._twin.backtests)

    @property
    def ingestion(self) -> IngestionRepository:
        return IngestionRepository(self._portal, self._twin.ingestion)

    @property
    def events(self) -> EventCollector:
        return EventCollector(self._portal, self._twin.events)


class UnitOfWork(EnteredOnce, Repositories):
    """Changes in every store that become visible together, or not at all.

    Use it once, as an asynchronous context manager. Leaving without `commit` rolls back. Reads
    through it see its own changes; nobody else sees them before the commit. Afterwards every use
    raises `StorageError`.
    """

    _twin: ports.UnitOfWork

    def __init__(self, portal: Portal, twin: ports.UnitOfWork) -> None:
        super().__init__(portal, twin)
        self._twin = twin

    def repository(self, model: Model[R]) -> Blocking[R]:
        """The repository of a declared model, within this unit of work.

        :raises StorageError: the storage was opened without it.
        """
        return Blocking(self._portal, self._twin.repository(model))

    def commit(self) -> CommitResult:
        """Make the changes visible, then deliver the events.

        Return which commit it was, to read ``as_of`` it later.

        :raises Conflict: another unit of work changed the same document or aggregate first;
            nothing of this one is stored.
        """
        return self._portal.call(self._twin.commit())

    def rollback(self) -> None:
        """Forget the changes. Harmless when there are none, or when it is over already.

        Who leaves the block without it and without `commit` finds in the log what was dropped.
        """
        self._portal.call(self._twin.rollback())
