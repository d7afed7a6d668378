"""What writes candles to ClickHouse, each write under the version that it was given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

from jts_storage.clickhouse import statements
from jts_storage.clickhouse.cache import DEFAULT_BYTES
from jts_storage.clickhouse.candle_mappers import rows_to_columns
from jts_storage.clickhouse.candle_reader import ClickHouseCandleReader
from jts_storage.clickhouse.change_log import Change, Spans, touching
from jts_storage.clickhouse.data_sets import ClickHouseDataSets
from jts_storage.clickhouse.history import CandleHistory, Kept, Look
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.parquet import Target, import_files
from jts_storage.clickhouse.statements import parameters
from jts_storage.clickhouse.stored_ends import StoredEnds
from jts_storage.clickhouse.tables import Tables
from jts_storage.clickhouse.transport import WRITE_ROWS, Transport
from jts_storage.clickhouse.versions import Turns, WritesUnderWay
from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.candle_changes import CandleChanges
from jts_storage.domain.checks import FIRST_MS, LAST_MS
from jts_storage.domain.rows import SeriesRows
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import NotFound, SchemaDrift
from jts_storage.ports.lake import Lake

_under_way = WritesUnderWay()  # of the process: two managers may write the same series
_turns = Turns()


class ClickHouseCandleWriter(ClickHouseCandleReader, ABC):
    """What a unit of work and imports write through, each under the version that it was given.

    :param history: whether what is replaced or deleted is kept.
    """

    def __init__(
        self,
        manager: ClickHouseManager,
        *,
        cache_bytes: int = DEFAULT_BYTES,
        max_age: float = 0.0,
        tables: Tables | None = None,
        history: bool = True,
    ) -> None:
        super().__init__(manager, cache_bytes=cache_bytes, max_age=max_age, tables=tables)
        self._history = self._kept_history() if history else None

    @property
    def tables(self) -> Tables:
        """The tables that it writes to."""
        return self._tables

    @property
    def keeps_history(self) -> bool:
        return self._history is not None

    @property
    def has_history(self) -> bool:
        """Whether what is replaced is kept; asks an older schema each time."""
        return self._history is not None and self._history.is_there

    def forget_history(self, before: int, snapshots: Sequence[int]) -> int:
        """Delete what was replaced before a version and no snapshot shows; return how much."""
        return self._history.forget(before, snapshots) if self._history is not None else 0

    def _kept_history(self) -> CandleHistory:
        ends = StoredEnds(self._manager, self._candles, self._cache.is_logged)
        return CandleHistory(self._manager, self._candles, self._tables.history, ends)

    def data_sets(self) -> ClickHouseDataSets:
        """Tells of many candles as of a version without reading them."""
        return ClickHouseDataSets(self._manager, self._tables)

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

    @abstractmethod
    async def import_parquet(self, key: SeriesKey, paths: Sequence[Path]) -> int:
        """Store the candles of Parquet files under `key`; how many rows the files have.

        The embedded engine reads files of the kit's own types itself. Of equal timestamps the
        later file's counts.

        :raises InvalidData: a file cannot be read, or holds a row that no store may hold; of this
            file and those after it nothing is written.
        """

    def apply(self, changes: CandleChanges, version: int) -> None:
        """Store the net effect of a unit of work. Doing it again with the same version, whole or
        in part and whatever was written since, changes nothing more.
        """
        for deletion in changes.deletions:
            # Under the lower version, so that rows of the same unit of work survive the deletion.
            self.erase(*deletion, version, source=changes.source)
        with _under_way.of(changes.keys):
            for rows in changes.pieces(WRITE_ROWS):
                self.write_rows(rows, version + 1, source=changes.source)

    def write(
        self, series: CandleSeries, version: int, *, again: bool = False, source: str = ""
    ) -> None:
        """Store a series, or a part of one; parts under one version may follow each other.

        :param again: it may be there already, under this version.
        """
        self.write_rows(SeriesRows.of(series), version, again=again, source=source)

    def write_rows(
        self, rows: SeriesRows, version: int, *, again: bool = False, source: str = ""
    ) -> None:
        """As `write`, of many series."""
        self.check_writable()
        with _under_way.of(rows.keys):
            for together in rows.pieces(WRITE_ROWS):
                self._insert(together, version, self._keep(together, version, source), again=again)

    def write_found(self, rows: SeriesRows, version: int, look: Look | None, begun: int) -> None:
        """As `write_rows`, of rows that are one insert, by what was found where they come.

        :param begun: the number of the last change before anybody looked.
        """
        with _under_way.of(rows.keys) as write, _turns.of((*self._where, rows.keys[0])):
            if look is not None and self._is_changed(rows, begun, besides=write):
                look = None  # it shows what another write has replaced meanwhile
            self._insert(rows, version, self._keep(rows, version, "", look))

    def look(self, rows: SeriesRows) -> Look | None:
        """What is stored where rows of one series come; None if only the server can tell.

        An embedded store belongs to this process, whose log tells of all that is written to it.
        """
        if self._history is None or not self._cache.is_logged() or not self._history.is_there:
            return None
        return self._history.look(rows)

    def replace_rows(
        self, rows: SeriesRows, version: int, *, source: str, is_settled: bool
    ) -> None:
        """As `write_rows`, of one insert; rows that change nothing may stay as they are.

        They may if nobody writes any more under a version between theirs and this one, which would
        count then. A server is written to by other processes, whose writes this one cannot know of.

        :param is_settled: whether no commit of a lower version is decided and still to be stored.
        """
        self.check_writable()
        begun = self._manager.changes.number
        with _under_way.of(rows.keys) as write:
            kept = self._keep(rows, version, source)
            may_stay = is_settled and self._cache.is_logged()
            if kept.since is None or not may_stay or self._is_changed(rows, begun, besides=write):
                self._insert(rows, version, kept)
            else:
                self._insert(rows.where(kept.since == 0), version, Kept(new=kept.new))

    @property
    def _where(self) -> tuple[object, ...]:
        """The database: a save to another one may take long, and is not waited for."""
        config = self._manager.config
        # A process has one embedded engine, however its path is spelled.
        return () if config.is_embedded else config.hosts, config.database

    def _keep(self, rows: SeriesRows, version: int, source: str, look: Look | None = None) -> Kept:
        if self._history is None:
            return Kept()
        return self._history.keep(rows, version, source, look)

    def _insert(self, rows: SeriesRows, version: int, kept: Kept, *, again: bool = False) -> None:
        if not rows.rows:
            return
        more = {} if kept.since is None else {"since": kept.since}
        # Until they are merged with what they replace, FINAL has to merge them in any case.
        settings = statements.AS_THEY_ARE if kept.compete(rows.rows) else None
        with self._touching(rows.spans) as change, self._answers_kept(rows, kept, change):
            self._manager.insert_columns(
                self._candles.name,
                rows_to_columns(self._candles, rows, version=version, **more),
                settings=partial(statements.write_settings, settings),
                idempotent=True,
                is_there=partial(self._is_written, rows, version),
                may_be_there=again,
            )

    def _is_changed(self, rows: SeriesRows, begun: int, *, besides: object) -> bool:
        """Whether anybody else has written these series since then, or is writing them."""
        if _under_way.is_any_written(rows.keys, besides=besides):
            return True
        keys = set(rows.keys)
        _, changes = self._manager.changes.since(begun, under_way=True)
        return any(
            change.touches(self._candles.name)
            and (change.spans is None or not keys.isdisjoint(change.spans))
            for change in changes
        )

    @contextmanager
    def _touching(self, spans: Spans, *, deletes: bool = False) -> Iterator[Change]:
        """Say which candles are written meanwhile, so that all others may be held on to."""
        change = Change(self._candles.name, spans, deletes)
        # The embedded session tells of each statement itself.
        is_embedded = self._manager.is_embedded
        with touching(change) if is_embedded else self._manager.changes.change(change):
            yield change

    def _answers_kept(
        self, rows: SeriesRows, kept: Kept, change: Change
    ) -> AbstractContextManager[None]:
        is_append = kept.is_append and self._manager.is_embedded
        return self._cache.appending(rows, change) if is_append else nullcontext()

    def _import_files(
        self, key: SeriesKey, paths: Sequence[Path], versions: Callable[[int], int]
    ) -> int:
        is_new = self._history is None or self._history.is_untouched(key)
        write = partial(self.write, source="import of Parquet files")
        target = Target(self._manager, self._candles, write, versions, may_read_files=is_new)
        with _under_way.of([key]), self._touching({key: (FIRST_MS, LAST_MS)}):
            return import_files(target, key, paths)

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
        return int(self._manager.execute(statements.select_highest_version(self._candles))[0][0])

    def is_one_part(self, changes: CandleChanges) -> bool:
        """Return whether these make one part, which is there in whole or not at all."""
        self.check_writable()
        # By another partition key, rows may fall into any number of parts.
        if changes.deletions or self._partition_key not in ("", self._by_year):
            return False
        if changes.rows > WRITE_ROWS:
            return False
        rows = changes.upserts
        # One insert of two symbols may be one on each of two shards, of which one fails.
        if self._is_distributed and len({key.symbol for key in rows.keys}) > 1:
            return False
        return not self._partition_key or len({end.year for end in rows.ends}) == 1

    def erase(
        self, key: SeriesKey, first: int, last: int, version: int, *, source: str = ""
    ) -> int:
        """Delete what is older than `version`; return how many rows this version has deleted."""
        self.check_writable()
        bound = parameters(key, first, last) | {"version": version}
        with _turns.of((*self._where, key)):
            if self._history is not None:
                self._history.keep_deleted(self._source(), key, first, last, version, source)
            with _under_way.of([key]), self._touching({key: (first, last)}, deletes=True):
                self._manager.execute(
                    statements.delete(self._source()),
                    bound,
                    settings=statements.write_settings,
                    idempotent=True,
                )
        count = statements.count_deleted(self._candles)
        return int(self._manager.execute(count, bound)[0][0])

    def _is_written(self, together: SeriesRows, version: int, transport: Transport) -> bool:
        """Return whether all rows of an insert are there, so that it need not be repeated."""
        # No other insert of this version has rows in between: series are written in their order.
        first_key, last_key = statements.names_of((together.keys[0], together.keys[-1]))
        first, last = map(checks.to_ms, together.ends)
        bound = {
            "first_key": first_key,
            "last_key": last_key,
            "first_symbol": first_key[0],
            "last_symbol": last_key[0],
            "first": first,
            "last": last,
            "version": version,
        }
        written = transport.execute(statements.count_written(self._candles), bound)[0][0]
        return bool(written == together.rows)
