"""What `Storage.health` reports."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from jts_storage.domain.cache_statistics import CacheStatistics

if TYPE_CHECKING:
    from jts_storage.domain.rate_limits import RateLimitState


class Health(dict[str, bool]):
    """Whether each store answers, by its name, and what the journal still holds.

    :ivar unfinished: decided commits that not every store has yet.
    :ivar oldest: how long the oldest of them has waited.
    :ivar waiting_events: events that not every handler has had.
    :ivar oldest_event: how long the oldest of these has waited.
    :ivar parked_events: events that failed too often and wait for `retry`.
    :ivar waiting_for_subscriptions: events stored for named subscriptions, all of them together,
        that are not acknowledged; roughly, after a crash of MongoDB.
    :ivar parked_for_subscriptions: those that their classes refused, and that wait for `retry`.
    :ivar unreadable_documents: documents that reads of this process met and left out of lists;
        `jts-storage check` looks at all of them.
    :ivar unreadable_records: the same of declared records in the bookkeeping database.
    :ivar unreadable_rows: the same of declared tables in ClickHouse.
    :ivar broken_parts: pieces of ClickHouse tables that are damaged on disk: the store answers, and
        its answers lack their rows. `jts-storage check` names each and says how to mend it.
    :ivar unknown_models: declared tables that unfinished commits write and this storage has no
        model of: a storage that has it finishes them.
    :ivar damaged_commits: decided commits that cannot be read in the journal, so that nobody can
        finish them: the id of each, with what is wrong and what to do. `health` reads those that
        wait for recovery, and stops when its time is over; the next one goes on.
    :ivar cache: what the cache of this process has done, and whether it is in use; None where none
        is turned on. That its Redis is away makes nothing unwell.
    :ivar rate_limits: what counts of those that this process has asked for slots. Once it has,
        ``rate_limits`` is also one of the stores.
    :ivar is_well: every store answers, and nothing that was stored is known to be missing.
    """

    unfinished: int = 0
    oldest: timedelta | None = None
    waiting_events: int = 0
    oldest_event: timedelta | None = None
    parked_events: int = 0
    waiting_for_subscriptions: int = 0
    parked_for_subscriptions: int = 0
    unreadable_documents: int = 0
    unreadable_records: int = 0
    unreadable_rows: int = 0
    broken_parts: int = 0
    unknown_models: tuple[str, ...] = ()
    cache: CacheStatistics | None = None
    rate_limits: tuple[RateLimitState, ...] = ()

    def __init__(self, **answers: bool) -> None:
        super().__init__(**answers)
        self.damaged_commits: dict[str, str] = {}

    @property
    def is_well(self) -> bool:
        return all(self.values()) and not self.broken_parts and not self.damaged_commits
