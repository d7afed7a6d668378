"""Import candles from files, frames and streams into a storage.

An import reads blocks (`import_reading`), checks each (`import_checks`) and stores it
(`import_writing`); `progress` is what it resumes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter

from jts_storage._runtime.steps import IMPORT, RESUMED, Ended, tell
from jts_storage.domain import checks
from jts_storage.domain.enums import Timeframe
from jts_storage.ports.observation import IMPORTS
from jts_storage.readers.owners import Wanted
from jts_storage.usecases.any_storage import AnyStorage, told
from jts_storage.usecases.import_checks import ImportChecks
from jts_storage.usecases.import_options import ImportOptions
from jts_storage.usecases.import_reading import Data, Input, Streams, input_of
from jts_storage.usecases.import_writing import ImportWriter
from jts_storage.usecases.progress import ImportCheckpoint
from jts_storage.usecases.results import ImportResult


@dataclass(frozen=True, slots=True)
class ImportProgress:
    """Passed to `progress` after every stored block.

    :param fraction: how much of the source was read, None if unknown.
    :param read_bytes: of a stream, how much has come; its rows are read when it ends.
    """

    rows: int
    fraction: float | None
    read_bytes: int | None = None


class ImportCandles:
    """Reads a source block by block, judges it, and stores what passes.

    Memory stays constant. After every block the bookkeeping knows how far it has come; interrupted
    and run again with the same source and options, it resumes there and ends as if nothing had
    happened.
    """

    def __init__(self, storage: AnyStorage) -> None:
        self._storage = storage

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
        wanted = Wanted(symbol, timeframe, exchange)
        work = partial(self._told, data, wanted, options or ImportOptions(), progress)
        return await told(self._storage, *IMPORTS, work)

    async def _told(
        self,
        data: Data,
        wanted: Wanted,
        options: ImportOptions,
        progress: Callable[[ImportProgress], None] | None,
    ) -> ImportResult:
        """Import it, and tell how that ended."""
        begun = perf_counter()
        source = "file" if isinstance(data, str | Path) else "data"
        try:
            result = await self._run(data, wanted, options, progress)
        except BaseException:  # a cancelled one, too, is resumed or is not
            tell(Ended(IMPORT, source, "failed", seconds=perf_counter() - begun))
            raise
        tell(Ended(IMPORT, source, "finished", seconds=perf_counter() - begun))
        return result

    async def _run(
        self,
        data: Data,
        wanted: Wanted,
        options: ImportOptions,
        progress: Callable[[ImportProgress], None] | None,
    ) -> ImportResult:
        loop = asyncio.get_running_loop()

        def came(count: int) -> None:  # from the thread that reads
            if progress is not None:
                loop.call_soon_threadsafe(progress, ImportProgress(0, None, count))

        with Streams(came) as held:
            given = await asyncio.to_thread(input_of, data, wanted, options, held)
            return await _Import(self._storage, given, wanted, options, progress).run()


class _Import:
    """One run over one input."""

    def __init__(
        self,
        storage: AnyStorage,
        given: Input,
        wanted: Wanted,
        options: ImportOptions,
        report: Callable[[ImportProgress], None] | None,
    ) -> None:
        self._input = given
        self._wanted = wanted
        self._options = options
        self._report = report
        self._progress = ImportCheckpoint(storage, checks.to_ms(options.policy.now or checks.now()))
        self._checks = ImportChecks(storage, options, self._progress)
        self._writer = ImportWriter(storage, given, self._checks, self._progress, self._wanted.key)

    async def run(self) -> ImportResult:
        started = perf_counter()
        resumed_at = await self._begin()
        blocks = self._input.blocks(self._progress.state, self._checks.prepare)
        # Closed at once on an error: a thread may still be reading the file.
        async with aclosing(blocks) as found:
            async for piece in found:
                judged = await self._checks.judge(piece.rows)
                await self._writer.store(judged, piece)
                self._tell()
        await self._progress.end()
        return self._result(resumed_at, perf_counter() - started)

    async def _begin(self) -> int | None:
        """Return the row to resume at; None where the import begins anew."""
        # Before anything is read: nobody waits for a large file whose symbol is then refused.
        if self._input.symbol is not None:
            await self._checks.require_symbol(self._input.symbol, self._wanted.exchange)
        if self._input.identity is None:
            return None
        task = {
            "source": dict(self._input.identity),
            "key": self._wanted.described(),
            **self._options.described(),
        }
        resumed_at = await self._progress.begin(task, resume=self._options.resume)
        if resumed_at is not None:
            tell(Ended(RESUMED))
        return resumed_at

    def _tell(self) -> None:
        if self._report is not None:
            rows = self._progress.state.rows
            self._report(ImportProgress(rows, self._input.fraction()))

    def _result(self, resumed_at: int | None, seconds: float) -> ImportResult:
        return ImportResult.of(
            self._progress.state.tally,
            source=self._input.name,
            # Sorted: they come block by block.
            created_symbols=tuple(sorted(self._progress.state.created)),
            resumed_at=resumed_at,
            seconds=seconds,
        )


__all__ = ["Data", "ImportCandles", "ImportOptions", "ImportProgress"]
