"""What an import has done."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from jts_storage.domain import checks
from jts_storage.domain.results import SaveResult

COUNTS = (
    "read",
    "inserted",
    "replaced",
    "unchanged",
    "skipped",
    "duplicates",
    "rejected",
    "quarantined",
)


@dataclass(slots=True)
class Tally:
    """Counts of what happened to the rows; all of them together are `read`.

    :param skipped: stored already when an incremental import began.
    :param duplicates: replaced by a later row of the same timestamp.
    :param differing: how many of those skipped are stored with other values.
    :param series: how many rows were read of each series.
    """

    read: int = 0
    inserted: int = 0
    replaced: int = 0
    unchanged: int = 0
    skipped: int = 0
    duplicates: int = 0
    rejected: int = 0
    quarantined: int = 0
    differing: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    series: dict[str, int] = field(default_factory=dict)
    first_ms: int | None = None
    last_ms: int | None = None

    def add(self, other: Tally) -> None:
        for name in (*COUNTS, "differing"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for ours, theirs in ((self.broken, other.broken), (self.series, other.series)):
            for name, count in theirs.items():
                ours[name] = ours.get(name, 0) + count
        moments = (self.first_ms, other.first_ms, self.last_ms, other.last_ms)
        known = [moment for moment in moments if moment is not None]
        if known:
            self.first_ms, self.last_ms = min(known), max(known)

    def note(self, saved: SaveResult) -> None:
        """What became of the rows that were stored; without details all count as new."""
        self.inserted = saved.written if saved.inserted is None else saved.inserted
        self.replaced = saved.replaced or 0
        self.unchanged = saved.unchanged or 0

    @property
    def stored(self) -> int:
        return self.inserted + self.replaced + self.unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import did, over all its runs if it was interrupted.

    :param differing: rows among those skipped that are stored with other values: corrections,
        which only a full import stores.
    :param broken: how many rows broke each rule of the quality gate, whatever became of them.
    :param series: how many rows were read of each series, as ``KRX:005930/1m``.
    :param start: the first moment of what was stored, None if nothing was; `end` the last.
    :param resumed_at: the row at which this run went on, None if it began anew.
    """

    source: str
    read: int
    inserted: int
    replaced: int
    unchanged: int
    skipped: int
    duplicates: int
    rejected: int
    quarantined: int
    broken: dict[str, int]
    start: datetime | None
    end: datetime | None
    differing: int = 0
    series: dict[str, int] = field(default_factory=dict)
    created_symbols: tuple[str, ...] = ()
    resumed_at: int | None = None
    seconds: float = 0.0

    @property
    def imported(self) -> int:
        """How many rows are in the store because of this import, or were there alike."""
        return self.inserted + self.replaced + self.unchanged

    @property
    def rows_per_second(self) -> float:
        return self.read / self.seconds if self.seconds else 0.0

    @classmethod
    def of(cls, tally: Tally, **more: Any) -> ImportResult:
        counts = {name: getattr(tally, name) for name in COUNTS}
        return cls(
            **counts,
            differing=tally.differing,
            series=dict(sorted(tally.series.items())),
            broken=dict(tally.broken),
            start=None if tally.first_ms is None else checks.from_ms(tally.first_ms),
            end=None if tally.last_ms is None else checks.from_ms(tally.last_ms),
            **more,
        )
