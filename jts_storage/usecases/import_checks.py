"""Check the rows of an import against what is stored and against the quality gate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.usecases import incremental
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.gate import Judged, Part, passed
from jts_storage.usecases.import_options import ImportOptions
from jts_storage.usecases.incremental import Extents, Known
from jts_storage.usecases.known_symbols import KnownSymbols
from jts_storage.usecases.progress import ImportCheckpoint
from jts_storage.usecases.quality import Before


class ImportChecks:
    """Knows of each series what is stored, and judges its rows by that and by the policy."""

    def __init__(
        self, storage: AnyStorage, options: ImportOptions, progress: ImportCheckpoint
    ) -> None:
        self._candles = storage.candles
        self._options = options
        self._progress = progress
        self._symbols = KnownSymbols(storage, options.create)
        self._extents = Extents(storage.candles)

    async def require_symbol(self, code: str, exchange: str) -> None:
        """:raises NotFound: the symbol is not known, and is not to be created."""
        await self._symbols.require([code], exchange)

    def note_new_symbols(self, judged: Sequence[Judged]) -> list[str]:
        """Note which symbols are to be created with these rows, and return them."""
        codes = [item.key.symbol for item in judged if len(item.series)]
        new = self._symbols.unknown_among(codes)
        created = self._progress.state.created
        # A run that was interrupted may have noted them, and not come to create them.
        created += [code for code in new if code not in created]
        return new

    async def create_symbols(self, codes: Sequence[str]) -> None:
        await self._symbols.create(codes)

    async def prepare(self, key: SeriesKey) -> None:
        """Look up what is stored of a series, before its first rows."""
        await self._prepare([key])

    async def _prepare(self, keys: Sequence[SeriesKey]) -> None:
        new = [key for key in keys if key not in self._extents]
        exchange = new[0].exchange if new else ""
        await self._symbols.require((key.symbol for key in new), exchange)
        for key, extent in (await self._extents.read_all(new)).items():
            if self._options.is_incremental:
                # A resumed import keeps what the first run saw: its own rows do not count as old.
                self._progress.state.held.setdefault(str(key), extent)

    async def judge(self, found: list[Part]) -> list[Judged]:
        """Find out what becomes of each row of a block."""
        await self._prepare([part.key for part in found])
        known = [await self._stored_already(part) for part in found]
        return await asyncio.to_thread(self._judge, found, known)

    async def _stored_already(self, part: Part) -> Known | None:
        if not self._options.is_incremental:
            return None
        held = self._progress.state.held[str(part.key)]
        rows = self._options.block_rows
        return await incremental.known(self._candles, part.key, part.columns, held, rows)

    def _judge(self, found: list[Part], known: list[Known | None]) -> list[Judged]:
        state = self._progress.state
        policy = replace(self._options.policy, now=checks.from_ms(state.now_ms))
        return [
            passed(part, policy, state.before.get(str(part.key), Before()), its)
            for part, its in zip(found, known, strict=True)
        ]

    def may_replace(self, item: Judged) -> bool:
        """Return whether rows that are about to be stored may take the place of stored ones.

        Only then is it worth asking the store which of them are new.
        """
        stamps = item.series.columns.timestamp
        if self._options.is_incremental:
            # Rows within it were compared already, and those that are stored were skipped.
            held = self._progress.state.held[str(item.key)]
            stamps = stamps[incremental.outside(stamps, held)]
        return self._extents.widen(item.key, stamps)
