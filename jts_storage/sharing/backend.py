"""The stores of a data folder: opened by this process, or reached through the one that has them.

What needs grpc is imported where there is something to share: a folder that one process alone
uses opens as quickly as if this module were not there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from jts_storage._runtime.tasks import stopped
from jts_storage.backend import StoreBackend
from jts_storage.domain.outcomes import Outcome
from jts_storage.errors import FolderInUse
from jts_storage.local_servers.extras import check_grpc
from jts_storage.ports.events import EventPublisher
from jts_storage.ports.health import Health
from jts_storage.ports.models import Model
from jts_storage.readable import Readable
from jts_storage.settings import StorageSettings
from jts_storage.sharing.folder import SharedFolder, is_served, make_private

if TYPE_CHECKING:
    from jts_storage.remote.backend import GrpcBackend
    from jts_storage.remote.repositories import RemoteStorage
    from jts_storage.sharing.connection import SharedConnection
    from jts_storage.sharing.server import FolderServer
    from jts_storage.unit_of_work.participants import Stores
    from jts_storage.unit_of_work.recovery import Recovered
    from jts_storage.unit_of_work.subscriptions import StoredSubscriptions
    from jts_storage.unit_of_work.unit import UnitOfWork

_LOOK_SECONDS: Final = 0.1
_SOON_SECONDS: Final = 0.01
_AGAIN_SECONDS: Final = 1.0
"""The pause after the stores could not be taken over."""

_DYING_SECONDS: Final = 2.0
"""How long the engine's files may be held by a process that has given the folder back, or died."""

_NEEDED: Final = (
    "jts_storage.sharing.server",
    "jts_storage.composition",
    "jts_storage.clickhouse.manager",
    "chdb",
)

log = logging.getLogger(__name__)


class SharedBackend(StoreBackend):
    """Stores of which ClickHouse, at least, is embedded: one process has them at a time.

    It opens them, unless another process serves them; then it calls that one. With ``share`` it
    serves them to others, and takes them over from a process that is gone.
    """

    def __init__(
        self,
        settings: StorageSettings,
        *,
        publisher: EventPublisher | None = None,
        models: Iterable[Model[Any]] = (),
        recovers: bool = True,
    ) -> None:
        super().__init__(settings, publisher=publisher, models=models, recovers=recovers)
        self.folder = SharedFolder(settings.data_dir)
        self._named = _stores_of(settings)
        self._has_stores = False
        self._client: GrpcBackend | None = None
        self._connection: SharedConnection | None = None
        self._server: FolderServer | None = None
        self._watching: asyncio.Task[None] | None = None
        self._preparing: asyncio.Task[None] | None = None

    @property
    def is_remote(self) -> bool:
        """Whether another process has the stores, and is called for all that is asked."""
        return self._client is not None and not self._has_stores

    @property
    def _called(self) -> GrpcBackend | None:
        return None if self._has_stores else self._client

    @property
    def gateway(self) -> RemoteStorage | None:
        """What is asked for what only the stores themselves can tell, if they are elsewhere."""
        return None if self._called is None else self._called.gateway

    def check_serves(self) -> None:
        """
        :raises FolderInUse: it is not this process that serves the folder.
        """
        if self._server is None:
            raise self.folder.in_use("which serves it already", remedy="One is enough.")

    # ---- what a storage asks of it

    @property
    def stores(self) -> Stores:
        if self.is_remote and self._opened is None:  # while they are taken over, they are opened
            raise self.folder.in_use(
                "so that this storage is remote and has no databases of its own",
                remedy="Ask for them there, or stop that process first.",
            )
        return super().stores

    @property
    def readable(self) -> Readable:
        return super().readable if self._called is None else self._called.readable

    @property
    def subscriptions(self) -> StoredSubscriptions:
        if self._called is None:
            return super().subscriptions
        return cast("StoredSubscriptions", self._called.subscriptions)  # as a storage uses them

    async def health(self) -> Health:
        return await (super().health() if self._called is None else self._called.health())

    async def recover(self, done: Recovered | None = None) -> int:
        if self._called is None:
            return await super().recover(done)
        return await self._called.recover(done)

    def unit_of_work(self, source: str, unit_id: str | None) -> UnitOfWork:
        if self._called is None:
            return super().unit_of_work(source, unit_id)
        return self._called.unit_of_work(source, unit_id)

    async def outcome(self, unit_id: str) -> Outcome:
        if self._called is None:
            return await super().outcome(unit_id)
        return await self._called.outcome(unit_id)

    # ---- to open and to close

    async def open(self) -> None:
        if self.settings.share:
            check_grpc()
        self._check_installed_unless_served()
        try:
            await self._open()
        except BaseException:
            await self.close()
            raise
        if self.settings.share and self._server is None:
            self._watching = asyncio.create_task(self._watch())
        if self._has_stores:
            self._begin_delivery()

    def _check_installed_unless_served(self) -> None:
        """Before a folder is made; who calls the process that serves it needs none of it."""
        if not is_served(self.settings.data_dir):
            self._check_installed()

    async def close(self) -> None:
        watching, self._watching = self._watching, None
        preparing, self._preparing = self._preparing, None
        client, self._client = self._client, None
        server, self._server = self._server, None
        try:
            for task in (watching, preparing):
                if task is not None:
                    await stopped(task)
            self.folder.stand_down()
            if client is not None:
                await client.close()
        finally:
            try:
                if server is not None:
                    await server.stop()
            finally:
                await self._close_stores()

    async def _open(self) -> None:
        """Open the stores, or reach the process that has them, whichever way it turns out."""
        folder = self.folder
        while True:
            if self.settings.share and folder.take(self._named):
                await self._own()
                return
            if folder.is_ours:
                await self._open_stores()
                return
            if folder.is_held() or (not self.settings.share and folder.has_heirs()):
                if await self._join():
                    return
            elif not self.settings.share and await self._open_alone():
                return
            await asyncio.sleep(_SOON_SECONDS)

    async def _open_alone(self) -> bool:
        """
        :raises FolderInUse: another process has the stores, and serves nobody.
        """
        try:
            await self._open_stores()
        except FolderInUse:
            # It may be one that has begun to serve them since it was looked for.
            if not self.folder.is_held():
                raise
            return False
        return True

    async def _join(self) -> bool:
        """Call the process that serves the folder; False if there is none any more."""
        check_grpc()
        from jts_storage.remote.backend import GrpcBackend
        from jts_storage.sharing.connection import NobodyServes, SharedConnection

        is_heir = self.settings.share
        connection = SharedConnection(self.folder, self._named, waits_for_heirs=not is_heir)
        client = GrpcBackend(
            connection.config, publisher=self.publisher, models=self._given, connection=connection
        )
        try:
            await client.open()
        except NobodyServes:
            return False
        self._client, self._connection = client, connection
        if is_heir:
            self.folder.stand_by()
            self._preparing = asyncio.create_task(asyncio.to_thread(_load_what_owners_need))
        log.info("Reaching the stores of %s through %s.", self.folder.path, connection.address)
        return True

    # ---- to have the stores

    async def _own(self) -> None:
        """Open the stores and serve them; the folder is given back if that fails."""
        from jts_storage.sharing.server import FolderServer

        had_them = self._has_stores
        try:
            if not had_them:
                await self._wait_for_the_engine()
                await self._open_stores()
            server = FolderServer(self, self.folder, self._named)
            await server.start()
        except BaseException:
            if had_them:
                self.folder.give_back()
            else:
                await self._close_stores()
            raise
        self._server = server
        if self._client is not None:  # what has the stores delivers to its handlers by itself
            await self._client.hear_no_more()

    async def _open_stores(self) -> None:
        make_private(self.folder.path)
        await super()._open_all()
        self._has_stores = True

    async def _close_stores(self) -> None:
        """Close them, and let the next one take the folder."""
        try:
            await super().close()
        finally:
            self._has_stores = False
            self.folder.give_back()

    async def _wait_for_the_engine(self) -> None:
        """Let a process that has just died, or is about to close, let go of the engine's files."""
        from jts_storage.clickhouse.embedded import engine

        path = self.settings.clickhouse().embedded_path
        assert path is not None
        end = time.monotonic() + _DYING_SECONDS
        while self._is_foreign(engine.holder(path)) and time.monotonic() < end:  # noqa: ASYNC110
            await asyncio.sleep(_SOON_SECONDS)

    def _is_foreign(self, holder: str | None) -> bool:
        return holder is not None and holder != f"process {os.getpid()}"

    async def _watch(self) -> None:
        """Take the folder over once nobody has it."""
        while self._server is None:
            await self._pause()
            try:
                if self.folder.take(self._named):
                    await self._own()
                    self._begin_delivery()
                    log.info("Took over %s.", self.folder.path)
            except Exception:
                log.exception("%s could not be taken over.", self.folder.path)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _pause(self) -> None:
        """Until it is worth to look again: soon, where a call has found nobody."""
        lost = None if self._connection is None else self._connection.lost
        if lost is None:
            await asyncio.sleep(_LOOK_SECONDS)
        elif lost.is_set():
            await asyncio.sleep(_SOON_SECONDS)
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await lost.wait()


def _load_what_owners_need() -> None:
    """Import beforehand what takes longest when the folder is taken over."""
    for name in _NEEDED:
        with suppress(ImportError):  # that it is missing is told as it is used
            import_module(name)


def is_shareable(settings: StorageSettings) -> bool:
    """Whether the stores can be had by one process only, so that it is worth to share them."""
    if settings.url is not None:
        return False
    path = settings.clickhouse().embedded_path
    return path is not None and path != ":memory:"


def _stores_of(settings: StorageSettings) -> str:
    """What tells these stores from others, and nothing else of them."""
    clickhouse = settings.clickhouse()
    urls = [
        "" if url is None else url.get_secret_value()
        for url in (settings.mongo_url, settings.database_url)
    ]
    path = os.path.realpath(clickhouse.embedded_path or "")
    parts = [path, clickhouse.database, settings.mongo_database, *urls]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
