"""Results that repositories return besides entities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Self, TypeVar

from jts_storage.domain.moments import Commit

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CommitResult:
    """The outcome of a commit.

    :param commit: where it stands in the order of all, for reads ``as_of`` it; None where it wrote
        nothing that has a history.
    """

    commit: Commit | None = None


class Coverage(NamedTuple):
    """First and last timestamp stored of a series; both None where nothing is stored."""

    first: datetime | None
    last: datetime | None


class Page(list[T]):
    """A list that may be a part of a longer one.

    :ivar has_more: whether there is more behind it; ask for it with ``after=page[-1]``.
    """

    def __init__(self, items: Iterable[T] = (), *, has_more: bool = False) -> None:
        super().__init__(items)
        self.has_more = has_more

    @classmethod
    def first(cls, limit: int, of: Sequence[T]) -> Self:
        """So many of what was found, of which one more was asked for."""
        return cls(of[:limit], has_more=len(of) > limit)

    def __repr__(self) -> str:
        more = ", and there are more (has_more)" if self.has_more else ""
        return f"{super().__repr__()}{more}"


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
