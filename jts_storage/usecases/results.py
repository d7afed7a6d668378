"""What an import has done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from typing import Any, Self

from jts_storage.domain import checks
from jts_storage.readers.adjusting import Adjusted, Changes

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
_ROUNDED = {"prices", "volumes"}


@dataclass(slots=True)
class Tally:
    """Counts of what happened to the rows; all of them together are `read`.

    They are the same in blocks of any size: each row meets what stands in its place when it comes.

    :param replaced: with other values than what was stored, be it by an earlier row; `unchanged`
        with the same.
    :param skipped: stored already when an incremental import began.
    :param duplicates: of a timestamp that an earlier row had, behind all that was stored before.
    :param differing: how many of those skipped are stored with other values.
    :param forwards: how many rows are later than the one of their series before them.
    :param series: the counts of each series, those of zero left out.
    :param adjusted: what was rounded, because the caller asked for it.
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
    forwards: int = 0
    broken: dict[str, int] = field(default_factory=dict)
    series: dict[str, dict[str, int]] = field(default_factory=dict)
    adjusted: Adjusted = field(default_factory=Adjusted)
    first_ms: int | None = None
    last_ms: int | None = None

    def add(self, other: Tally) -> None:
        for name in (*COUNTS, "differing", "forwards"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        _add(self.broken, other.broken)
        for key, counts in other.series.items():
            _add(self.series.setdefault(key, {}), counts)
        self.adjusted += other.adjusted
        moments = (self.first_ms, other.first_ms, self.last_ms, other.last_ms)
        known = [moment for moment in moments if moment is not None]
        if known:
            self.first_ms, self.last_ms = min(known), max(known)

    def to_json(self) -> dict[str, Any]:
        # What the fields hold is not copied: of thousands of series that would take long.
        data = {of.name: getattr(self, of.name) for of in fields(self)}
        adjusted = asdict(self.adjusted)
        for name in _ROUNDED:
            adjusted[name]["largest"] = str(adjusted[name]["largest"])
        return data | {"adjusted": adjusted}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Return a tally that was stored, perhaps by an earlier release with fewer counts."""
        adjusted = dict(data.get("adjusted", {}))
        for name in _ROUNDED & adjusted.keys():
            changes = adjusted[name]
            adjusted[name] = Changes(changes["values"], Decimal(changes["largest"]))
        series = {
            key: {"read": counts} if isinstance(counts, int) else dict(counts)
            for key, counts in data.get("series", {}).items()
        }
        more = {
            "broken": dict(data.get("broken", {})),
            "series": series,
            # Not counted by earlier releases: there may have been some.
            "forwards": data.get("forwards", 1),
        }
        return cls(**{**data, **more, "adjusted": Adjusted(**adjusted)})

    @property
    def stored(self) -> int:
        return self.inserted + self.replaced + self.unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import did, over all its runs if it was interrupted.

    :param differing: rows among those skipped that are stored with other values: corrections,
        which only a full import stores.
    :param broken: how many rows broke each rule of the quality gate, whatever became of them.
    :param newest_first: whether every row that can be compared is earlier than the one before, or
        of the same time; they are stored by time nevertheless.
    :param series: how many rows were read of each series, as ``KRX:005930/1m``.
    :param by_series: the counts of each series, those of zero left out.
    :param adjusted: what was rounded, because the caller asked for it.
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
    newest_first: bool = False
    series: dict[str, int] = field(default_factory=dict)
    by_series: dict[str, dict[str, int]] = field(default_factory=dict)
    adjusted: Adjusted = field(default_factory=Adjusted)
    created_symbols: tuple[str, ...] = ()
    resumed_at: int | None = None
    seconds: float = 0.0

    @property
    def imported(self) -> int:
        """How many rows are in the store because of this import, or were there alike."""
        return self.inserted + self.replaced + self.unchanged

    @property
    def is_stored_by_time(self) -> bool:
        """Whether the rows came from newest to oldest, and were not refused for that."""
        refused = self.rejected + self.quarantined
        order = self.broken.get("order", 0)
        others = sum(self.broken.values()) - order
        stored = self.imported + self.skipped + self.duplicates
        explained = refused <= others and stored > len(self.series)
        return self.newest_first and (refused < order or explained)

    @property
    def rows_per_second(self) -> float:
        return self.read / self.seconds if self.seconds else 0.0

    @classmethod
    def of(cls, tally: Tally, **more: Any) -> ImportResult:
        counts = {name: getattr(tally, name) for name in COUNTS}
        series = dict(sorted(tally.series.items()))
        return cls(
            **counts,
            differing=tally.differing,
            newest_first=bool(tally.broken.get("order")) and not tally.forwards,
            series={key: counts.get("read", 0) for key, counts in series.items()},
            by_series=series,
            adjusted=tally.adjusted,
            broken=dict(tally.broken),
            start=None if tally.first_ms is None else checks.from_ms(tally.first_ms),
            end=None if tally.last_ms is None else checks.from_ms(tally.last_ms),
            **more,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesResult:
    """What an import of many files did.

    :param files: what became of each that was imported.
    :param refused: why each of the others was not.
    :param left: files behind the one that was refused, which were not tried.
    """

    files: tuple[ImportResult, ...]
    refused: dict[str, str]
    left: tuple[str, ...]
    total: ImportResult


def total_of(results: Iterable[ImportResult], source: str) -> ImportResult:
    """Return what several imports did together."""
    tally = Tally()
    created: dict[str, None] = {}
    seconds = 0.0
    for result in results:
        counts = {name: getattr(result, name) for name in (*COUNTS, "differing", "adjusted")}
        first, last = (
            None if moment is None else checks.to_ms(moment)
            for moment in (result.start, result.end)
        )
        tally.add(
            Tally(
                **counts,
                broken=result.broken,
                series=result.by_series,
                # Not known of a file that is neither; what matters is whether there is any.
                forwards=int(not result.newest_first and _has_order(result)),
                first_ms=first,
                last_ms=last,
            )
        )
        created |= dict.fromkeys(result.created_symbols)
        seconds += result.seconds
    return ImportResult.of(tally, source=source, created_symbols=tuple(created), seconds=seconds)


def _add(ours: dict[str, int], theirs: Mapping[str, int]) -> None:
    for name, count in theirs.items():
        ours[name] = ours.get(name, 0) + count


def _has_order(result: ImportResult) -> bool:
    """Whether a series has more than one row."""
    return max(result.series.values(), default=0) > 1
