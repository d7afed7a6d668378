"""Check the rows of an import against what is stored and against the quality gate."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jts_storage.domain import checks
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.columns import Int64Array
from jts_storage.usecases import incremental
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.gate import Again, BlockRows, Judged, passed
from jts_storage.usecases.import_options import ImportOptions
from jts_storage.usecases.incremental import (
    NEVER,
    Extent,
    Extents,
    Grouped,
    Known,
    StoredBefore,
    ends_of,
)
from jts_storage.usecases.known_symbols import KnownSymbols
from jts_storage.usecases.progress import ImportCheckpoint
from jts_storage.usecases.quality import Before
from jts_storage.usecases.rules import offsets_of


class ImportChecks:
    """Knows of each series what is stored, and judges its rows by that and by the policy."""

    def __init__(
        self, storage: AnyStorage, options: ImportOptions, progress: ImportCheckpoint
    ) -> None:
        self._storage = storage
        self._options = options
        self._progress = progress
        self._symbols = KnownSymbols(storage, options.create)
        self._extents = Extents(storage.candles)

    async def require_symbol(self, code: str, exchange: str) -> None:
        """:raises NotFound: the symbol is not known, and is not to be created."""
        await self._symbols.require({code: exchange})

    def note_new_symbols(self, judged: Judged) -> list[str]:
        """Note which symbols are to be created with these rows, and return them."""
        filled = np.diff(judged.rows.offsets) > 0
        each = zip(judged.keys, filled.tolist(), strict=True)
        new = self._symbols.unknown_among(key.symbol for key, has_rows in each if has_rows)
        # A run that was interrupted may have noted them, and not come to create them.
        noted = set(self._progress.state.created)
        self._progress.state.created += [code for code in new if code not in noted]
        return new

    async def create_symbols(self, codes: Sequence[str]) -> None:
        await self._symbols.create(codes)

    async def prepare(self, key: SeriesKey) -> None:
        """Look up what is stored of a series, before its first rows."""
        await self._prepare([key])

    async def _prepare(self, keys: Sequence[SeriesKey]) -> None:
        new = [key for key in keys if key not in self._extents]
        if not new:
            return
        exchanges: dict[str, str] = {}
        for key in new:  # in the order of the file, and of several exchanges the first
            exchanges.setdefault(key.symbol, key.exchange)
        await self._symbols.require(exchanges)
        found = await self._extents.read_all(new)
        # A resumed import keeps what the first run saw: its own rows do not count as old.
        for name, extent in zip(self._progress.names(new), found.values(), strict=True):
            self._progress.state.held.setdefault(name, extent)

    async def judge(self, found: BlockRows) -> Judged:
        """Find out what becomes of each row of a block."""
        await self._prepare(found.keys)
        known = await self._stored_already(found)
        return await asyncio.to_thread(self._judge, found, known)

    async def _stored_already(self, found: BlockRows) -> Known | None:
        if not self._options.is_incremental:
            return None
        state = self._progress.state
        before = StoredBefore(self._storage.candles, self._options.block_rows, state.began)
        filled = [state.filled.get(name) for name in self._progress.names(found.keys)]
        rows = Grouped(found.keys, found.offsets, found.columns)
        return await before.known(rows, self._held(found.keys), filled)

    def _held(self, keys: Sequence[SeriesKey]) -> list[Extent | None]:
        held = self._progress.state.held
        return [held[name] for name in self._progress.names(keys)]

    def _judge(self, found: BlockRows, known: Known | None) -> Judged:
        state = self._progress.state
        policy = replace(self._options.policy, now=checks.from_ms(state.now_ms))
        nothing = Before()
        before = [state.before.get(name, nothing) for name in self._progress.names(found.keys)]
        return passed(found, policy, before, known)

    async def may_replace(self, judged: Judged) -> list[bool]:
        """Return of each series whether rows about to be stored may take the place of stored ones.

        Only then is it worth asking the store which of them are new.
        """
        stamps, offsets = judged.rows.columns.timestamp, judged.rows.offsets
        again = [False] * len(judged.keys)
        if self._options.is_incremental:
            # Rows within what is held were compared already: those that were stored are skipped,
            # so the others can replace nothing but what this import itself has stored.
            outside = incremental.outside(stamps, offsets, self._held(judged.keys))
            if not outside.all():
                again = await self._fill(
                    judged.keys, stamps[~outside], offsets_of(offsets, ~outside)
                )
            stamps, offsets = stamps[outside], offsets_of(offsets, outside)
        for number, ends in ends_of(stamps, offsets):
            again[number] |= self._extents.widen(judged.keys[number], *ends)
        return again

    async def counted(self, again: Again, asks: Sequence[bool]) -> dict[str, list[int]]:
        """What becomes of the rows of each series as they are stored, by the names of the counts.

        Each row is compared with what stands in its place when it comes, be that of an earlier
        block or of its own, so that it counts alike wherever blocks end.

        :param asks: of each series, whether to ask which are new; those of the others count so.
        """
        rows = again.firsts
        ends = {
            number: its
            for number, its in ends_of(rows.columns.timestamp, rows.offsets)
            if asks[number]
        }
        grouped = Grouped(rows.keys, rows.offsets, rows.columns)
        candles, block_rows = self._storage.candles, self._options.block_rows
        known = await incremental.compared(candles, grouped, ends, block_rows)
        lasts = [held and held[1] for held in self._held(rows.keys)]
        late = np.array([NEVER[1] if last is None else last for last in lasts], np.int64)
        number = np.concatenate([rows.number, again.number])
        # Of what lies behind all that was stored before, nothing but the import's own is replaced.
        own = np.concatenate([rows.columns.timestamp, again.stamps]) > late[number]
        stored = np.concatenate([known.stored, np.ones(len(again.same), np.bool_)])
        differing = np.concatenate([known.differing, ~again.same])
        counts = {
            "inserted": ~stored,
            "replaced": differing & ~own,
            "unchanged": stored & ~differing & ~own,
            "duplicates": stored & own,
        }
        return {
            name: np.bincount(number[which], minlength=len(rows.keys)).tolist()
            for name, which in counts.items()
        }

    async def _fill(
        self, keys: Sequence[SeriesKey], stamps: Int64Array, offsets: Int64Array
    ) -> list[bool]:
        """Note rows that are stored among what was held, and where such rows may be already."""
        state, names = self._progress.state, self._progress.names(keys)
        if not state.filled and state.began is None:
            state.began = await incremental.latest_commit(self._storage, keys[0])
        found = [False] * len(keys)
        for number, ends in ends_of(stamps, offsets):
            before = state.filled.get(names[number])
            found[number] = incremental.meets(ends, before)
            state.filled[names[number]] = incremental.widened(ends, before)
        return found
