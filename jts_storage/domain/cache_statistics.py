"""How a cache has fared since the storage opened."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

CacheState: TypeAlias = Literal["ready", "away"]


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """The counts of one storage's cache.

    :param where: ``redis``, or ``local`` for this process alone.
    :param state: ``away`` while Redis does not answer: all is read from the stores.
    :param hits: reads that an answer kept in this process served.
    :param shared_hits: reads that an answer kept in Redis served.
    :param misses: reads that asked the stores and kept the answer.
    :param bypassed: reads that asked the stores because Redis was away.
    :param written_meanwhile: reads that asked the stores because somebody was writing.
    :param stale_refused: answers that were not kept: they were written over while being read.
    :param too_large: answers that were not kept for their size.
    :param unusable: values in Redis that could not be read, or are older than `max_stale` allows.
    :param errors: calls of Redis that failed.
    :param open_seconds: how long Redis was left alone after failures.
    :param unannounced_writes: commits that Redis was not told of in time: what it holds may be
        older than these, for at most `max_stale` seconds after each.
    :param untold: series and others that Redis is still to be told of.
    :param held: answers kept in this process.
    :param held_bytes: their size.
    """

    where: Literal["redis", "local"]
    state: CacheState
    hits: int = 0
    shared_hits: int = 0
    misses: int = 0
    bypassed: int = 0
    written_meanwhile: int = 0
    stale_refused: int = 0
    too_large: int = 0
    unusable: int = 0
    errors: int = 0
    open_seconds: float = 0.0
    unannounced_writes: int = 0
    untold: int = 0
    held: int = 0
    held_bytes: int = 0

    def to_dict(self) -> dict[str, int | float | str]:
        """For JSON and metrics."""
        return asdict(self)


@dataclass(slots=True)
class Counters:
    """The same, while they grow."""

    hits: int = 0
    shared_hits: int = 0
    misses: int = 0
    bypassed: int = 0
    written_meanwhile: int = 0
    stale_refused: int = 0
    too_large: int = 0
    unusable: int = 0
    errors: int = 0
    unannounced_writes: int = 0
