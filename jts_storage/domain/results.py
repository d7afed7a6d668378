"""What repositories answer beside entities."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple


class Coverage(NamedTuple):
    """First and last timestamp stored of a series; both None where nothing is stored."""

    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class SaveResult:
    """The outcome of a `save_many`.

    `written` rows reached the store, after `duplicates` of the same timestamp within the batch
    were replaced by the later one. The other three count what the rows did there. They add up to
    `written`, and are None unless the caller asked for them.
    """

    written: int
    duplicates: int = 0
    inserted: int | None = None
    replaced: int | None = None
    unchanged: int | None = None
