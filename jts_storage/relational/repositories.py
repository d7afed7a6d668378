"""The bookkeeping of ingestion in SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from jts_storage.domain import checks
from jts_storage.domain.bookkeeping import Checkpoint, SymbolBars
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.results import SaveResult
from jts_storage.domain.series import CandleSeries, series_of
from jts_storage.errors import Conflict, InvalidData
from jts_storage.ports.candles import CandleData
from jts_storage.relational import mappers, statements
from jts_storage.relational.errors import is_callers, is_driver_error
from jts_storage.relational.link import Link, ResultRows
from jts_storage.relational.manager import DatabaseManager, begin, linked
from jts_storage.relational.statements import Statement

T = TypeVar("T")
CheckpointUpdate = Callable[[Mapping[str, Any] | None], Mapping[str, Any]]
StoredData = Mapping[str, Any] | str | None
"""The data of a checkpoint; a text where another program stored what cannot be read."""

_ALL_ROWS = 2**62
_UPDATE_ATTEMPTS = 100


class _Repository:
    """Works on connections of the manager, or on one whose transaction is the caller's."""

    def __init__(
        self, manager: DatabaseManager, *, connection: AsyncConnection | None = None
    ) -> None:
        self._manager = manager
        self._connection = connection
        self._link: Link | None = None

    async def _run(
        self, work: Callable[[Link], Awaitable[T]], doing: str, *, repeat: bool = False
    ) -> T:
        if self._connection is None:
            return await self._manager.run(work, doing=doing, repeat=repeat)
        try:
            if self._link is None:
                self._link = await linked(self._connection)
            if not self._link.in_transaction:
                await begin(self._link)
            return await work(self._link)
        except Exception as exc:
            if is_driver_error(exc) and not is_callers(exc):
                raise self._manager.translate(exc, doing) from exc
            raise

    async def _fetch(
        self, statement: Statement, doing: str, *, repeat: bool = False, **values: Any
    ) -> ResultRows:
        async def work(link: Link) -> ResultRows:
            return await link.fetch(statement, **values)

        return await self._run(work, doing, repeat=repeat)


class SqlSymbolBarsRepository(_Repository):
    """`SymbolBarsRepository` on the table symbol_bars_aggregates."""

    async def get(self, symbol: str, trading_day: date) -> SymbolBars | None:
        name, day = _symbol_and_day(symbol, trading_day)
        get = statements.SYMBOL_BARS_GET
        rows = await self._fetch(get, "reading an aggregate", repeat=True, name=name, day=day)
        return mappers.symbol_bars(rows[0]) if rows else None

    async def list(
        self, symbol: str, *, limit: int = 1_000, after: date | None = None
    ) -> Sequence[SymbolBars]:
        values = {
            "name": checks.name(symbol, "symbol"),
            "limit": checks.whole(limit, "limit", least=1),
            "after": "" if after is None else checks.day(after, "after").isoformat(),
        }
        statement = statements.SYMBOL_BARS_LIST
        rows = await self._fetch(statement, "listing aggregates", repeat=True, **values)
        return [mappers.symbol_bars(row) for row in rows]

    async def save(self, bars: SymbolBars, *, moment: datetime | None = None) -> SymbolBars:
        """:param moment: of the change, if it is not now."""
        now = moment or checks.now()
        return await self._run(lambda link: _save_aggregate(link, bars, now), "saving an aggregate")

    async def delete(self, symbol: str, trading_day: date) -> bool:
        name, day = _symbol_and_day(symbol, trading_day)
        delete = statements.SYMBOL_BARS_DELETE
        return bool(await self._fetch(delete, "deleting an aggregate", name=name, day=day))


class SqlCheckpointRepository(_Repository):
    """`CheckpointRepository` on the table checkpoints, whose column `symbol` holds the name."""

    async def get(self, name: str) -> Checkpoint | None:
        rows = await self._rows(name)
        return mappers.checkpoint(rows[0]) if rows else None

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Sequence[Checkpoint]:
        values = {
            "limit": checks.whole(limit, "limit", least=1),
            "after": "" if after is None else checks.text(after, "after"),
        }
        statement = statements.CHECKPOINT_LIST
        rows = await self._fetch(statement, "listing checkpoints", repeat=True, **values)
        return [mappers.checkpoint(row) for row in rows]

    async def save(self, name: str, data: Mapping[str, Any]) -> Checkpoint:
        saved = Checkpoint(name, data, checks.now())
        text = mappers.to_json(saved.data)

        async def work(link: Link) -> Checkpoint:
            now = link.moment(saved.updated_at or checks.now())
            await link.fetch(statements.CHECKPOINT_SAVE, name=name, data=text, now=now)
            return saved

        return await self._run(work, "saving a checkpoint", repeat=True)

    async def update(self, name: str, change: CheckpointUpdate) -> Checkpoint:
        def readable(stored: StoredData) -> Mapping[str, Any]:
            return change(mappers.from_json(stored, name) if isinstance(stored, str) else stored)

        return await self.replace(name, readable)

    async def replace(
        self, name: str, change: Callable[[StoredData], Mapping[str, Any]]
    ) -> Checkpoint:
        """As `update`, but give `change` also what cannot be read."""
        checks.name(name, "name")

        async def work(link: Link) -> Checkpoint:
            async with link.transaction():
                return await _replace_checkpoint(link, name, change)

        return await self._run(work, "updating a checkpoint")

    async def stored(self, name: str) -> StoredData:
        """Return what is stored, also what cannot be read."""
        rows = await self._rows(name)
        return _as_stored(rows[0][1], name) if rows else None

    async def delete(self, name: str) -> bool:
        checks.name(name, "name")
        delete = statements.CHECKPOINT_DELETE
        return bool(await self._fetch(delete, "deleting a checkpoint", name=name))

    async def _rows(self, name: str) -> ResultRows:
        checks.name(name, "name")
        get = statements.CHECKPOINT_GET
        return await self._fetch(get, "reading a checkpoint", repeat=True, name=name)


class SqlOHLCVRepository(_Repository):
    """`OHLCVRepository` on the table ohlcv_bars."""

    async def get_range(self, key: SeriesKey, start: datetime, end: datetime) -> CandleSeries:
        first, last = checks.range_ms(start, end)
        return await self._read(key, first, last, _ALL_ROWS)

    async def stream(
        self, key: SeriesKey, start: datetime, end: datetime, *, block_rows: int = 10_000
    ) -> AsyncIterator[CandleSeries]:
        first, last = checks.range_ms(start, end)
        checks.whole(block_rows, "block_rows", least=1)
        # A statement a block: leaving early leaves nothing open, and a broken one is repeated.
        while len(block := await self._read(key, first, last, block_rows)):
            yield block
            if len(block) < block_rows:
                return
            first = int(block.columns.timestamp[-1]) + 1

    async def count(
        self, key: SeriesKey, start: datetime | None = None, end: datetime | None = None
    ) -> int:
        ends = checks.range_ms(start or checks.FIRST_TIMESTAMP, end or checks.LAST_TIMESTAMP)
        values = {**_series(key), "first": ends[0], "last": ends[1]}
        rows = await self._fetch(statements.BARS_COUNT, "counting bars", repeat=True, **values)
        return int(rows[0][0])

    async def lock(self, key: SeriesKey) -> None:
        """Lock the series against other units of work until the transaction ends."""
        await self._run(lambda link: link.lock(f"bars {key}"), f"locking bars of {key}")

    async def save_many(self, key: SeriesKey, candles: CandleData) -> SaveResult:
        series, duplicates = series_of(key, candles)

        async def work(link: Link) -> None:
            async with link.transaction():
                await link.write_bars(key, series.columns)

        if len(series):
            await self._run(work, f"saving {len(series)} bars of {key}", repeat=True)
        return SaveResult(len(series), duplicates)

    async def delete_range(self, key: SeriesKey, start: datetime, end: datetime) -> int:
        first, last = checks.range_ms(start, end)
        values = {**_series(key), "first": first, "last": last}

        async def work(link: Link) -> int:
            return await link.change(statements.BARS_DELETE, **values)

        return await self._run(work, f"deleting bars of {key}")

    async def _read(self, key: SeriesKey, first: int, last: int, limit: int) -> CandleSeries:
        columns = await self._run(
            lambda link: link.read_bars(key, first, last, limit),
            f"reading bars of {key}",
            repeat=True,
        )
        return CandleSeries.trusted(key, columns)


class _AppliedCommits(_Repository):
    """The table applied_commits."""

    async def note(self, commit: str) -> bool:
        insert = statements.APPLIED_INSERT
        return bool(await self._fetch(insert, "noting a commit", commit=commit))

    async def has(self, commit: str) -> bool:
        get = statements.APPLIED_GET
        return bool(await self._fetch(get, "looking for a commit", repeat=True, commit=commit))

    async def purge(self) -> None:
        async def work(link: Link) -> None:
            await link.change(statements.APPLIED_PURGE)

        await self._run(work, "forgetting old commits", repeat=True)


class SqlIngestionRepository:
    """`IngestionRepository`: the three repositories over the same database or connection."""

    def __init__(
        self, manager: DatabaseManager, *, connection: AsyncConnection | None = None
    ) -> None:
        self._symbol_bars = SqlSymbolBarsRepository(manager, connection=connection)
        self._bars = SqlOHLCVRepository(manager, connection=connection)
        self._checkpoints = SqlCheckpointRepository(manager, connection=connection)
        self._applied = _AppliedCommits(manager, connection=connection)

    async def is_first_time(self, commit: str) -> bool:
        """Note that the bookkeeping of a commit is applied; False if it was before."""
        return await self._applied.note(commit)

    async def lacks(self, commits: Iterable[str]) -> list[str]:
        """Which of these commits have not been applied here."""
        return [commit for commit in commits if not await self._applied.has(commit)]

    async def forget_applied(self) -> None:
        """Forget the commits that were applied long ago."""
        await self._applied.purge()

    @property
    def symbol_bars(self) -> SqlSymbolBarsRepository:
        return self._symbol_bars

    @property
    def bars(self) -> SqlOHLCVRepository:
        return self._bars

    @property
    def checkpoints(self) -> SqlCheckpointRepository:
        return self._checkpoints


async def _save_aggregate(link: Link, bars: SymbolBars, now: datetime) -> SymbolBars:
    state = {**mappers.symbol_bars_values(bars), "now": link.moment(now)}
    if bars.version == 0:
        rows = await link.fetch(statements.SYMBOL_BARS_INSERT, **state)
    elif bars.created_at is None:
        rows = await link.fetch(statements.SYMBOL_BARS_UPDATE, found=bars.version, **state)
    else:
        rows = await link.fetch(
            statements.SYMBOL_BARS_UPDATE_SAME,
            found=bars.version,
            created=link.moment(bars.created_at),
            created_by_default=link.moment_by_default(bars.created_at),
            **state,
        )
    if rows:
        version, created = rows[0]
        return replace(bars, version=version, created_at=mappers.moment(created), updated_at=now)
    found = await link.fetch(statements.SYMBOL_BARS_VERSION, name=bars.symbol, day=state["day"])
    stored = f"version {found[0][0]} of another" if found else "nothing"
    if found and found[0][0] != bars.version:
        stored = f"version {found[0][0]}"
    raise Conflict(
        f"Cannot save version {bars.version} of the aggregate {bars.symbol} on {bars.trading_day}: "
        f"the database holds {stored}.",
        remedy="Read it again and repeat the change.",
    )


def _as_stored(text: str, name: str) -> Mapping[str, Any] | str:
    try:
        return mappers.from_json(text, name)
    except InvalidData:
        return text


async def _replace_checkpoint(
    link: Link, name: str, change: Callable[[StoredData], Mapping[str, Any]]
) -> Checkpoint:
    """Lock the row, change it and write it; if there is none yet, the first insert wins."""
    for _ in range(_UPDATE_ATTEMPTS):
        rows = await link.fetch(statements.CHECKPOINT_LOCK, name=name)
        old = _as_stored(rows[0][0], name) if rows else None
        now = checks.now()
        new = Checkpoint(name, change(old), now)
        values = {"name": name, "data": mappers.to_json(new.data), "now": link.moment(now)}
        if rows:
            await link.fetch(statements.CHECKPOINT_SAVE, **values)
            return new
        if await link.fetch(statements.CHECKPOINT_INSERT, **values):
            return new
    raise Conflict(
        f"Cannot update the checkpoint {name!r}: it came and went {_UPDATE_ATTEMPTS} times.",
        remedy="Repeat the update when fewer others write it.",
    )


def _symbol_and_day(symbol: str, trading_day: date) -> tuple[str, str]:
    return checks.name(symbol, "symbol"), checks.day(trading_day, "trading_day").isoformat()


def _series(key: SeriesKey) -> dict[str, Any]:
    checks.instance(key, SeriesKey, "key")
    return {"name": key.symbol, "exchange": key.exchange, "timeframe": key.timeframe.value}
