"""The storages that fixtures hand out, made here and opened on the loop of their test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from jts_storage.storage import Storage

if TYPE_CHECKING:
    from jts_storage.domain.rate_limits import RateLimits
    from jts_storage.ports.models import Model
    from jts_storage.settings import StorageSettings
    from jts_storage.unit_of_work.recovery import Recovered


def nothing_to_wait_for() -> None:
    pass


def storage_over(
    settings: StorageSettings | None,
    until_empty: Callable[[], None] = nothing_to_wait_for,
    models: Iterable[Model[Any]] = (),
    rate_limits: RateLimits | None = None,
) -> Storage:
    """A storage over empty stores, or in memory.

    :param until_empty: returns when the stores are empty; called while the storage opens.
    :param rate_limits: of a storage in memory; another one has those of its settings.
    """
    if settings is None:
        return Storage.in_memory(models=models, rate_limits=rate_limits)
    from jts_storage.backend import StoreBackend

    class EmptyBackend(StoreBackend):
        """An empty journal has nothing to recover: opening connects to nothing."""

        is_new = True
        creates_all_models = True

        async def recover(self, done: Recovered | None = None) -> int:
            if self.is_new:
                self.is_new = False
                until_empty()
                return 0
            return await super().recover(done)

    return Storage(EmptyBackend(settings, models=models))
