"""What documents were: each state that a commit gave one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from jts_storage.domain.moments import AsOf, Commit
from jts_storage.errors import InUse, InvalidData, NotFound

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Revision(Generic[E]):
    """What one commit made of a document.

    :param entity: what it then was; None if the commit deleted it.
    :param version: of the document; None for a deletion.
    :param commit: the one that wrote it; of what was stored before history began, that beginning.
    :param source: what that commit's unit of work said of itself.
    """

    entity: E | None
    version: int | None
    commit: Commit
    source: str = ""

    @property
    def is_deletion(self) -> bool:
        """Whether the commit deleted the document."""
        return self.entity is None


@dataclass(frozen=True, slots=True)
class DocumentPurge:
    """Whose former versions are to be erased, as `FormulaStore.purge_history` is asked for it.

    :param identity: of one document; of all of the collection if None.
    :param before: only what was over by this moment.
    :param despite_snapshots: what snapshots show, too.
    """

    collection: str
    identity: str | None
    before: AsOf | None
    despite_snapshots: bool


def not_kept(collection: str, identity: str, version: int) -> NotFound:
    """The error of who asks for a version that is older than what is kept."""
    return NotFound(
        f"Version {version} of {identity} in {collection} is not kept.",
        remedy="history(id) lists the versions that are.",
    )


def purged(collection: str, identity: str, commit: Commit) -> InvalidData:
    """The error of who asks what a document was at a moment of which it was erased."""
    return InvalidData(
        f"is before the history of {identity} in {collection}: what it was until then was purged",
        field="as_of",
        value=commit.moment.isoformat(),
        remedy="Ask for a later moment: history(id) lists the versions that are kept.",
    )


def pinned(collection: str, identity: str, snapshots: Sequence[str]) -> InUse:
    """The error of who would erase what a snapshot shows."""
    names = ", ".join(map(repr, snapshots))
    return InUse(
        f"Earlier versions of {identity} in {collection} were not purged: shown by {names}.",
        remedy="Delete the snapshot first, purge what was before it, or purge with"
        " despite_snapshots=True: reads of it are then refused for what was purged.",
    )


def nothing_of(collection: str, identity: str) -> NotFound:
    """The error for a purge of a document that never was, as of a mistyped id."""
    kind = _KINDS.get(collection, "document")
    return NotFound(
        f"Nothing was purged: there neither is nor was a {kind} {identity!r}.",
        remedy=f"{collection}.list() names those that are stored.",
    )


_KINDS = {"formulas": "formula", "strategies": "strategy"}
