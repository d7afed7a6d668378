"""A name for a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jts_storage.domain import checks
from jts_storage.domain.moments import Commit, told_by
from jts_storage.errors import InvalidData


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment that has a name, and whose history is kept for as long as it has.

    :param commit: the latest commit that it shows.
    """

    name: str
    commit: Commit
    created_at: datetime
    note: str = ""


def new_name(name: str) -> str:
    """
    :raises InvalidData: it cannot be a name, or says a moment: a command line, which has only
        texts, would never take it for a snapshot.
    """
    if told_by(checks.name(name, "name")) is not None:
        raise InvalidData(
            "reads as a moment, not as the name of a snapshot",
            field="name",
            value=name,
            remedy=f"Put a word before it, such as 'scan-{name}'.",
        )
    return name
