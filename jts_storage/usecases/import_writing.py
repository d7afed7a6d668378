"""Store the checked rows of an import, after noting how far it has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jts_storage.domain.candle import SeriesKey
from jts_storage.readers.rows import BrokenRow
from jts_storage.usecases import quarantine
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.gate import Judged
from jts_storage.usecases.import_checks import ImportChecks
from jts_storage.usecases.import_reading import Input, Piece
from jts_storage.usecases.progress import ImportCheckpoint
from jts_storage.usecases.results import Tally


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

    async def store(self, judged: list[Judged], piece: Piece) -> None:
        """Store what has passed of a block."""
        state = self._progress.state
        # A run before this one may have stored the block and died before it could say so. Then its
        # counts are kept: counted again, its own rows would look as if they had been there before.
        begun_before = state.pending_stop == piece.stop
        block = _of_broken(piece.broken)
        async with self._storage.unit_of_work() as uow:
            for item in judged:
                may_replace = self._checks.may_replace(item)
                saved = await uow.candles.save_many(
                    item.key, item.series, detail=may_replace and not begun_before
                )
                item.tally.note(saved)
                item.tally.series[str(item.key)] = item.tally.counts()
                block.add(item.tally)
            if not begun_before:
                state.pending_stop, state.pending = piece.stop, block
            new = self._checks.note_new_symbols(judged)
            # Before the candles: what is stored and not noted would be counted twice.
            await self._note(judged, piece.broken)
            await self._checks.create_symbols(new)
            await uow.commit()
        state.mark_stored({str(item.key): item.after for item in judged})

    async def _note(self, judged: list[Judged], broken: Sequence[BrokenRow]) -> None:
        """Note what is about to be stored, and keep the rows that are quarantined."""
        name, origin = self._input.name, self._input.origin
        notes = [
            note
            for item in judged
            for note in quarantine.notes(item.key, name, item.quarantined, origin=origin)
        ]
        notes += quarantine.notes_of_broken(self._key, name, broken, origin=origin)
        if not (notes or self._progress.is_kept):
            return
        async with self._storage.unit_of_work() as uow:
            for note in notes:
                await uow.ingestion.checkpoints.save(note.name, note.data)
            await self._progress.save(uow.ingestion.checkpoints)
            await uow.commit()


def _of_broken(rows: Sequence[BrokenRow]) -> Tally:
    """The counts of rows that cannot be read; they are of no series."""
    if not rows:
        return Tally()
    rules = dict(Counter(row.rule for row in rows))
    return Tally(read=len(rows), quarantined=len(rows), broken=rules)
