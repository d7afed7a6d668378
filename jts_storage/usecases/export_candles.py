"""Export candles into files, in constant memory."""

from __future__ import annotations

import secrets
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from time import perf_counter
from typing import IO

from jts_storage.domain import checks
from jts_storage.domain.calendar import TradingCalendar
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe, member
from jts_storage.domain.resampling import check_coarser
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import StorageError
from jts_storage.usecases.any_storage import BLOCK_ROWS, AnyStorage
from jts_storage.usecases.writers import open_writer


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportResult:
    """What was written. `start` and `end` are None where there was nothing.

    :param path: of the file, ``-`` of an open one.
    """

    path: Path
    key: SeriesKey
    rows: int
    start: datetime | None
    end: datetime | None
    seconds: float


class ExportCandles:
    """Streams a series into a file, in the format that its suffix stands for.

    ``.csv``, ``.jsonl`` (both with ``.gz`` or ``.zst`` behind, if wanted), ``.parquet``,
    ``.feather`` or ``.arrow``. What `ImportCandles` reads of it is the same series to the last
    digit. The file appears under its name when it is complete, never before; an open file, such as
    standard output, is written as the rows come, and stays open.
    """

    def __init__(self, storage: AnyStorage) -> None:
        self._storage = storage

    async def run(
        self,
        key: SeriesKey,
        path: Path | str | IO[bytes],
        *,
        format: str = "csv",
        start: datetime | None = None,
        end: datetime | None = None,
        timeframe: Timeframe | None = None,
        calendar: TradingCalendar | str | None = None,
        timezone: tzinfo | str = UTC,
        progress: Callable[[int], None] | None = None,
    ) -> ExportResult:
        """Write the candles from `start` to `end`, both included.

        :param format: of an open file, as the suffix of a path has it.
        :param timeframe: resample to it; days are sessions of `calendar`, or of `timezone`.
        :param progress: called with the rows written so far.
        :raises InvalidData: the suffix stands for no format, or the timeframe is not a coarser one.
        :raises StorageError: the file cannot be written; what was there stays.
        """
        began = perf_counter()
        target = Path(path) if isinstance(path, Path | str) else Path(f"-.{format}")
        blocks = self._storage.candles.stream(
            key,
            start or checks.FIRST_TIMESTAMP,
            end or checks.LAST_TIMESTAMP,
            block_rows=BLOCK_ROWS,
        )
        written = SeriesKey(key.symbol, timeframe or key.timeframe, key.exchange)
        if timeframe is not None and timeframe is not key.timeframe:
            check_coarser(key.timeframe, member(Timeframe, timeframe, "timeframe"))
            blocks = resampled(blocks, timeframe, calendar, timezone)
        rows, first, last = 0, None, None
        with _into(path) as half, open_writer(half, target) as writer:
            async for block in blocks:
                await writer.write(block)
                rows += len(block)
                first, last = first or block.start, block.end
                if progress is not None:
                    progress(rows)
        return ExportResult(
            path=target if isinstance(path, Path | str) else Path("-"),
            key=written,
            rows=rows,
            start=first,
            end=last,
            seconds=perf_counter() - began,
        )


def _into(path: Path | str | IO[bytes]) -> AbstractContextManager[Path | IO[bytes]]:
    return _replacing(Path(path)) if isinstance(path, Path | str) else nullcontext(path)


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give a path to write to; the file there replaces `target` when the block ends well.

    A link stays, and what it leads to is replaced; a file that is replaced leaves its mode.

    :raises StorageError: it cannot be written; what was there stays.
    """
    # In the same folder, so that the rename is atomic; hidden and random, so that two exports to
    # one path do not write into each other's file.
    real = target.resolve()
    half = real.with_name(f".{real.name}.{secrets.token_hex(4)}.part")
    try:
        yield half
        if real.exists():
            half.chmod(stat.S_IMODE(real.stat().st_mode))
        half.replace(real)
    except OSError as exc:
        raise StorageError(
            f"{target} cannot be written: {exc.strerror or exc}. What was there stays.",
            remedy="Make room, or choose another path.",
        ) from exc
    finally:
        half.unlink(missing_ok=True)


async def resampled(
    blocks: AsyncIterator[CandleSeries],
    timeframe: Timeframe,
    calendar: TradingCalendar | str | None = None,
    timezone: tzinfo | str = UTC,
) -> AsyncIterator[CandleSeries]:
    """Coarser candles of a stream, as if it had been resampled in one piece."""

    def coarser(series: CandleSeries) -> CandleSeries:
        return series.resample(timeframe, calendar=calendar, timezone=timezone)

    waiting: CandleSeries | None = None
    async for block in blocks:
        together = block if waiting is None else waiting.merge(block)
        # The last coarse bar may continue in the next block, so its candles are kept back.
        rows = _rows_of_last_bar(together, coarser)
        complete, waiting = together[: len(together) - rows], together.tail(rows)
        if len(complete):
            yield coarser(complete)
    if waiting is not None and len(waiting):
        yield coarser(waiting)


def _rows_of_last_bar(series: CandleSeries, coarser: Callable[[CandleSeries], CandleSeries]) -> int:
    """Count the candles at the end that make up one coarse bar, by doubling, then halving."""
    # Tried out: where a bar begins depends on sessions and clock changes, which `coarser` knows.
    enough = 1
    while enough < len(series) and len(coarser(series.tail(enough))) == 1:
        enough *= 2
    if enough >= len(series):
        enough = len(series)
        if len(coarser(series)) == 1:
            return enough
    fits, too_many = enough // 2, enough
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if len(coarser(series.tail(middle))) == 1:
            fits = middle
        else:
            too_many = middle
    return max(fits, 1)
