"""The contract of a store of snapshots."""

from __future__ import annotations

from typing import Protocol

from jts_storage.domain.results import Page
from jts_storage.domain.snapshot import Snapshot


class SnapshotStore(Protocol):
    """Names for moments: reads take them as ``as_of``.

    A snapshot copies nothing. What it shows is kept beyond `history_days`, until it is deleted.
    """

    async def create(self, name: str, *, note: str = "") -> Snapshot:
        """Name the present: all that is committed before, and nothing that comes later.

        :raises InvalidData: the name reads as a moment, such as ``2026-11-01``, or as the number of
            a commit.
        :raises Conflict: there is one of this name.
        :raises StorageError: no history is kept.
        """
        ...

    async def get(self, name: str) -> Snapshot:
        """:raises NotFound: there is none of this name."""
        ...

    async def list(self, *, limit: int = 1_000, after: str | None = None) -> Page[Snapshot]:
        """Those there are, by name.

        :param after: the name of the last one of the page before.
        """
        ...

    async def delete(self, name: str) -> bool:
        """Forget a name; False if there was none.

        What only this snapshot kept may be deleted from now on.
        """
        ...
