"""Candles from files, frames and streams into a storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, TypeAlias

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Int64Array
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.readers import sources
from jts_storage.readers.ahead import read_ahead
from jts_storage.readers.blocks import Block, Reader, Source
from jts_storage.readers.epochs import Epochs
from jts_storage.readers.numbers import given_style
from jts_storage.readers.owners import Labels, Owners, Wanted
from jts_storage.readers.timestamps import TimestampReader
from jts_storage.usecases import incremental, quarantine
from jts_storage.usecases.gate import Judged, Part, parts, passed
from jts_storage.usecases.import_options import ImportOptions
from jts_storage.usecases.incremental import Extents, Known
from jts_storage.usecases.known_symbols import KnownSymbols
from jts_storage.usecases.progress import ImportState, Progress
from jts_storage.usecases.quality import Before
from jts_storage.usecases.results import ImportResult, Tally
from jts_storage.usecases.stores import Stores

Data: TypeAlias = Any
"""A path, an Arrow table, a pandas or polars frame, ccxt's rows, or an async iterator of series."""


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """Passed to `progress` after every stored block.

    :param fraction: how much of the source was read, None if unknown.
    """

    rows: int
    fraction: float | None


class ImportCandles:
    """Reads a source block by block, judges it, and stores what passes.

    Memory stays constant. After every block the bookkeeping knows how far it has come; interrupted
    and run again with the same source and options, it goes on there and ends as if nothing had
    happened.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def run(
        self,
        data: Data,
        timeframe: Timeframe | None = None,
        *,
        symbol: str | None = None,
        exchange: str = "",
        options: ImportOptions | None = None,
        progress: Callable[[ImportProgress], None] | None = None,
    ) -> ImportResult:
        """Import `data`.

        A source may name the series of its rows, in columns or keys: each row is stored under the
        series it names, which must not contradict the arguments given here.

        :param timeframe: how long the candles last; None takes it from the source's own column.
        :param symbol: whose candles they are; None takes it from the source's own column.
        :param exchange: where they were traded; "" takes it from the source's own column, and where
            there is none means none.
        :raises NotFound: there is no such file, or a symbol is not known and not to be created.
        :raises InvalidData: the source is malformed, naming file, line and column. Blocks before
            it are stored.
        """
        options = options or ImportOptions()
        wanted = Wanted(symbol, timeframe, exchange)
        work = _Import(self._stores, wanted, options, progress)
        if isinstance(data, CandleSeries):
            return await work.series(_only(data))
        if hasattr(data, "__aiter__"):
            return await work.series(data)
        return await work.source(await asyncio.to_thread(_source, data, options, symbol))


def _source(data: Data, options: ImportOptions, symbol: str | None) -> Source:
    if isinstance(data, str | Path):
        return sources.file_source(Path(data), options.layout)
    if sources.is_frame(data):
        return sources.frame_source(data, options.layout, symbol=symbol)
    raise sources.unknown_source(data)


async def _only(series: CandleSeries) -> AsyncIterator[CandleSeries]:
    yield series


class _Import:
    """One run."""

    def __init__(
        self,
        stores: Stores,
        wanted: Wanted,
        options: ImportOptions,
        report: Callable[[ImportProgress], None] | None,
    ) -> None:
        self._stores = stores
        self._wanted = wanted
        self._options = options
        self._report = report
        self._symbols = KnownSymbols(stores, options.create)
        self._extents = Extents(stores.candles)
        self._progress = Progress(stores, checks.to_ms(options.policy.now or checks.now()))
        self._source: Source | None = None
        self._name = "the stream"

    async def source(self, source: Source) -> ImportResult:
        started = perf_counter()
        self._source, self._name = source, source.name
        if self._wanted.symbol is not None:
            await self._require_symbol(self._wanted.symbol)
        resumed_at = await self._begin(source)
        reader = self._reader(source)
        blocks = reader.blocks(source, self._options.block_rows, self._state.rows)
        async with aclosing(read_ahead(blocks, self._prepare_for_all)) as ahead:
            async for block in ahead:
                self._state.decimal = reader.style.decimal if reader.style else None
                self._state.epochs = {
                    step.value: seen.unit for step, seen in list(reader.epochs.items()) if seen.unit
                }
                await self._take(parts(block), block.stop_row)
        return await self._end(started, resumed_at)

    async def series(self, stream: AsyncIterator[CandleSeries]) -> ImportResult:
        started = perf_counter()
        row = 0
        async for series in stream:
            self._check_key(series.key)
            for start in range(0, len(series), self._options.block_rows):
                piece = series[start : start + self._options.block_rows]
                await self._take([_part_of(piece, row)], row + len(piece))
                row += len(piece)
        return await self._end(started, None)

    @property
    def _state(self) -> ImportState:
        return self._progress.state

    async def _begin(self, source: Source) -> int | None:
        if source.identity is None:
            return None
        task = {
            "source": dict(source.identity),
            "key": self._wanted.described(),
            **self._options.described(),
        }
        return await self._progress.begin(task, resume=self._options.resume)

    def _reader(self, source: Source) -> Reader:
        options, state = self._options, self._state
        # Of each series, its own timeframe takes the place of this one.
        timeframe = self._wanted.timeframe or Timeframe.M1
        return Reader(
            TimestampReader(timeframe, options.timezone, options.time_format),
            # On resuming, the decimal mark was found in rows that are not read again.
            given_style(options.decimal or state.decimal, options.thousands),
            options.floats,
            {Timeframe(name): Epochs(unit) for name, unit in state.epochs.items()},
            options.thousands,
            Owners(self._wanted, source.name),
        )

    async def _end(self, started: float, resumed_at: int | None) -> ImportResult:
        await self._progress.end()
        return ImportResult.of(
            self._state.tally,
            source=self._name,
            created_symbols=tuple(self._state.created),
            resumed_at=resumed_at,
            seconds=perf_counter() - started,
        )

    def _check_key(self, key: SeriesKey) -> None:
        wanted = SeriesKey(
            self._wanted.symbol or key.symbol,
            self._wanted.timeframe or key.timeframe,
            self._wanted.exchange or key.exchange,
        )
        if key != wanted:
            raise InvalidData(f"must be {wanted}", field="key", value=str(key))

    # ---- before the first rows of a series

    async def _prepare_for_all(self) -> None:
        if self._wanted.key is not None:
            await self._prepare(self._wanted.key)

    async def _prepare(self, key: SeriesKey) -> None:
        if key in self._extents:
            return
        await self._require_symbol(key.symbol)
        extent = await self._extents.read(key)
        if self._is_incremental:
            self._state.held.setdefault(str(key), extent)

    async def _require_symbol(self, code: str) -> None:
        if await self._symbols.require(code):
            self._state.created.append(code)

    # ---- one block

    async def _take(self, found: list[Part], stop: int) -> None:
        for part in found:
            await self._prepare(part.key)
        known = [await self._stored_already(part) for part in found]
        judged = await asyncio.to_thread(self._judge, found, known)
        await self._store(judged, stop)
        self._state.mark_stored({str(item.key): item.after for item in judged})
        if self._report is not None:
            fraction = self._source.progress() if self._source else None
            self._report(ImportProgress(self._state.rows, fraction))

    @property
    def _is_incremental(self) -> bool:
        return self._options.mode == "incremental"

    async def _stored_already(self, part: Part) -> Known | None:
        if not self._is_incremental:
            return None
        held = self._state.held[str(part.key)]
        rows = self._options.block_rows
        return await incremental.known(self._stores.candles, part.key, part.columns, held, rows)

    def _judge(self, found: list[Part], known: list[Known | None]) -> list[Judged]:
        state = self._state
        policy = replace(self._options.policy, now=checks.from_ms(state.now_ms))
        return [
            passed(part, policy, state.before.get(str(part.key), Before()), its)
            for part, its in zip(found, known, strict=True)
        ]

    async def _store(self, judged: list[Judged], stop: int) -> None:
        state = self._state
        # A run before this one may have stored the block and died before it could say so. Then its
        # counts are kept: counted again, its own rows would look as if they had been there before.
        begun_before = state.pending_stop == stop
        block = Tally()
        async with self._stores.unit_of_work() as uow:
            for item in judged:
                overlaps = self._extents.widen(item.key, self._new_stamps(item))
                saved = await uow.candles.save_many(
                    item.key, item.series, detail=overlaps and not begun_before
                )
                item.tally.note(saved)
                block.add(item.tally)
            if not begun_before:
                state.pending_stop, state.pending = stop, block
            # Before the candles: see `progress` for what a crash in between comes to.
            await self._announce(judged)
            await uow.commit()

    def _new_stamps(self, item: Judged) -> Int64Array:
        """The moments of a part's rows, without those that are known not to be stored."""
        stamps = item.series.columns.timestamp
        if self._is_incremental:
            # Rows within it were compared already, and those that are stored were skipped.
            stamps = stamps[incremental.outside(stamps, self._state.held[str(item.key)])]
        return stamps

    async def _announce(self, judged: list[Judged]) -> None:
        """Say what is about to be stored, and keep what is not."""
        notes = [
            note
            for item in judged
            for note in quarantine.notes(
                item.key, self._name, item.quarantined, origin=self._origin
            )
        ]
        if not (notes or self._progress.is_kept):
            return
        async with self._stores.unit_of_work() as uow:
            for note in notes:
                await uow.ingestion.checkpoints.save(note.name, note.data)
            await self._progress.save(uow.ingestion.checkpoints)
            await uow.commit()

    @property
    def _origin(self) -> str:
        """Unique name of a source file (two folders may hold files of the same name)."""
        identity = (self._source.identity if self._source else None) or {}
        return str(identity.get("path", self._name))


def _part_of(series: CandleSeries, first_row: int) -> Part:
    rows = np.arange(first_row, first_row + len(series), dtype=np.int64)
    missing = np.zeros(len(series), np.bool_)
    block = Block(series.columns, rows, Labels((series.key,)), missing, series.to_arrow())
    return Part(series.key, series.columns, rows, missing, block)


__all__ = ["Data", "ImportCandles", "ImportOptions", "ImportProgress"]
