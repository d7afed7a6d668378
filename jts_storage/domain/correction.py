"""What was changed of a candle that was stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from jts_storage.domain.candle import Candle
from jts_storage.domain.checks import LAST_MS, to_ms
from jts_storage.domain.moments import Commit

Place: TypeAlias = tuple[int, int]
"""A version, and a time in milliseconds: corrections are in the order of these."""


def end_of(version: int) -> Place:
    """The place behind all corrections of a commit."""
    return version, LAST_MS


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

    @property
    def place(self) -> Place:
        """Where it stands among the corrections of its series."""
        return self.commit.version, to_ms(self.timestamp)
