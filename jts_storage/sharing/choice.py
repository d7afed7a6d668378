"""Which backend the stores that settings name are reached by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from jts_storage.backend import StoreBackend
from jts_storage.local_servers.extras import check_grpc
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.models import Model
from jts_storage.settings import StorageSettings
from jts_storage.sharing.backend import SharedBackend, is_shareable

if TYPE_CHECKING:
    from jts_storage.remote.backend import GrpcBackend


def backend_of(
    settings: StorageSettings,
    *,
    publisher: EventPublisher | None = None,
    models: Iterable[Model[Any]] = (),
    recovers: bool = True,
) -> StoreBackend | GrpcBackend:
    """The stores on servers, those of a folder, which may be another process's, or a gateway.

    :param recovers: whether opening finishes what a crash left, where this process opens them.
    :raises InvalidConfiguration: the gateway's extra is not installed.
    """
    gateway = settings.gateway()
    if gateway is None:
        return store_backend(settings, publisher=publisher, models=models, recovers=recovers)
    check_grpc()
    from jts_storage.remote.backend import GrpcBackend

    return GrpcBackend(gateway, publisher=publisher, models=models)


def store_backend(
    settings: StorageSettings,
    *,
    publisher: EventPublisher | None = None,
    models: Iterable[Model[Any]] = (),
    recovers: bool = True,
) -> StoreBackend:
    """The same, of settings that name no gateway."""
    kind = SharedBackend if is_shareable(settings) else StoreBackend
    return kind(settings, publisher=publisher, models=models, recovers=recovers)
