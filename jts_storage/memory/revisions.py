"""What documents in memory were: each row that a commit put or took away."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from jts_storage.errors import StorageError

if TYPE_CHECKING:
    from jts_storage.memory.tables import RowKey, StoredRow

HAVE_HISTORY = frozenset({"formulas", "strategies"})


class Former(NamedTuple):
    """What one commit made of a row.

    :param row: None if it was deleted.
    """

    since: int
    row: StoredRow | None
    source: str


def rows_as_of(former: Mapping[RowKey, Sequence[Former]], version: int) -> dict[RowKey, StoredRow]:
    """The rows that have a history, as of a version."""
    found: dict[RowKey, StoredRow] = {}
    for place, revisions in former.items():
        until = [each for each in revisions if each.since <= version]
        if until and until[-1].row is not None:
            found[place] = until[-1].row
    return found


class RowsAsOf:
    """A `Session` that reads rows of the past."""

    keeps_history = False

    def __init__(self, rows: Mapping[RowKey, StoredRow]) -> None:
        self._rows = rows

    def exclusive(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def get(self, table: str, key: Hashable) -> StoredRow | None:
        return self._rows.get((table, key))

    def put(self, table: str, key: Hashable, row: StoredRow) -> None:
        raise _cannot_change()

    def delete(self, table: str, key: Hashable) -> bool:
        raise _cannot_change()

    def scan(self, table: str) -> Iterator[StoredRow]:
        return (row for (name, _), row in self._rows.items() if name == table)

    def former(self, table: str, key: Hashable) -> Sequence[Former]:
        return ()


def _cannot_change() -> StorageError:
    return StorageError("What was cannot be changed.", remedy="Use a unit of work.")
