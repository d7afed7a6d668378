"""Store the checked rows of an import, after noting how far it has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.domain.rows import SeriesRows
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.readers.rows import BrokenRow
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.gate import Judged
from jts_storage.usecases.import_checks import ImportChecks
from jts_storage.usecases.import_reading import Input, Piece
from jts_storage.usecases.progress import ImportCheckpoint
from jts_storage.usecases.quarantine import Note, Notes
from jts_storage.usecases.results import COUNTS, Tally


class ImportWriter:
    """Writes block by block; see `progress` for what a crash in between comes to."""

    def __init__(
        self,
        storage: AnyStorage,
        given: Input,
        checks: ImportChecks,
        progress: ImportCheckpoint,
        key: SeriesKey | None,
    ) -> None:
        self._storage = storage
        self._input = given
        self._checks = checks
        self._progress = progress
        self._key = key
        self._notes = Notes(storage, given.name, given.origin)

    async def store(self, judged: Judged, piece: Piece) -> None:
        """Store what has passed of a block."""
        state = self._progress.state
        # A run before this one may have stored the block and died before it could say so. Then its
        # counts are kept: counted again, its own rows would look as if they had been there before.
        begun_before = state.pending_stop == piece.stop
        names = self._progress.names(judged.keys)
        may_replace = await self._checks.may_replace(judged)
        after = dict(zip(names, judged.after, strict=True))
        async with self._storage.unit_of_work() as uow:
            stored = await _save(
                uow, judged.rows, [False] * len(names) if begun_before else may_replace
            )
            if not begun_before:
                tally = _tally_of(judged, names, stored, piece.broken)
                state.mark_pending(piece.stop, tally, after)
            elif not state.pending_before:  # noted by an earlier release
                state.pending_before = after
            new = self._checks.note_new_symbols(judged)
            # Before the candles: what is stored and not noted would be counted twice.
            await self._note(judged, piece.broken)
            await self._checks.create_symbols(new)
            await uow.commit()
        state.mark_stored()

    async def _note(self, judged: Judged, broken: Sequence[BrokenRow]) -> None:
        """Note what is about to be stored, and keep the rows that are quarantined."""
        notes: list[Note] = []
        for key, rows in judged.quarantined.items():
            notes += await self._notes.of(key, rows)
        notes += await self._notes.of_broken(self._key, broken)
        if not (notes or self._progress.is_kept):
            return
        async with self._storage.unit_of_work() as uow:
            for note in notes:
                await uow.ingestion.checkpoints.save(note.name, note.data)
            await self._progress.save(uow.ingestion.checkpoints)
            await uow.commit()


async def _save(uow: UnitOfWork, rows: SeriesRows, asks: Sequence[bool]) -> dict[str, list[int]]:
    """Store the rows; what became of those of each series, by the names of the counts.

    :param asks: of each series, whether to ask the store which are new; the others count as such.
    """
    counts = {"inserted": np.diff(rows.offsets).tolist()}
    counts |= {name: [0] * len(rows.keys) for name in ("replaced", "unchanged")}
    asked = {
        key: at for at, (key, is_asked) in enumerate(zip(rows.keys, asks, strict=True)) if is_asked
    }
    # Some of them may have no rows.
    for series in rows.only(list(asked.values())):
        saved = await uow.candles.save_many(series.key, series, detail=True)
        for name, of_each in counts.items():
            of_each[asked[series.key]] = getattr(saved, name)
    others: dict[Timeframe, list[int]] = {}
    for number, key in enumerate(rows.keys):
        if key not in asked:
            others.setdefault(key.timeframe, []).append(number)
    for timeframe, numbers in others.items():
        part = rows.only(numbers)
        if part.rows:
            panel = CandlePanel.trusted(timeframe, part.keys, part.offsets, part.columns)
            await uow.candles.save_panel(panel)
    return counts


def _tally_of(
    judged: Judged,
    names: Sequence[str],
    stored: dict[str, list[int]],
    broken: Sequence[BrokenRow],
) -> Tally:
    """The counts of a block: of each series, and of all with the rows that cannot be read."""
    tally = judged.tally
    for name, of_each in stored.items():
        setattr(tally, name, sum(of_each))
    counts = judged.counts | stored
    of_series = zip(*(counts[name] for name in COUNTS), strict=True)
    tally.series = {
        series: {name: count for name, count in zip(COUNTS, each, strict=True) if count}
        for series, each in zip(names, of_series, strict=True)
    }
    tally.add(_of_broken(broken))
    return tally


def _of_broken(rows: Sequence[BrokenRow]) -> Tally:
    """The counts of rows that cannot be read; they are of no series."""
    if not rows:
        return Tally()
    rules = dict(Counter(row.rule for row in rows))
    return Tally(read=len(rows), quarantined=len(rows), broken=rules)
