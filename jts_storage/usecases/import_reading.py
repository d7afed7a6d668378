"""What an import reads: files and frames through a `Reader`, or series that are ready made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import InvalidData
from jts_storage.readers import sources, streams
from jts_storage.readers.adjusting import VolumeRule
from jts_storage.readers.ahead import read_ahead
from jts_storage.readers.blocks import Block, Reader, Source
from jts_storage.readers.file_source import Layout
from jts_storage.readers.needs import needs
from jts_storage.readers.numbers import given_style
from jts_storage.readers.owners import Labels, Owners, Wanted
from jts_storage.readers.refusals import LayoutMissing
from jts_storage.readers.rows import BrokenRow, remedy_of_broken
from jts_storage.readers.timestamps import TimestampReader
from jts_storage.readers.values import ValueReader
from jts_storage.usecases.gate import BlockRows, by_series
from jts_storage.usecases.import_options import ImportOptions
from jts_storage.usecases.progress import ImportState

Data: TypeAlias = Any
"""A path, a binary stream, an Arrow table, a pandas or polars frame, ccxt's rows, or an async
iterator of series."""

Prepare: TypeAlias = Callable[[SeriesKey], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Piece:
    """The rows of a block by series.

    :param stop: the number of the row after it.
    :param broken: rows that cannot be read.
    """

    rows: BlockRows
    stop: int
    broken: tuple[BrokenRow, ...] = ()


Blocks: TypeAlias = AsyncGenerator[Piece, None]


class Input(Protocol):
    """Where the rows of an import come from.

    :ivar symbol: the one that the caller passed for all rows; None if the rows name their own.
    :ivar name: as people know it.
    :ivar origin: unique, where two folders may hold files of the same name.
    :ivar identity: what must be the same for an interrupted import to resume; None if it cannot.
    """

    @property
    def symbol(self) -> str | None: ...
    @property
    def name(self) -> str: ...
    @property
    def origin(self) -> str: ...
    @property
    def identity(self) -> Mapping[str, Any] | None: ...

    def blocks(self, state: ImportState, prepare: Prepare) -> Blocks:
        """The rows after those that `state` counts as stored.

        :param prepare: looks up the series of the caller, while the first rows are read.
        """
        ...

    def fraction(self) -> float | None:
        """Return how much was read, from 0 to 1; None if unknown."""
        ...


@dataclass(slots=True)
class Streams:
    """Files that hold what came through pipes, until the import ends.

    :param tell: is told how many bytes have come so far.
    """

    tell: Callable[[int], None]
    is_stopped: bool = False
    _held: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_stopped = True
        self._held.close()

    def file_of(self, data: Any) -> Path:
        return self._held.enter_context(
            streams.spooled(data, tell=self.tell, is_stopped=lambda: self.is_stopped)
        )


def input_of(data: Data, wanted: Wanted, options: ImportOptions, held: Streams) -> Input:
    """Return how to read what the caller passed.

    :raises InvalidData: it is nothing that can be imported.
    """
    if isinstance(data, CandleSeries):
        return SeriesInput(_only(data), wanted, options.block_rows)
    if hasattr(data, "__aiter__"):
        return SeriesInput(data, wanted, options.block_rows)
    needs_volume = not VolumeRule.of(options.volume).zero_if_missing
    layout = replace(options.layout, needs_volume=needs_volume and options.layout.needs_volume)
    path, name = None, None
    if streams.is_stream(data):
        path, name = held.file_of(data), streams.name_of(data)
    elif isinstance(data, str | Path):
        path = Path(data)
    elif not sources.is_frame(data):
        raise sources.unknown_source(data)

    def opened(its: Layout) -> SourceInput:
        if path is not None:
            return SourceInput(sources.file_source(path, its, name), wanted, options)
        return SourceInput(sources.frame_source(data, its, symbol=wanted.symbol), wanted, options)

    try:
        return opened(layout)
    except InvalidData as exc:
        _add(exc, _needs_behind(exc, opened, layout))
        raise


def _needs_behind(
    error: InvalidData, opened: Callable[[Layout], SourceInput], layout: Layout
) -> list[str]:
    """What else has to be said of a source that needs something said of its layout first."""
    found: list[str] = []
    refused = error
    # Each time with what the last one lacked: lines above the header, then a column.
    for _ in fields(Layout):
        if not isinstance(refused, LayoutMissing) or not refused.proposed:
            break
        columns = {**layout.columns, **refused.proposed.get("columns", {})}
        layout = replace(layout, **{**refused.proposed, "columns": columns})
        try:
            return [*found, *opened(layout).needs(error)]
        except InvalidData as exc:
            found += [exc.remedy] if exc.remedy else []
            refused = exc
    return found


def _add(error: InvalidData, needs: Sequence[str]) -> None:
    """Add to what helps against an error what else has to be said."""
    others = [remedy for remedy in needs if remedy not in str(error.remedy)]
    if others:
        error.remedy = " ".join([f"{error.remedy} Besides:", *others])


class SourceInput:
    """A file or a frame, read in a thread while the block before is stored."""

    def __init__(self, source: Source, wanted: Wanted, options: ImportOptions) -> None:
        self._source = source
        self._wanted = wanted
        self._options = options
        self.symbol = wanted.symbol
        self.name = source.name
        self.identity = source.identity
        self.origin = str((source.identity or {}).get("path", source.name))

    def fraction(self) -> float | None:
        return self._source.progress()

    async def blocks(self, state: ImportState, prepare: Prepare) -> Blocks:
        async def meanwhile() -> None:
            if self._wanted.key is not None:
                await prepare(self._wanted.key)

        reader = self._reader(state)
        # Arranged in the thread that reads, while the block before is stored.
        read = map(_piece, reader.blocks(self._source, self._options.block_rows, state.rows))
        try:
            async with aclosing(read_ahead(read, meanwhile)) as ahead:
                async for piece in ahead:
                    _remember(reader, state)
                    yield piece
        except InvalidData as exc:
            _add(exc, await asyncio.to_thread(self.needs, exc))
            raise

    def needs(self, error: InvalidData) -> list[str]:
        """What has to be said of the source, where the error says something of that."""
        if error.remedy in (None, remedy_of_broken()):
            return []
        reader = self._reader(ImportState({}, 0))
        assert reader.owners is not None
        return needs(reader, reader.owners, self._source)

    def _reader(self, state: ImportState) -> Reader:
        options = self._options
        # Of each series, its own timeframe takes the place of this one.
        timeframe = self._wanted.timeframe or Timeframe.M1
        return Reader(
            TimestampReader(timeframe, options.timezone, options.time_format, options.time_unit),
            ValueReader(
                # On resuming, the decimal mark was found in rows that are not read again.
                given_style(options.decimal or state.decimal, options.thousands),
                options.floats,
                options.thousands,
                options.round_prices,
                VolumeRule.of(options.volume),
            ),
            Owners(self._wanted, self.name),
            options.on_error == "quarantine",
        )


def _remember(reader: Reader, state: ImportState) -> None:
    """Note which decimal mark was found, for a run that begins behind the rows that showed it."""
    state.decimal = reader.values.style.decimal if reader.values.style else None


class SeriesInput:
    """Series of the caller; they cannot be read again, so an import of them does not resume."""

    symbol = None
    name = origin = "the stream"
    identity = None

    def __init__(
        self, stream: AsyncIterator[CandleSeries], wanted: Wanted, block_rows: int
    ) -> None:
        self._stream = stream
        self._wanted = wanted
        self._block_rows = block_rows

    def fraction(self) -> float | None:
        return None

    async def blocks(self, state: ImportState, prepare: Prepare) -> Blocks:
        row = 0
        async for series in self._stream:
            self._check_key(series.key)
            for start in range(0, len(series), self._block_rows):
                piece = series[start : start + self._block_rows]
                yield _piece(_block_of(piece, row))
                row += len(piece)

    def _check_key(self, key: SeriesKey) -> None:
        wanted = SeriesKey(
            self._wanted.symbol or key.symbol,
            self._wanted.timeframe or key.timeframe,
            self._wanted.exchange or key.exchange,
        )
        if key != wanted:
            raise InvalidData(f"must be {wanted}", field="key", value=str(key))


async def _only(series: CandleSeries) -> AsyncIterator[CandleSeries]:
    yield series


def _piece(block: Block) -> Piece:
    return Piece(by_series(block), block.stop_row, block.broken)


def _block_of(series: CandleSeries, first_row: int) -> Block:
    return Block(
        first_row + len(series),
        series.columns,
        np.arange(first_row, first_row + len(series), dtype=np.int64),
        Labels((series.key,)),
        np.zeros(len(series), np.bool_),
        series.to_arrow(),
    )
