"""Which decided commits cannot be read, so that nobody can finish them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from bson import ObjectId

from jts_storage.unit_of_work.entries import Damaged, Entry, check
from jts_storage.unit_of_work.journal import Journal


class Inspection:
    """Reads the entries that wait for recovery; those found whole are not read again."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._whole: set[ObjectId] = set()

    async def damaged(self, pending: Iterable[Entry]) -> AsyncIterator[tuple[ObjectId, Damaged]]:
        """The ids of the entries that cannot be read, each as soon as it is found, with the error.

        What another process is finishing is left to it.
        """
        entries = list(pending)
        self._whole &= {entry.id for entry in entries}
        for entry in entries:
            if entry.id in self._whole:
                continue
            try:
                check(entry)
                if self._journal.is_abandoned(entry):
                    await self._read(entry)
                    self._whole.add(entry.id)
            except Damaged as exc:
                yield entry.id, exc

    async def _read(self, entry: Entry) -> None:
        """:raises Damaged: something of it cannot be read."""
        journal = self._journal
        if await journal.load(entry) is None:
            return
        for kind in ("candles", "bars"):
            async for _ in journal.rows(entry, kind):
                pass
        async for _ in journal.tables(entry):
            pass
