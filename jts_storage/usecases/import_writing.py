"""Store the checked rows of an import, after noting how far it has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from jts_storage._runtime.steps import BLOCK, Ended, tell
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
        # A file's name may be no UTF-8.
        self._source = f"import of {given.name}".encode(errors="replace").decode()
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
        asks = [False] * len(names) if begun_before else may_replace
        stored = await self._checks.counted(judged.again, asks)
        async with self._storage.unit_of_work(source=self._source) as uow:
            await _save(uow, judged.rows)
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
        counts = {name: getattr(state.pending, name) for name in COUNTS if name != "read"}
        state.mark_stored()
        tell(Ended(BLOCK, counts=counts))

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


async def _save(uow: UnitOfWork, rows: SeriesRows) -> None:
    of_timeframes: dict[Timeframe, list[int]] = {}
    for number, key in enumerate(rows.keys):
        of_timeframes.setdefault(key.timeframe, []).append(number)
    for timeframe, numbers in of_timeframes.items():
        part = rows.only(numbers)
        if part.rows:
            panel = CandlePanel.trusted(timeframe, part.keys, part.offsets, part.columns)
            await uow.candles.save_panel(panel)


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
