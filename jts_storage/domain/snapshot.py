"""A name for a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jts_storage.domain.moments import Commit


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment that has a name, and whose history is kept for as long as it has.

    :param commit: the latest commit that it shows.
    """

    name: str
    commit: Commit
    created_at: datetime
    note: str = ""
