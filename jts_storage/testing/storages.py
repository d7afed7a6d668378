"""The storages that fixtures hand out, made here and opened on the loop of their test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jts_storage.storage import Storage

if TYPE_CHECKING:
    from jts_storage.settings import StorageSettings


def storage_over(settings: StorageSettings | None) -> Storage:
    """A storage over stores that have just been emptied, or in memory."""
    if settings is None:
        return Storage.in_memory()
    from jts_storage.backend import StoreBackend

    class EmptyBackend(StoreBackend):
        """An empty journal has nothing to recover: opening connects to nothing."""

        is_new = True

        async def recover(self) -> int:
            if self.is_new:
                self.is_new = False
                return 0
            return await super().recover()

    return Storage(EmptyBackend(settings))
