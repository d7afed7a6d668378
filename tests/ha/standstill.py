"""For how long nothing was acknowledged, around each fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault: what it was, and when it began."""

    kind: str
    at: float


def standstills(struck: Sequence[Struck], acknowledged: Iterable[float]) -> list[tuple[str, float]]:
    """Of each fault the longest time without an acknowledged commit, until the next fault.

    :param acknowledged: when commits were, of the clock of `struck`.
    """
    times = sorted(acknowledged)
    if not times:
        return []
    found = []
    for number, fault in enumerate(struck):
        end = struck[number + 1].at if number + 1 < len(struck) else times[-1]
        # The gap in which the fault begins counts, too: what was under way is not acknowledged.
        within = [fault.at, *(at for at in times if fault.at < at <= end)]
        after = [at for at in times if at > end]
        if after and number + 1 < len(struck):
            within.append(end)
        gaps = [later - earlier for earlier, later in pairwise(within)]
        found.append((fault.kind, max(gaps, default=0.0)))
    return found
