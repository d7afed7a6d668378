"""What documents in memory were: each row that a commit put or took away."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from jts_storage.domain.moments import Commit
from jts_storage.domain.revision import pinned, purged
from jts_storage.errors import StorageError

if TYPE_CHECKING:
    from jts_storage.memory.tables import RowKey, StoredRow

HAVE_HISTORY = frozenset({"formulas", "strategies"})


class Former(NamedTuple):
    """What one commit made of a row.

    :param row: None if it was deleted, and where that was purged.
    """

    since: int
    row: StoredRow | None
    source: str
    purged: int = 0
    """The version that was purged; 0 where none was."""


def as_of(former: Mapping[RowKey, Sequence[Former]], version: int) -> dict[RowKey, Former]:
    """What the rows that have a history were, as of a version."""
    until = (
        (place, [each for each in revisions if each.since <= version])
        for place, revisions in former.items()
    )
    return {place: revisions[-1] for place, revisions in until if revisions}


def purge(revisions: list[Former], before: int) -> int:
    """Erase what was over by a version; return how many there were."""
    count = 0
    for n, _ in _over(revisions, before):
        row: Any = revisions[n].row
        revisions[n] = Former(revisions[n].since, None, "", row["version"])
        count += 1
    return count


def refuse_pinned(
    place: RowKey, revisions: Sequence[Former], before: int, snapshots: Mapping[str, int]
) -> None:
    """:raises InUse: a snapshot shows what was over by a version."""
    for n, ended in _over(revisions, before):
        names = [name for name, at in snapshots.items() if revisions[n].since <= at < ended]
        if names:
            raise pinned(place[0], str(place[1]), names)


def _over(revisions: Sequence[Former], before: int) -> Iterable[tuple[int, int]]:
    """Where the revisions are that were over by a version, each with the version that ended it."""
    for n, following in enumerate(revisions[1:]):
        if following.since <= before and revisions[n].row is not None:
            yield n, following.since


class RowsAsOf:
    """A `Session` that reads rows of the past."""

    keeps_history = False

    def __init__(self, former: Mapping[RowKey, Sequence[Former]], version: int) -> None:
        self._then, self._commit = as_of(former, version), Commit(version)

    def exclusive(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def get(self, table: str, key: Hashable) -> StoredRow | None:
        then = self._then.get((table, key))
        return None if then is None else self._row(table, key, then)

    def put(self, table: str, key: Hashable, row: StoredRow) -> None:
        raise _cannot_change()

    def delete(self, table: str, key: Hashable) -> bool:
        raise _cannot_change()

    def scan(self, table: str) -> Iterator[StoredRow]:
        those = ((key, then) for (name, key), then in self._then.items() if name == table)
        rows = [self._row(table, key, then) for key, then in those]
        return (row for row in rows if row is not None)

    def former(self, table: str, key: Hashable) -> Sequence[Former]:
        return ()

    def _row(self, table: str, key: Hashable, then: Former) -> StoredRow | None:
        """:raises InvalidData: nobody knows any more."""
        if then.purged:
            raise purged(table, str(key), self._commit)
        return then.row


def _cannot_change() -> StorageError:
    return StorageError("What was cannot be changed.", remedy="Use a unit of work.")
