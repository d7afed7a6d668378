"""Candles in ClickHouse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import date, datetime, timedelta
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from jts_storage.clickhouse import statements
from jts_storage.clickhouse.cache import DEFAULT_BYTES, RangeCache
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.mappers import (
    series_from_columns,
    series_from_rows,
    series_of_several,
    series_to_columns,
    settled,
)
from jts_storage.clickhouse.parquet import import_files
from jts_storage.clickhouse.statements import (
    LATEST,
    ORIGINAL,
    STORED,
    STREAM_SETTINGS,
    Source,
    parameters,
)
from jts_storage.clickhouse.transport import Transport
from jts_storage.clickhouse.versions import Versions, WriteClock, counted_from
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.resampling import check_coarser, zone_name
from jts_storage.domain.results import Coverage, SaveResult
from jts_storage.domain.series import CandleSeries, series_of
from jts_storage.errors import NotFound, SchemaDrift
from jts_storage.ports.candles import CandleData, Lake
from jts_storage.staging import SeriesChanges, compare, pieces

WRITE_ROWS = 1_000_000
"""Rows a single insert: below the server's block size, so that each is one part, all or nothing."""

WRITE_ROWS_TOGETHER = 100_000
_SHORT_ROWS = 10_000
"""A series of so many rows is written with others in one insert, and its names row by row."""

_FEW_KEYS = 8
"""So many are read one by one, side by side, and may be held; more are read together."""

_KEYS_A_READ = 250

_MERGE_SECONDS = 60.0
"""How long doubles that were met are taken to be there: the engine merges when it likes."""

_IMPORT_VERSIONS = 1_000_000
"""More than an import has parts; a version is a nanosecond."""

_BY_YEAR = "toYear(timestamp)"
_EPOCH_DAY = date(1970, 1, 1)
_versions = Versions()
_FIRST_MS, _LAST_MS = checks.to_ms(checks.FIRST_TIMESTAMP), checks.to_ms(checks.LAST_TIMESTAMP)


class ClickHouseCandleRepository:
    """A `CandleRepository` over one `ClickHouseManager`, its blocking work done in threads.

    :param cache_bytes: how much of what was read to hold, to be given again as long as the table
        is provably unchanged; 0 holds nothing.
    :param clock: gives versions to imports; without one ClickHouse's own clock does.
    """

    def __init__(
        self,
        manager: ClickHouseManager,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        clock: WriteClock | None = None,
    ) -> None:
        self._manager = manager
        self._clock = clock
        self._cache = RangeCache(manager, cache_bytes) if cache_bytes else None
        self._is_ours = False
        self._partition_key = ""
        self._doubled_at: dict[SeriesKey, float] = {}

    async def save_many(
        self, key: SeriesKey, candles: CandleData, *, detail: bool = False
    ) -> SaveResult:
        return await self._manager.run(self._save_many, key, candles, detail)

    async def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        first, last = checks.range_ms(start, end)
        return await self._manager.run(self._delete_range, key, first, last)

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        first, last = checks.range_ms(start, end)
        return await self._manager.run(self._get_range, key, first, last)

    async def get_ranges(
        self, keys: Iterable[SeriesKey], start: datetime, end: datetime
    ) -> dict[SeriesKey, CandleSeries]:
        unique = list(dict.fromkeys(checks.several(keys, SeriesKey, "keys")))
        ends = checks.range_ms(start, end)
        if len(unique) <= _FEW_KEYS:
            found = await asyncio.gather(*(self.get_range(key, start, end) for key in unique))
            return dict(zip(unique, found, strict=True))
        found_of_all: dict[SeriesKey, CandleSeries] = {}
        for start_at in range(0, len(unique), _KEYS_A_READ):
            part = unique[start_at : start_at + _KEYS_A_READ]
            found_of_all |= await self._manager.run(self._get_several, part, *ends)
        return found_of_all

    async def get_latest(self, key: SeriesKey, count: int = 1) -> CandleSeries:
        checks.whole(count, "count", least=1)
        return await self._manager.run(self._get_latest, key, count)

    async def get_coverage(self, key: SeriesKey) -> Coverage:
        return await self._manager.run(self._get_coverage, key)

    async def coverage_by_day(self, key: SeriesKey, *, timezone: str = "UTC") -> dict[date, int]:
        columns = await self._read(statements.select_days, key, timezone=zone_name(timezone))
        if not columns:
            return {}
        days = (_EPOCH_DAY + timedelta(days=day) for day in columns["day"].tolist())
        return dict(zip(days, columns["rows"].tolist(), strict=True))

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        ends = checks.range_ms(start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP)
        bounded = start is not None or end is not None
        columns = await self._read(
            lambda source: statements.select_count(source, bounded=bounded), key, *ends
        )
        return int(columns["rows"][0]) if columns else 0

    async def resample(
        self,
        key: SeriesKey,
        timeframe: Timeframe,
        start: datetime,
        end: datetime,
        *,
        timezone: str = "UTC",
    ) -> CandleSeries:
        target = member(Timeframe, timeframe, "timeframe")
        check_coarser(key.timeframe, target)
        ends = checks.range_ms(start, end)
        columns = await self._read(
            lambda source: statements.select_resampled(source, key, target),
            key,
            *ends,
            timezone=zone_name(timezone),
        )
        if columns and _may_overflow(columns):
            series = await self.get_range(key, start, end)
            return series.resample(target, timezone=timezone)
        return series_from_columns(SeriesKey(key.symbol, target, key.exchange), columns)

    async def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 262_144
    ) -> AsyncIterator[CandleSeries]:
        # Each block is a statement of its own: nothing is held open between them, and a broken
        # connection costs a repetition, not the stream.
        first, last = checks.range_ms(start, end)
        checks.whole(block_rows, "block_rows", least=1)
        while first <= last:
            block = await self._manager.run(self._get_block, key, first, last, block_rows)
            if len(block):
                yield block
            if len(block) < block_rows:
                return
            first = int(block.columns.timestamp[-1]) + 1

    async def list_keys(
        self, *, limit: int = 1_000, after: SeriesKey | None = None
    ) -> Sequence[SeriesKey]:
        checks.whole(limit, "limit", below=2**31)
        return await self._manager.run(self._list_keys, limit, after)

    async def import_parquet(self, key: SeriesKey, paths: Sequence[Path]) -> int:
        """Store the candles of Parquet files under `key`; how many rows the files have.

        The embedded engine reads files of the kit's own types itself. Of equal timestamps the
        later file's counts.

        :raises InvalidData: a file cannot be read, or holds a row that no store may hold; of this
            file and those after it nothing is written.
        """
        if self._clock is None:
            return await self._manager.run(self._import, key, paths)
        await self._manager.run(self.check_writable)
        async with self._clock.place(versions=_IMPORT_VERSIONS, series=[f"candles {key}"]) as place:
            return await self._manager.run(
                import_files, self._manager, key, paths, self.write, counted_from(place.version)
            )

    async def import_lake(self, lake: Lake, job_id: str) -> int:
        files = await self._manager.run(lake.job_files, job_id)
        if not files:
            raise NotFound(
                f"The lake has no job {job_id!r}.", remedy="list_jobs() has their names."
            )
        paths: dict[SeriesKey, list[Path]] = {}
        for file in files:
            paths.setdefault(file.key, []).append(file.path)
        return sum([await self.import_parquet(key, paths[key]) for key in paths])

    # ---- the unit of work writes through these

    def apply(self, changes: Iterable[SeriesChanges], version: int) -> None:
        """Store the net effect of a unit of work. Doing it again with the same version, whole or
        in part and whatever was written since, changes nothing more.
        """
        upserts = []
        for change in changes:
            for first, last in change.deleted:
                self.erase(change.key, first, last, version)
            upserts.append(CandleSeries.trusted(change.key, change.upserts))
        self._write_all(upserts, version + 1)

    def write(self, series: CandleSeries, version: int, *, again: bool = False) -> None:
        """Store a series, or a part of one; parts under one version may follow each other.

        :param again: it may be there already, under this version.
        """
        self._write_all([series], version, again=again)

    def _write_all(
        self, many: Iterable[CandleSeries], version: int, *, again: bool = False
    ) -> None:
        self.check_writable()
        for together in inserts_of(many):
            self._manager.insert_columns(
                "candles",
                series_to_columns(together, version),
                settings=statements.write_settings,
                idempotent=True,
                is_there=partial(_is_written, together, version),
                may_be_there=again,
            )

    def check_writable(self) -> None:
        """:raises SchemaDrift: the table has the original schema, or does not exist."""
        if not self._source().has_versions:
            raise SchemaDrift(
                "Table candles has the original schema, which can be read but not written: "
                "it knows no versions.",
                remedy="Run `jts-storage migrate up`; no row is lost.",
            )

    def latest_version(self) -> int:
        """Return the highest version that is stored; 0 if there is none."""
        self.check_writable()
        return int(self._manager.execute(statements.SELECT_HIGHEST_VERSION)[0][0])

    def is_one_part(self, changes: Sequence[SeriesChanges]) -> bool:
        """Whether these make one part, which is there in whole or not at all."""
        self.check_writable()
        if any(change.deleted for change in changes) or self._partition_key not in ("", _BY_YEAR):
            return False
        many = [CandleSeries.trusted(change.key, change.upserts) for change in changes]
        if len(list(inserts_of(many))) > 1:
            return False
        ends = [end for series in many for end in (series.start, series.end) if end is not None]
        return not self._partition_key or len({end.year for end in ends}) == 1

    def erase(self, key: SeriesKey, first: int, last: int, version: int) -> int:
        """Delete what is older than `version`; how many rows this version has deleted."""
        self.check_writable()
        bound = parameters(key, first, last) | {"version": version}
        self._manager.execute(
            statements.DELETE, bound, settings=statements.write_settings, idempotent=True
        )
        return int(self._manager.execute(statements.COUNT_DELETED, bound)[0][0])

    # ---- blocking

    def _save_many(self, key: SeriesKey, candles: CandleData, detail: bool) -> SaveResult:
        series, duplicates = series_of(key, candles)
        counts = {"inserted": 0, "replaced": 0, "unchanged": 0} if detail else {}
        for block in pieces(series, WRITE_ROWS) if detail else ():
            stamps = block.columns.timestamp
            stored = self._get_range(key, int(stamps[0]), int(stamps[-1]))
            for name, rows in compare(stored, block).items():
                counts[name] += rows
        if len(series):
            stamps = series.columns.timestamp
            with self._versions(key, int(stamps[0]), int(stamps[-1])) as versions:
                self.write(series, versions(1))
        return SaveResult(len(series), duplicates, **counts)

    def _delete_range(self, key: SeriesKey, first: int, last: int) -> int:
        with self._versions(key, first, last) as versions:
            return self.erase(key, first, last, versions(1))

    def _import(self, key: SeriesKey, paths: Sequence[Path]) -> int:
        with self._versions(key) as versions:
            return import_files(self._manager, key, paths, self.write, versions)

    def _versions(
        self, key: SeriesKey, first: int = _FIRST_MS, last: int = _LAST_MS
    ) -> AbstractContextManager[Callable[[int], int]]:
        """Give versions to a write that has none from a unit of work.

        They come from the server's clock, above what is stored in the range; this host's clock is
        not asked.
        """
        self.check_writable()
        bound = parameters(key, first, last)

        def least() -> int:
            return int(self._manager.execute(statements.SELECT_NEXT_VERSION, bound)[0][0])

        return _versions.of(key, least)

    def _get_range(self, key: SeriesKey, first: int, last: int) -> CandleSeries:
        checks.instance(key, SeriesKey, "key")
        if self._cache is not None:
            return self._cache.get(key, first, last, lambda: self._read_range(key, first, last))
        return self._read_range(key, first, last)

    def _read_range(self, key: SeriesKey, first: int, last: int) -> CandleSeries:
        """FINAL merges row by row what may hold doubles. Rows as they lie come a fifth quicker, and
        show whether they do; where they do, the next reads spare the attempt.
        """
        attempted = self._doubled_at.get(key, -inf)
        if self._source().has_versions and monotonic() - attempted >= _MERGE_SECONDS:
            rows = self._manager.read_columns(
                statements.select_rows(self._source()), parameters(key, first, last), stored=STORED
            )
            series = series_from_rows(key, rows)
            if series is not None:
                self._doubled_at.pop(key, None)
                return series
            self._doubled_at[key] = monotonic()
        query = statements.select_range(self._source())
        return series_from_columns(
            key, self._manager.read_columns(query, parameters(key, first, last), stored=STORED)
        )

    def _get_several(
        self, keys: Sequence[SeriesKey], first: int, last: int
    ) -> dict[SeriesKey, CandleSeries]:
        names = statements.names_of(keys)
        hashes = self._manager.execute(statements.SELECT_HASHES, {"keys": list(names)})[0][0]
        if not self._source().has_versions or len(set(hashes)) < len(keys):
            return {key: self._get_range(key, first, last) for key in keys}
        columns = self._manager.read_columns(
            statements.SELECT_SEVERAL,
            {"keys": names, "first": first, "last": last},
            stored=STORED,
        )
        return series_of_several(dict(zip(hashes, keys, strict=True)), columns)

    def _get_block(self, key: SeriesKey, first: int, last: int, rows: int) -> CandleSeries:
        query = statements.select_range(self._source(), limit=rows)
        columns = self._manager.read_columns(
            query, parameters(key, first, last), stored=STORED, settings=STREAM_SETTINGS
        )
        return series_from_columns(key, columns)

    def _get_latest(self, key: SeriesKey, count: int) -> CandleSeries:
        return self._end(key, count, newest=True).tail(count)

    def _get_coverage(self, key: SeriesKey) -> Coverage:
        last = self._end(key, 1, newest=True)
        first = self._end(key, 1, newest=False) if len(last) else last
        return Coverage(first.start, last.end)

    def _end(self, key: SeriesKey, count: int, *, newest: bool) -> CandleSeries:
        """At least `count` candles from one end of the series, or all there are."""
        asked = 2 * count + 2
        while True:
            query = statements.select_end(self._source(), asked, newest=newest)
            bound = parameters(key, _FIRST_MS, _LAST_MS)
            columns = self._manager.read_columns(query, bound, stored=STORED)
            is_cut = len(columns.get("ms", ())) == asked
            series = settled(key, columns, is_cut=is_cut)
            if len(series) >= count or not is_cut:
                return series
            asked *= 4

    def _list_keys(self, limit: int, after: SeriesKey | None) -> list[SeriesKey]:
        found: list[SeriesKey] = []
        cursor = after.sort_key if after else ("", "", "")
        thinned = self._keys_with_deletions()
        while True:
            bound = dict(zip(("symbol", "exchange", "timeframe"), cursor, strict=True))
            page = self._manager.execute(statements.SELECT_KEYS, bound | {"limit": limit})
            for names in page:
                symbol, exchange, timeframe = cursor = names
                key = SeriesKey(symbol, Timeframe(timeframe), exchange)
                if names not in thinned or len(self._get_latest(key, 1)):
                    found.append(key)
            if len(page) < limit or len(found) >= limit:
                return found[:limit]

    def _keys_with_deletions(self) -> set[tuple[str, ...]]:
        if not self._source().has_versions:
            return set()
        return {tuple(row) for row in self._manager.execute(statements.SELECT_KEYS_WITH_DELETIONS)}

    async def _read(
        self, build: Any, key: SeriesKey, first: int = _FIRST_MS, last: int = _LAST_MS, **more: Any
    ) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            query = build(self._source())
            bound = parameters(key, first, last) | more
            return self._manager.read_columns(query, bound, stored=STORED)

        return await self._manager.run(read)

    def _source(self) -> Source:
        if self._is_ours:
            return LATEST
        found = self._manager.execute(statements.SELECT_ENGINE)
        if not found:
            raise SchemaDrift(
                "Table candles does not exist.", remedy="Run `jts-storage migrate up`."
            )
        # The original table is asked for each time: a migration may replace it at any moment.
        engine, partition_key = found[0]
        is_distributed = engine == "Distributed"
        # What lies behind is not asked, so it may be split by year too.
        self._partition_key = _BY_YEAR if is_distributed else partition_key
        self._is_ours = "Replacing" in engine or is_distributed
        return LATEST if self._is_ours else ORIGINAL


def inserts_of(many: Iterable[CandleSeries]) -> Iterator[list[CandleSeries]]:
    """What each insert is to hold: a long series in pieces, and many short ones together."""
    together: list[CandleSeries] = []
    rows = 0
    for series in many:
        if len(series) > _SHORT_ROWS:
            yield from ([piece] for piece in pieces(series, WRITE_ROWS))
        elif len(series):
            together.append(series)
            rows += len(series)
            if rows > WRITE_ROWS_TOGETHER:
                yield together
                together, rows = [], 0
    if together:
        yield together


def _is_written(together: Sequence[CandleSeries], version: int, transport: Transport) -> bool:
    """Whether all rows of an insert are there, so that it need not be repeated."""
    ends = [series.columns.timestamp[[0, -1]] for series in together]
    bound = {
        "keys": statements.names_of(series.key for series in together),
        "first": min(int(first) for first, _ in ends),
        "last": max(int(last) for _, last in ends),
        "version": version,
    }
    written = transport.execute(statements.COUNT_WRITTEN, bound)[0][0]
    return bool(written == sum(map(len, together)))


def _may_overflow(columns: dict[str, Any]) -> bool:
    rows = zip(columns["largest"].tolist(), columns["rows"].tolist(), strict=True)
    return any(largest * count >= checks.VOLUME_LIMIT for largest, count in rows)
