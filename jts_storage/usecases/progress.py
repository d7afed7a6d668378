"""How far an import has come, kept as a checkpoint of the bookkeeping.

The checkpoint is saved before each block is written: rows before `rows` are stored, rows up to
`pending_stop` are being written and are counted in `pending`. After a crash the next run writes
that block again, which changes nothing if it was stored already, and keeps its counts. So one
small commit for each block is enough, and candles need no journal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from jts_storage.domain.candle import SeriesKey
from jts_storage.ports.ingestion import CheckpointRepository
from jts_storage.usecases.any_storage import AnyStorage
from jts_storage.usecases.incremental import Extent
from jts_storage.usecases.quality import Before
from jts_storage.usecases.results import Tally

PREFIX = "import:"


@dataclass(slots=True)
class ImportState:
    """What an import must know to resume.

    :param task: source and options; only an import of the same task resumes from this state.
    :param now_ms: when it began; a resumed import judges unclosed bars by the same time.
    :param before: the last row of each series.
    :param decimal: the decimal mark that was found in the rows so far.
    :param held: first and last timestamp of what each series held when it began; None where that
        was nothing.
    :param filled: of an incremental import, first and last timestamp of what it has stored among
        what a series held, the block that is pending included.
    :param began: the version of the last commit before it stored any of that; None if it has not,
        or if no history is kept.
    :param pending_before: what `before` becomes with the pending block.
    """

    task: dict[str, Any]
    now_ms: int
    rows: int = 0
    decimal: str | None = None
    tally: Tally = field(default_factory=Tally)
    before: dict[str, Before] = field(default_factory=dict)
    held: dict[str, Extent | None] = field(default_factory=dict)
    filled: dict[str, Extent] = field(default_factory=dict)
    began: int | None = None
    created: list[str] = field(default_factory=list)
    pending_stop: int | None = None
    pending: Tally = field(default_factory=Tally)
    pending_before: dict[str, Before] = field(default_factory=dict)
    is_done: bool = False

    def mark_pending(self, stop: int, counts: Tally, after: Mapping[str, Before]) -> None:
        """Note that the rows up to `stop` are being stored."""
        self.pending_stop, self.pending, self.pending_before = stop, counts, dict(after)

    def mark_stored(self) -> None:
        """Count the pending block as stored."""
        assert self.pending_stop is not None
        self.rows, self.pending_stop = self.pending_stop, None
        self.tally.add(self.pending)
        self.before.update(self.pending_before)
        self.pending, self.pending_before = Tally(), {}

    def to_json(self) -> dict[str, Any]:
        # What the fields hold is not copied: a checkpoint does that, and a state may be large.
        data = {of.name: getattr(self, of.name) for of in fields(self)}
        return data | {
            "before": _rows_json(self.before),
            "pending_before": _rows_json(self.pending_before),
            "tally": self.tally.to_json(),
            "pending": self.pending.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImportState:
        return cls(
            task=dict(data["task"]),
            now_ms=data["now_ms"],
            rows=data["rows"],
            decimal=data.get("decimal"),
            tally=Tally.from_json(data["tally"]),
            before=_rows(data["before"]),
            # A state of the first release has none: what is stored now is compared just as well.
            held={
                name: None if extent is None else (extent[0], extent[1])
                for name, extent in data.get("held", {}).items()
            },
            # A state of an earlier release has none of these. What its run has stored counts as
            # stored before, as it did there.
            filled={name: (first, last) for name, (first, last) in data.get("filled", {}).items()},
            began=data.get("began"),
            pending_before=_rows(data.get("pending_before", {})),
            created=list(data["created"]),
            pending_stop=data["pending_stop"],
            pending=Tally.from_json(data["pending"]),
            is_done=data["is_done"],
        )


def _rows_json(rows: Mapping[str, Before]) -> dict[str, list[int | None]]:
    return {name: [row.timestamp, row.close, row.last] for name, row in rows.items()}


def _rows(data: Mapping[str, list[int | None]]) -> dict[str, Before]:
    return {name: Before(*values) for name, values in data.items()}


class ImportCheckpoint:
    """The state of an import, and the checkpoint it is saved in if the source can be read again.

    :param now_ms: when it began.
    """

    def __init__(self, storage: AnyStorage, now_ms: int) -> None:
        self.state = ImportState({}, now_ms)
        self._storage = storage
        self._checkpoint: str | None = None
        self._names: dict[SeriesKey, str] = {}

    def names(self, keys: Iterable[SeriesKey]) -> list[str]:
        """What the series are called in the state: told once, asked for with each block."""
        known = self._names
        return [known.get(key) or known.setdefault(key, str(key)) for key in keys]

    @property
    def is_kept(self) -> bool:
        return self._checkpoint is not None

    async def begin(self, task: Mapping[str, Any], *, resume: bool) -> int | None:
        """Keep the state from now on.

        :param resume: go on where an interrupted run of the same task stopped.
        :returns: the row to go on at; None where it begins anew.
        """
        self.state.task = dict(task)
        self._checkpoint = name_of(task)
        stored = await self._storage.ingestion.checkpoints.get(self._checkpoint) if resume else None
        if stored is None or stored.data["is_done"]:
            return None
        self.state = ImportState.from_json(stored.data)
        return self.state.rows

    async def save(self, checkpoints: CheckpointRepository) -> None:
        if self._checkpoint is not None:
            await checkpoints.save(self._checkpoint, self.state.to_json())

    async def end(self) -> None:
        self.state.is_done = True
        if self.is_kept:
            async with self._storage.unit_of_work() as uow:
                await self.save(uow.ingestion.checkpoints)
                await uow.commit()


def name_of(task: Mapping[str, Any]) -> str:
    """Return the name of a task's checkpoint: the same for the same file, series and options."""
    # Sorted, so that the same task gives the same name in each process.
    text = json.dumps(task, sort_keys=True, ensure_ascii=False, default=str)
    return PREFIX + hashlib.sha256(text.encode()).hexdigest()[:32]
