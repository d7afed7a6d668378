"""Gateways of this process, and the storages that reach them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from jts_storage import Storage
from jts_storage.domain.bookkeeping import Checkpoint
from jts_storage.remote.backend import GrpcBackend
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.remote.server.served import ServedBackend
from jts_storage.settings.gateway import GatewayConfig


@asynccontextmanager
async def served(backend: ServedBackend, folder: Path, **limits: Any) -> AsyncIterator[Gateway]:
    """A gateway on a socket in the folder."""
    # It ends quickly: what its clients hold open is not worth waiting for.
    bounds = Limits(**{"grace_seconds": 0.5, **limits})
    gateway = Gateway(backend, Place(f"unix:{folder / 'serve.sock'}", limits=bounds))
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


@asynccontextmanager
async def remote(backend: ServedBackend, folder: Path, **options: Any) -> AsyncIterator[Storage]:
    """A storage that reaches a backend, which is open, through a gateway."""
    async with served(backend, folder) as gateway:
        config = GatewayConfig(addresses=(gateway.address,), tls=False)
        async with Storage(GrpcBackend(config, **options)) as storage:
            yield storage


class AtOnce:
    """A repository of a storage, each write of which is a unit of work of its own.

    A write that conflicts is repeated a few times, to see that repeating mends nothing: as often
    as by default takes seconds. What reads and writes as one call is repeated until it succeeds.
    """

    def __init__(self, storage: Storage, path: str, writes: frozenset[str]) -> None:
        self._storage, self._path, self._writes = storage, path, writes

    def __getattr__(self, name: str) -> Any:
        if name not in self._writes:
            return getattr(at(self._storage, self._path), name)

        async def written(*values: Any, **named: Any) -> Any:
            found = await self._storage.run(
                lambda uow: getattr(at(uow, self._path), name)(*values, **named),
                attempts=100 if name == "update" else 4,
            )
            # It is stamped where it is stored.
            if isinstance(found, Checkpoint):
                return await self._storage.ingestion.checkpoints.get(found.name)
            return found

        return written


WRITES = frozenset({"save", "save_many", "save_panel", "delete", "delete_range", "update"})


def at(found: Any, path: str) -> Any:
    for name in path.split("."):
        found = getattr(found, name)
    return found
