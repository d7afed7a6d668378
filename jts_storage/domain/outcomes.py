"""What became of a unit of work, told by the id that its client gave it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from jts_storage.domain import checks
from jts_storage.domain.moments import Commit
from jts_storage.domain.results import CommitResult
from jts_storage.errors import InvalidData, StorageError

KEPT: Final = timedelta(days=7)
"""So long after its id was made the outcome of a unit of work can be asked for."""

AHEAD: Final = timedelta(days=1)
"""So far the clock that made an id may be ahead of the one that reads it."""

_VERSION = 7
_RANDOM_BITS: Final = 74
_TIME_SHIFT: Final = 80


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a unit of work: final, whatever is asked or tried later.

    :param commit: which commit it was; None if it was never committed, and never will be.
    """

    id: str
    commit: Commit | None = None

    @property
    def is_committed(self) -> bool:
        return self.commit is not None

    def result(self) -> CommitResult:
        """The result of the commit.

        :raises StorageError: there is none, and never will be.
        """
        if self.commit is None:
            raise StorageError(
                f"Unit of work {self.id} was given up: nothing of it is stored.",
                remedy="Do its work again, in a unit of work with another id.",
            )
        return CommitResult(self.commit)


def new_unit_id() -> str:
    """An id for a unit of work: a UUID of version 7, which has the time first."""
    return _text(time.time_ns() // 1_000_000, secrets.randbits(_RANDOM_BITS))


def unit_id(value: object, field: str) -> str:
    """:raises InvalidData: it is no id of a unit of work, or outcomes are not kept for so long."""
    try:
        found = UUID(checks.text(value, field, longest=36))
    except ValueError as exc:
        raise _refused("must be a UUID", field, value) from exc
    if str(found) != value or found.version != _VERSION:
        raise _refused("must be a UUID of version 7 in small letters", field, value)
    made = datetime.fromtimestamp((found.int >> _TIME_SHIFT) / 1_000, UTC)
    if not checks.now() - KEPT <= made <= checks.now() + AHEAD:
        raise _refused(
            f"is of {made:%Y-%m-%d}: outcomes are kept for {KEPT.days} days", field, value
        )
    return str(found)


def first_id_of(moment: datetime) -> str:
    """The lowest id that can be made at a time: ids are in the order of their times."""
    return _text(int(moment.timestamp() * 1_000), 0)


def _text(milliseconds: int, rest: int) -> str:
    high, low = divmod(rest, 1 << 62)
    number = milliseconds << _TIME_SHIFT | _VERSION << 76 | high << 64 | 0b10 << 62 | low
    return str(UUID(int=number))


def _refused(message: str, field: str, value: object) -> InvalidData:
    return InvalidData(message, field=field, value=value, remedy="new_unit_id() makes one.")
