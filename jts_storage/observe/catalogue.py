"""Every metric that there is: its name, its labels, and what it says.

Labels have few values, all known beforehand or named by a service's own models. No symbol, no
identity, no text of an error or of a query is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

PREFIX: Final = "jts_storage_"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `name` is without the prefix, and without the ``_total`` of counters."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str

    @property
    def exposed(self) -> str:
        """Its name as Prometheus has it."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


class Sample(NamedTuple):
    """One value of a metric."""

    metric: Metric
    value: float
    labels: tuple[str, ...] = ()


_CALL = ("store", "repository", "operation")

CALL_SECONDS = Metric(
    "call_seconds", "histogram", _CALL, "How long calls of the storage and its repositories took."
)
CALL_ERRORS = Metric(
    "call_errors",
    "counter",
    (*_CALL, "error"),
    "Calls that raised, by the class of the error.",
)
CALLS_RUNNING = Metric(
    "calls_running",
    "gauge",
    (),
    "Calls that have begun and not ended; not told where several processes count together.",
)
ROWS = Metric(
    "rows",
    "counter",
    ("store", "repository", "direction"),
    "Rows, documents and records that calls returned (read) or took (written).",
)
BYTES = Metric(
    "bytes",
    "counter",
    ("store", "repository", "direction"),
    "Bytes of candles in columns that calls returned (read) or took (written).",
)
COMMITS = Metric(
    "commits",
    "counter",
    ("way", "outcome"),
    "Commits: direct to one store, or journalled over several; committed, conflict, unknown or"
    " failed.",
)
COMMIT_STEP_SECONDS = Metric(
    "commit_step_seconds",
    "histogram",
    ("step",),
    "How long journalled commits took from the step before to this one.",
)
RETRIES = Metric("retries", "counter", ("store",), "Attempts that failed and were repeated.")
CONNECTION_WAITS = Metric(
    "connection_waits",
    "counter",
    ("store",),
    "Calls that had to wait for a connection, since all were in use.",
)
HELD_ANSWERS = Metric(
    "held_answers",
    "counter",
    ("operation",),
    "Reads of candles that were answered from memory, with the engine not asked.",
)
HELD_MISSES = Metric(
    "held_misses",
    "counter",
    ("operation",),
    "Reads of candles that memory could have answered and did not: the engine was asked.",
)
RECOVERIES = Metric(
    "recoveries",
    "counter",
    ("outcome",),
    "Units of work that others had left: finished (decided, and now in every store), failed"
    " (decided, and cannot be finished yet), rolled_back (not committed when somebody asked for the"
    " outcome) or abandoned (its process died while it was under way, and the journal has no entry"
    " of it).",
)
RECOVERY_SECONDS = Metric(
    "recovery_seconds",
    "histogram",
    (),
    "How long it took to finish one that was decided, or to find that it cannot be.",
)
MIGRATIONS = Metric(
    "migrations",
    "counter",
    ("store", "outcome"),
    "Migrations that this process took: applied, taken_back or failed.",
)
MIGRATION_SECONDS = Metric("migration_seconds", "histogram", ("store",), "How long each took.")
IMPORTS = Metric(
    "imports",
    "counter",
    ("source", "outcome"),
    "Imports of candles from a file or from other data (frames, series), each file by itself:"
    " finished or failed.",
)
IMPORTS_RESUMED = Metric(
    "imports_resumed", "counter", (), "Those that went on where an earlier run had stopped."
)
IMPORT_SECONDS = Metric("import_seconds", "histogram", (), "How long each took.")
IMPORT_ROWS = Metric(
    "import_rows",
    "counter",
    ("outcome",),
    "Rows that imports read, block by block: inserted, replaced or unchanged (stored), skipped,"
    " duplicates, rejected or quarantined. A block that a resumed one writes again counts again.",
)

UP = Metric("up", "gauge", ("store",), "Whether the store answers.")
STATE_SECONDS = Metric("state_seconds", "gauge", (), "How long it took to look at the stores.")
STATE_IS_FRESH = Metric(
    "state_is_fresh",
    "gauge",
    (),
    "Whether the stores could be looked at in time; if not, the figures are those of before.",
)
JOURNAL_UNFINISHED = Metric(
    "journal_unfinished", "gauge", (), "Decided commits that not every store has yet."
)
JOURNAL_OLDEST = Metric(
    "journal_oldest_seconds", "gauge", (), "How long the oldest of them has waited."
)
JOURNAL_DAMAGED = Metric(
    "journal_damaged", "gauge", (), "Decided commits that cannot be read in the journal."
)
OUTBOX_WAITING = Metric("outbox_waiting", "gauge", (), "Events that not every handler has had.")
OUTBOX_OLDEST = Metric(
    "outbox_oldest_seconds", "gauge", (), "How long the oldest of the waiting events has waited."
)
OUTBOX_PARKED = Metric("outbox_parked", "gauge", (), "Events that failed too often.")
SUBSCRIPTIONS_WAITING = Metric(
    "subscriptions_waiting", "gauge", (), "Events stored for subscriptions, not acknowledged."
)
SUBSCRIPTIONS_PARKED = Metric(
    "subscriptions_parked", "gauge", (), "Events of subscriptions that their classes refused."
)
UNREADABLE = Metric(
    "unreadable", "gauge", ("store",), "Rows and documents that reads met and left out."
)
BROKEN_PARTS = Metric(
    "clickhouse_broken_parts", "gauge", (), "Damaged parts that ClickHouse has put aside."
)
POOL_CAPACITY = Metric("pool_capacity", "gauge", ("store",), "Connections that may be open.")
POOL_OPEN = Metric("pool_open", "gauge", ("store",), "Connections that are open.")
POOL_IN_USE = Metric("pool_in_use", "gauge", ("store",), "Connections that somebody holds.")
POOL_WAITING = Metric(
    "pool_waiting", "gauge", ("store",), "Callers that wait for a connection, or for it to open."
)
POOL_TIMEOUTS = Metric(
    "pool_timeouts", "counter", ("store",), "Callers that got no connection in time."
)
PARTS = Metric("clickhouse_parts", "gauge", ("table",), "Active parts of a table.")
TABLE_ROWS = Metric("clickhouse_rows", "gauge", ("table",), "Rows of a table, duplicates included.")
TABLE_BYTES = Metric("clickhouse_bytes", "gauge", ("table",), "Bytes of a table on disk.")
MERGES = Metric("clickhouse_merges", "gauge", (), "Merges that are running.")
MUTATIONS = Metric("clickhouse_mutations", "gauge", (), "Mutations that are not done.")
NEWEST = Metric(
    "candles_newest_timestamp_seconds",
    "gauge",
    ("exchange", "timeframe"),
    "The timestamp of the newest candle, in seconds since 1970.",
)
LATE = Metric(
    "candles_late_seconds",
    "gauge",
    ("exchange", "timeframe"),
    "How long ago the first candle ended that should be there by now, by the exchange's calendar,"
    " and is not; 0 if none is missing.",
)
HELD_RANGES = Metric(
    "held_ranges", "gauge", (), "Ranges of candles that this process holds for later reads."
)
HELD_BYTES = Metric("held_range_bytes", "gauge", (), "Memory that these ranges lie in.")
CACHE_READY = Metric("cache_ready", "gauge", (), "Whether the cache is in use: its Redis answers.")
CACHE_READS = Metric(
    "cache_reads",
    "counter",
    ("outcome",),
    "Reads through the cache: hit (kept in this process), shared_hit (in Redis), miss, bypassed"
    " (Redis was away) or written_meanwhile.",
)
CACHE_REFUSED = Metric(
    "cache_refused",
    "counter",
    ("reason",),
    "Answers that were not kept or could not be used: stale, too_large or unusable.",
)
CACHE_ERRORS = Metric("cache_errors", "counter", (), "Calls of Redis that failed.")
CACHE_UNANNOUNCED = Metric(
    "cache_unannounced_writes",
    "counter",
    (),
    "Commits that Redis was not told of in time: what it holds may be older for `max_stale`.",
)
CACHE_BYTES = Metric("cache_held_bytes", "gauge", (), "Answers kept in this process.")
LIMIT_USED = Metric(
    "rate_limit_used_ratio",
    "gauge",
    ("name", "limit"),
    "How much of a limit counts now, of the account that has used most of it.",
)
LIMIT_WAITING = Metric(
    "rate_limit_waiting", "gauge", ("name",), "Tasks of this process that wait for a slot."
)
BACKUP_AGE = Metric(
    "backup_age_seconds",
    "gauge",
    (),
    "How long ago the stores were as they are in the newest backup.",
)
BACKUPS_READABLE = Metric(
    "backups_readable", "gauge", (), "Backups of the repository that can be read; 0 without one."
)
BACKUPS_DAMAGED = Metric(
    "backups_damaged",
    "gauge",
    (),
    "Backups of the repository that cannot be read, are gone or did not verify.",
)
BACKUP_FAILED = Metric(
    "backup_failed",
    "gauge",
    (),
    "Whether the last backup that this service was to make was not made, or did not verify.",
)
BACKUP_VERIFIED_AGE = Metric(
    "backup_verified_age_seconds",
    "gauge",
    (),
    "How long ago this service last restored a backup, compared it, and found it the same.",
)
MIGRATIONS_PENDING = Metric(
    "migrations_pending", "gauge", ("store",), "Migrations that are not applied yet."
)
DISK_FREE = Metric(
    "disk_free_bytes",
    "gauge",
    ("store",),
    "Room left on the disk of a store: of embedded ones, of MongoDB, and of the fullest local disk"
    " of ClickHouse. Stores on one disk of this machine are told once; PostgreSQL does not tell.",
)
PROCESS_CPU = Metric("process_cpu_ratio", "gauge", (), "Processors in use by this process.")
PROCESS_MEMORY = Metric("process_memory_bytes", "gauge", (), "Memory of this process.")

CATALOGUE: Final = tuple(each for each in list(globals().values()) if isinstance(each, Metric))

OF_CALLS: Final = CATALOGUE[: CATALOGUE.index(UP)]
"""Those that calls are counted by."""

OF_STATE: Final = CATALOGUE[CATALOGUE.index(UP) :]
"""Those that a look at the stores gives."""
