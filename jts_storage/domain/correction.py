"""What was changed of a candle that was stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jts_storage.domain.candle import Candle
from jts_storage.domain.moments import Commit


@dataclass(frozen=True, slots=True)
class Correction:
    """One candle that a commit replaced or deleted.

    :param commit: what changed it.
    :param source: what that commit said of itself; empty if it said nothing.
    :param after: None where it was deleted.
    """

    commit: Commit
    source: str
    before: Candle
    after: Candle | None

    @property
    def timestamp(self) -> datetime:
        return self.before.timestamp
