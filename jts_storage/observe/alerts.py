"""Thresholds, and which of them are crossed: the same for Prometheus and within a process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from jts_storage.errors import InvalidData
from jts_storage.observe import catalogue
from jts_storage.observe.catalogue import Metric

Severity = Literal["warning", "critical"]
_RUNBOOK: Final = "docs/how-to/on-call.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A threshold of one metric.

    :param above: it is crossed by a higher value.
    :param below: it is crossed by a lower value.
    :param lasting: for how many seconds before anybody is told.
    :param rate: judge how fast a counter grows, by the second, in place of what it is.
    :param section: of the runbook, by the anchor of its heading.
    """

    name: str
    metric: Metric
    summary: str
    section: str
    above: float | None = None
    below: float | None = None
    lasting: float = 0.0
    rate: bool = False
    where: tuple[tuple[str, str], ...] = ()
    severity: Severity = "warning"

    def __post_init__(self) -> None:
        if (self.above is None) == (self.below is None):
            raise InvalidData("has one of above and below", field="alert", value=self.name)
        known = () if self.rate else self.metric.labels
        try:
            self.summary.format(value=0.0, **dict.fromkeys(known, ""))
        except (KeyError, IndexError, ValueError, AttributeError) as exc:
            raise InvalidData(
                f"has a summary that names more than value, {', '.join(known) or 'and no label'}",
                field="alert",
                value=self.name,
            ) from exc

    @property
    def runbook(self) -> str:
        """Where it says what to do."""
        return f"{_RUNBOOK}#{self.section}"

    @property
    def expression(self) -> str:
        """As Prometheus has it."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.where)
        metric = f"{self.metric.exposed}{{{labels}}}" if labels else self.metric.exposed
        if self.rate:
            metric = f"sum(rate({metric}[5m]))"
        sign, bound = (">", self.above) if self.above is not None else ("<", self.below)
        return f"{metric} {sign} {bound:.12g}"

    def with_threshold(self, value: float, *, lasting: float | None = None) -> Alert:
        """The same with another threshold."""
        changed = replace(self, lasting=self.lasting if lasting is None else lasting)
        if self.above is not None:
            return replace(changed, above=value)
        return replace(changed, below=value)

    def is_crossed(self, value: float) -> bool:
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below


_MINUTE: Final = 60.0
_GIGABYTE: Final = 2.0**30

ALERTS: Final = (
    Alert(
        name="StoreDown",
        metric=catalogue.UP,
        below=1,
        lasting=5,
        severity="critical",
        summary="The store {store} does not answer.",
        section="a-store-is-down",
    ),
    Alert(
        name="StateStale",
        metric=catalogue.STATE_IS_FRESH,
        below=1,
        lasting=_MINUTE,
        severity="critical",
        summary="The stores cannot be looked at in time: other figures are those of before.",
        section="the-stores-cannot-be-looked-at",
    ),
    Alert(
        name="JournalEntryOld",
        metric=catalogue.JOURNAL_OLDEST,
        above=_MINUTE,
        severity="critical",
        summary="A decided commit has not reached every store for {value:.0f} s.",
        section="an-old-journal-entry",
    ),
    Alert(
        name="CommitDamaged",
        metric=catalogue.JOURNAL_DAMAGED,
        above=0,
        severity="critical",
        summary="{value:.0f} decided commits cannot be read in the journal.",
        section="a-damaged-commit",
    ),
    Alert(
        name="OutboxLate",
        metric=catalogue.OUTBOX_OLDEST,
        above=5 * _MINUTE,
        summary="An event waits for its handlers for {value:.0f} s.",
        section="events-are-late",
    ),
    Alert(
        name="EventsParked",
        metric=catalogue.OUTBOX_PARKED,
        above=0,
        summary="{value:.0f} events failed too often and are parked.",
        section="parked-events",
    ),
    Alert(
        name="CandlesLate",
        metric=catalogue.LATE,
        above=5 * _MINUTE,
        lasting=_MINUTE,
        summary="Candles of {exchange} ({timeframe}) are {value:.0f} s late.",
        section="candles-are-late",
    ),
    Alert(
        name="PoolExhausted",
        metric=catalogue.CONNECTION_WAITS,
        rate=True,
        above=1,
        lasting=_MINUTE,
        summary="{value:.1f} calls a second wait for a connection.",
        section="a-pool-is-exhausted",
    ),
    Alert(
        name="ConflictStorm",
        metric=catalogue.COMMITS,
        where=(("outcome", "conflict"),),
        rate=True,
        above=5,
        lasting=_MINUTE,
        summary="{value:.1f} commits a second end in a conflict.",
        section="a-storm-of-conflicts",
    ),
    Alert(
        name="PartsGrowing",
        metric=catalogue.PARTS,
        above=300,
        lasting=5 * _MINUTE,
        summary="The table {table} has {value:.0f} parts.",
        section="parts-are-growing",
    ),
    Alert(
        name="PartsBroken",
        metric=catalogue.BROKEN_PARTS,
        above=0,
        severity="critical",
        summary="{value:.0f} parts of ClickHouse tables are damaged: reads miss their rows.",
        section="broken-parts",
    ),
    Alert(
        name="DiskLow",
        metric=catalogue.DISK_FREE,
        below=5 * _GIGABYTE,
        severity="critical",
        summary="{value:.0f} bytes are left on the disk of the store {store}.",
        section="the-disk-is-filling",
    ),
    Alert(
        name="BackupOld",
        metric=catalogue.BACKUP_AGE,
        above=26 * 60 * _MINUTE,
        severity="critical",
        summary="The newest backup is {value:.0f} s old.",
        section="the-backup-is-old",
    ),
    Alert(
        name="BackupMissing",
        metric=catalogue.BACKUPS_READABLE,
        below=1,
        lasting=_MINUTE,
        severity="critical",
        summary="The repository that is set has no backup that can be read.",
        section="the-backup-is-old",
    ),
    Alert(
        name="BackupDamaged",
        metric=catalogue.BACKUPS_DAMAGED,
        above=0,
        severity="critical",
        summary="{value:.0f} backups are damaged, gone or did not verify.",
        section="a-backup-is-damaged",
    ),
    Alert(
        name="BackupFailed",
        metric=catalogue.BACKUP_FAILED,
        above=0,
        severity="critical",
        summary="The last backup was not made, or did not verify.",
        section="a-backup-failed",
    ),
    Alert(
        name="BackupUnproven",
        metric=catalogue.BACKUP_VERIFIED_AGE,
        above=8 * 24 * 60 * _MINUTE,
        summary="No backup was restored and compared for {value:.0f} s.",
        section="no-backup-is-proven",
    ),
    Alert(
        name="MigrationPending",
        metric=catalogue.MIGRATIONS_PENDING,
        above=0,
        lasting=10 * _MINUTE,
        summary="{value:.0f} migrations of the store {store} are not applied.",
        section="a-migration-is-pending",
    ),
)
"""What a person is called for, by default."""


@dataclass(frozen=True, slots=True)
class Notice:
    """What a person is told: an alert fires, or is over.

    :param since: when the threshold was crossed.
    """

    alert: Alert
    labels: tuple[tuple[str, str], ...]
    value: float
    since: datetime
    is_over: bool = False

    @property
    def text(self) -> str:
        """One line, with what is concerned."""
        told = self.alert.summary.format(value=self.value, **dict(self.labels))
        return f"Over: {told}" if self.is_over else told
