"""A table copied into another in ranges, each compared before it counts as done.

Statements on the two tables are text: a migration is frozen and speaks of the columns of its time,
whatever the models say today.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, Protocol

from clickhouse_sqlalchemy import engines, types
from sqlalchemy import Column, MetaData, Table, func, insert, literal_column, select, text
from sqlalchemy.schema import CreateTable

from jts_storage.clickhouse import system
from jts_storage.clickhouse.constructs import ddl_of, text_of
from jts_storage.clickhouse.sql import literal
from jts_storage.errors import StorageError
from jts_storage.migrate.reports import Progress, Report

WRITTEN = "bitShiftLeft(toUInt64(splitByChar('_', _part)[3]), 32) + _part_offset"
"""The order in which rows were inserted into a MergeTree: by the number of their first block, then
by their place in the part. Merges keep it for rows of the same key. It is below any version that
the kit gives, which are nanoseconds of today."""

# Without the token that other inserts have: one statement may make many blocks, on several hosts,
# and each range is compared, so that a block that was taken for another would be told.
_WRITING = {
    "async_insert": 0,
    "insert_deduplicate": 0,
    "max_partitions_per_insert_block": 0,
    "distributed_foreground_insert": 1,
}

_CATCHING_UP = 5
"""How often at most new rows are brought over before a table takes over; each time they are fewer,
and what comes after the last is brought over when it has taken over."""


class Execute(Protocol):
    """Sends a statement and gives its rows."""

    def __call__(self, sql: str, /, *, settings: Mapping[str, Any] | None = None) -> Any: ...


def table_names(execute: Execute) -> list[str]:
    """The tables of the database, in the order of their names."""
    name = system.tables.c.name
    query = select(name).where(system.is_here(system.tables)).order_by(name)
    return [name for (name,) in execute(text_of(query))]


def on_every_host(name: str, cluster: str | None) -> str:
    """A table of which each host has its own: what JTS filled was replicated by nobody."""
    return f"clusterAllReplicas({cluster}, currentDatabase(), {name})" if cluster else name


@dataclass(frozen=True, slots=True)
class Copy:
    """How rows of one table become rows of another.

    :param values: what each column of the target is made of.
    :param key: columns of which each combination is one row.
    :param latest: what is highest in the one that counts, of several rows with one key.
    :param compared: what must be equal in both tables, by any name, computed from their columns.
    :param summed: integers made of the names of `compared`, whose sums are compared too.
    :param grouped_by: by what, made of the same names, rows are counted and summed.
    :param by_range: whether to cut the source by symbol, timeframe and timestamp.
    :param only_latest: whether the target gets no other rows than those that count.
    :param source_is_ours: the source is a table of versions, to be read with FINAL.
    :param source_where: a condition on its rows.
    :param is_repeatable: whether the target is a table of versions, in which writing the same
        rows again changes nothing.
    :param version: the column of the target that has the versions of the source; then rows that
        came late are found by it, and somebody may write meanwhile. It and the key are compared,
        each by its own name.
    """

    values: Mapping[str, str]
    key: Sequence[str]
    latest: str
    compared: Mapping[str, str]
    summed: Sequence[str]
    grouped_by: Mapping[str, str]
    by_range: bool = True
    only_latest: bool = False
    source_is_ours: bool = False
    source_where: str = "1"
    is_repeatable: bool = True
    version: str | None = None

    def insert(self, source: str, target: str, where: str = "1") -> str:
        """Writes the rows of the source that meet a condition."""
        chosen = _listed(self.values)
        rows = (
            self._latest_rows(source, where, chosen)
            if self.only_latest
            else f"SELECT {chosen} FROM {self._from(source, where)}"
        )
        return f"INSERT INTO {target} ({', '.join(self.values)}) {rows}"

    def insert_lacking(self, source: str, target: str, where: str = "1") -> str:
        """Writes the rows that the target has not, under the version that they have.

        Of these it may have a later one: then they change nothing.
        """
        assert self.version is not None
        told_by = (*self.key, self.version)
        ours = ", ".join(self.values[name] for name in told_by)
        # Both may be distributed: the engine refuses to ask each shard for what all of them have.
        is_lacking = (
            f"({ours}) GLOBAL NOT IN (SELECT {', '.join(told_by)} FROM {target} WHERE {where})"
        )
        return self.insert(source, target, f"({where}) AND {is_lacking}")

    def insert_newer(self, source: str, target: str, version: int) -> str:
        """Writes the rows above a version that the target has not, replaced ones among them."""
        # Without FINAL, which would read the whole key: those that are replaced are few.
        newer = replace(self, source_is_ours=False)
        return newer.insert_lacking(source, target, f"{self.version} > {version}")

    def comparison(self, source: str, target: str, where: str = "1") -> str:
        """Finds the groups that have other rows in the target than in the source."""
        chosen = _listed(self.compared)
        names = ", ".join(self.compared)
        texts = ", ".join(f"toString({name})" for name in self.compared)
        sums = [
            "sum(side)",
            *(f"sum(side * {value})" for value in self.summed),
            f"sum(side * reinterpret(cityHash64({texts}), 'Int64'))",
        ]
        final = " FINAL" if self.is_repeatable else ""
        return (
            f"SELECT {_listed(self.grouped_by)}, {', '.join(sums)} FROM ("
            f"SELECT toInt64(1) AS side, {names} FROM ({self._latest_rows(source, where, chosen)})"
            f" UNION ALL SELECT toInt64(-1) AS side, {chosen} FROM {target}{final} WHERE {where})"
            f" GROUP BY {', '.join(self.grouped_by)}"
            f" HAVING {' OR '.join(f'{each} != 0' for each in sums)} LIMIT 10"
        )

    def differences(self, source: str, target: str, where: str = "1") -> str:
        """Finds each key that has another row in the target, with the highest version it has in
        either table: as one list of hashes.
        """
        assert self.version is not None
        key, chosen = ", ".join(self.key), _listed(self.compared)
        texts = ", ".join(f"toString({name})" for name in self.compared)
        side = "SELECT toInt64({}) AS side, {} FROM {} FINAL WHERE ({}) AND {}"
        return (
            f"SELECT groupArray(difference) FROM ("
            f"SELECT cityHash64({key}, max({self.version})) AS difference FROM ("
            f"{side.format(1, chosen, source, where, self.source_where)} UNION ALL "
            f"{side.format(-1, chosen, target, where, '1')})"
            f" GROUP BY {key} HAVING sum(side * reinterpret(cityHash64({texts}), 'Int64')) != 0)"
        )

    def shortfall(self, source: str, target: str) -> str:
        """How many rows that count the source has more than the target."""
        final = " FINAL" if self.is_repeatable else ""
        return (
            f"SELECT (SELECT count() FROM ({self._latest_rows(source, '1', '1')}))"
            f" - (SELECT count() FROM {target}{final})"
        )

    def _latest_rows(self, source: str, where: str, chosen: str) -> str:
        rows = f"SELECT {chosen} FROM {self._from(source, where)}"
        if self.source_is_ours:
            return rows
        return f"{rows} ORDER BY {self.latest} DESC LIMIT 1 BY {', '.join(self.key)}"

    def _from(self, source: str, where: str) -> str:
        final = " FINAL" if self.source_is_ours else ""
        return f"{source}{final} WHERE ({where}) AND {self.source_where}"


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(
        name if name == value else f"{value} AS {name}" for name, value in values.items()
    )


@dataclass(frozen=True, slots=True)
class RowRange:
    """A part of the source: a condition, and how many rows met it when it was cut."""

    where: str
    rows: int


@dataclass(slots=True)
class RangeCopy:
    """One copy, from its first range to its last; what an earlier run finished is left out."""

    copy: Copy
    source: str
    target: str
    journal: str
    execute: Execute
    report: Report
    alive: Callable[[], None]
    chunk_rows: int
    _started: float = field(default_factory=time.monotonic)

    def run(self, *, compare: bool) -> None:
        """:raises StorageError: a range differs after it was copied; nothing was exchanged."""
        self._create_journal()
        finished = self._finished()
        ranges = self._ranges()
        due = [each for each in ranges if not self._is_there(each, finished)]
        total = sum(each.rows for each in ranges)
        earlier = total - sum(each.rows for each in due)
        copied = 0
        for each in due:
            self._tell(earlier + copied, total, copied)
            self.alive()
            self._copy(each, compare=compare)
            copied += each.rows
        self._tell(earlier + copied, total, copied)

    def run_late(self) -> None:
        """Bring over what was written to the source after it was copied."""
        ranges = self._ranges()
        total, done = sum(each.rows for each in ranges), 0
        for each in ranges:
            self._tell(done, total, done)
            self.alive()
            self._insert_lacking(each)
            done += each.rows
        self._tell(done, total, done)

    def catch_up(self, version: int) -> int:
        """Bring over what is above a version and whatever is written meanwhile, a few times.

        :returns: the version above which rows may still be lacking.
        """
        for _ in range(_CATCHING_UP):
            latest = self.latest_version()
            if latest == version:
                break
            self.alive()
            newer = self.copy.insert_newer(self.source, self.target, version)
            self.execute(newer, settings=_WRITING)
            version = latest
        return version

    def latest_version(self) -> int:
        """Return the highest version in the source."""
        return int(self.execute(f"SELECT max({self.copy.version}) FROM {self.source}")[0][0])

    def _is_there(self, each: RowRange, finished: set[tuple[str, int]]) -> bool:
        if (each.where, each.rows) not in finished:
            return False
        # In a table of upserts a row that was replaced may leave the count as it was.
        counts_tell = self.copy.by_range and not self.copy.source_is_ours
        return counts_tell or not self._differing(each)

    def _tell(self, done: int, total: int, copied: int) -> None:
        seconds = time.monotonic() - self._started
        self.report(Progress(f"{self.source} to {self.target}", done, total, copied, seconds))

    def _copy(self, each: RowRange, *, compare: bool) -> None:
        self._insert(each)
        if compare:
            self._compare(each)
        row = insert(self._copied()).values(condition=each.where, rows=each.rows)
        self.execute(text_of(row), settings=_WRITING)

    def _insert(self, each: RowRange) -> None:
        copy = self.copy.insert(self.source, self.target, each.where)
        self.execute(copy, settings=_WRITING)

    def _compare(self, each: RowRange) -> None:
        differing = self._differing(each)
        if differing and not self._came_late(each):
            groups = "; ".join(" ".join(map(str, row)) for row in differing)
            raise StorageError(
                f"The copy of {self.source} differs from it where {each.where}: {groups}.",
                remedy="Is somebody writing to it? Stop writers and run"
                " the same again; the table itself is untouched.",
            )

    def _came_late(self, each: RowRange) -> bool:
        """Return whether all that differs was written meanwhile, after bringing it over.

        Only a fault of the copy is still there when the same rows were copied again; a writer who
        goes on leaves others.
        """
        if self.copy.version is None:
            return False
        differences = self.copy.differences(self.source, self.target, each.where)
        before = self.execute(differences)[0][0]
        self._insert_lacking(each)
        return set(before).isdisjoint(self.execute(differences)[0][0])

    def _insert_lacking(self, each: RowRange) -> None:
        lacking = self.copy.insert_lacking(self.source, self.target, each.where)
        self.execute(lacking, settings=_WRITING)

    def _differing(self, each: RowRange) -> Sequence[Sequence[Any]]:
        comparison = self.copy.comparison(self.source, self.target, each.where)
        found: Sequence[Sequence[Any]] = self.execute(comparison)
        return found

    def _create_journal(self) -> None:
        self.execute(ddl_of(CreateTable(self._copied(), if_not_exists=True)))

    def _finished(self) -> set[tuple[str, int]]:
        c = self._copied().c
        found = self.execute(text_of(select(c.condition, c.rows)))
        return {(str(condition), int(rows)) for condition, rows in found}

    def _copied(self) -> Table:
        return Table(
            self.journal,
            MetaData(),
            Column("condition", types.String),
            Column("rows", types.UInt64),
            engines.MergeTree(order_by=text("tuple()")),
        )

    def _ranges(self) -> list[RowRange]:
        if not self.copy.by_range:
            return [RowRange("1", count_rows(self.execute, self.source))]
        return ranges_of(self.execute, self.source, self.chunk_rows)


def ranges_of(execute: Execute, source: str, chunk_rows: int) -> list[RowRange]:
    """A table of candles in ranges of about `chunk_rows`."""
    series = execute(
        "SELECT toString(symbol) AS s, toString(timeframe) AS t, count(),"
        " toUnixTimestamp64Milli(min(timestamp)), toUnixTimestamp64Milli(max(timestamp))"
        f" FROM {source} GROUP BY s, t ORDER BY s, t"
    )
    return [
        cut if cut.rows >= 0 else RowRange(cut.where, count_rows(execute, source, cut.where))
        for cut in cut_ranges(series, chunk_rows)
    ]


def count_rows(execute: Execute, source: str, where: str = "1") -> int:
    """How many rows of a table, or of a function that gives one, meet a condition."""
    query = (
        select(func.count()).select_from(text(source)).where(literal_column(where, types.Boolean))
    )
    return int(execute(text_of(query))[0][0])


def cut_ranges(series: Sequence[Sequence[Any]], chunk_rows: int) -> Iterator[RowRange]:
    """Ranges of about `chunk_rows`: small symbols together, large series by time.

    :param series: symbol, timeframe, rows, first and last millisecond, in order of symbols.
    """
    waiting: list[tuple[str, int]] = []
    for symbol, group in groupby(series, key=lambda each: str(each[0])):
        parts = list(group)
        rows = sum(int(part[2]) for part in parts)
        if waiting and (rows > chunk_rows or sum(r for _, r in waiting) + rows > chunk_rows):
            yield _together(waiting)
            waiting = []
        if rows > chunk_rows:
            for part in parts:
                yield from _by_time(part, chunk_rows)
        else:
            waiting.append((symbol, rows))
    if waiting:
        yield _together(waiting)


def _together(symbols: Sequence[tuple[str, int]]) -> RowRange:
    first, last = literal(symbols[0][0]), literal(symbols[-1][0])
    return RowRange(f"symbol BETWEEN {first} AND {last}", sum(rows for _, rows in symbols))


def _by_time(part: Sequence[Any], chunk_rows: int) -> Iterator[RowRange]:
    symbol, timeframe, rows, first, last = part
    where = f"symbol = {literal(symbol)} AND timeframe = {literal(timeframe)}"
    slices = -(-int(rows) // chunk_rows)
    if slices == 1:
        yield RowRange(where, int(rows))
        return
    step = (int(last) - int(first)) // slices + 1
    for begin in range(int(first), int(last) + 1, step):
        end = min(begin + step - 1, int(last))
        # The rows of a slice are counted when it is due.
        yield RowRange(f"{where} AND timestamp BETWEEN {_moment(begin)} AND {_moment(end)}", -1)


def _moment(ms: int) -> str:
    return f"fromUnixTimestamp64Milli(toInt64({ms}), 'UTC')"
