"""Store the checked rows of an import, after noting how far it has come."""

from __future__ import annotations

from jts_storage.usecases import quarantine
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.gate import Judged
from jts_storage.usecases.import_checks import ImportChecks
from jts_storage.usecases.import_reading import Input
from jts_storage.usecases.progress import Progress
from jts_storage.usecases.results import Tally


class ImportWriter:
    """Writes block by block; see `progress` for what a crash in between comes to."""

    def __init__(
        self, storage: AnyStorage, given: Input, checks: ImportChecks, progress: Progress
    ) -> None:
        self._storage = storage
        self._input = given
        self._checks = checks
        self._progress = progress

    async def store(self, judged: list[Judged], stop: int) -> None:
        """Store a block whose last row is the one before `stop`."""
        state = self._progress.state
        # A run before this one may have stored the block and died before it could say so. Then its
        # counts are kept: counted again, its own rows would look as if they had been there before.
        begun_before = state.pending_stop == stop
        block = Tally()
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
                state.pending_stop, state.pending = stop, block
            # Before the candles: what is stored and not noted would be counted twice.
            await self._note(judged)
            await uow.commit()
        state.mark_stored({str(item.key): item.after for item in judged})

    async def _note(self, judged: list[Judged]) -> None:
        """Note what is about to be stored, and keep the rows that are quarantined."""
        name, origin = self._input.name, self._input.origin
        notes = [
            note
            for item in judged
            for note in quarantine.notes(item.key, name, item.quarantined, origin=origin)
        ]
        if not (notes or self._progress.is_kept):
            return
        async with self._storage.unit_of_work() as uow:
            for note in notes:
                await uow.ingestion.checkpoints.save(note.name, note.data)
            await self._progress.save(uow.ingestion.checkpoints)
            await uow.commit()
