"""What Redis says of itself: its memory, what it evicts, and what is wrong with that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

NEARLY_FULL: Final = 0.85


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """The memory of a Redis at one moment.

    :param used: bytes that it has in use.
    :param most: bytes that it may use; 0 for as many as there are.
    :param fragmentation: of the memory that the system has given it, over what it uses.
    :param evicted: keys that it has thrown away for want of memory since it started.
    :param hits: reads that found their key since it started.
    :param misses: reads that did not.
    :param policy: what it does when it is full, such as ``allkeys-lru``.
    """

    used: int
    most: int
    fragmentation: float
    evicted: int
    hits: int
    misses: int
    policy: str

    @property
    def share(self) -> float | None:
        """How full it is, from 0 to 1; None where it has no bound."""
        return self.used / self.most if self.most else None

    @property
    def hit_rate(self) -> float | None:
        asked = self.hits + self.misses
        return self.hits / asked if asked else None

    @property
    def is_nearly_full(self) -> bool:
        return self.share is not None and self.share >= NEARLY_FULL

    @property
    def evicts(self) -> bool:
        """Whether it makes room by itself, rather than refuse writes."""
        return self.policy != "noeviction"


def report_of(info: Mapping[str, Any]) -> MemoryReport:
    """Read the sections ``memory`` and ``stats`` of INFO; those of a cluster's nodes are added."""
    nodes = [each for each in info.values() if isinstance(each, Mapping) and "used_memory" in each]
    told = nodes or [info]
    return MemoryReport(
        used=_sum(told, "used_memory"),
        most=_sum(told, "maxmemory"),
        fragmentation=max(float(each.get("mem_fragmentation_ratio", 0.0)) for each in told),
        evicted=_sum(told, "evicted_keys"),
        hits=_sum(told, "keyspace_hits"),
        misses=_sum(told, "keyspace_misses"),
        policy=str(told[0].get("maxmemory_policy", "")),
    )


def _sum(told: list[Mapping[str, Any]] | list[Any], name: str) -> int:
    return sum(int(each.get(name, 0)) for each in told)
