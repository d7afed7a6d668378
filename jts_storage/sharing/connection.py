"""The way to whoever serves a folder now: found in its files, and again when it is gone."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import grpc
from grpc import aio

from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.remote import problems
from jts_storage.remote.connection import Connection
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.sharing.folder import Serving, SharedFolder

OPENING_SECONDS: Final = 60.0
"""How long a process may take to open its stores, or to close them, until it counts as stuck."""

HEIR_SECONDS: Final = 10.0
"""How long those who would take the folder over may take to begin with it."""

ALONE_SECONDS: Final = 2.0
"""How long a client waits where nobody serves the folder and nobody would."""


class NobodyServes(ConnectionFailed):
    """No process has the folder to serve it."""


_LOOK_SECONDS: Final = 0.01
_GREET_SECONDS: Final = 5.0


class SharedConnection(Connection):
    """It belongs to one loop.

    :param stores: which ones are meant: those of the folder must be the same.
    :param waits_for_heirs: whether to wait, at the first call, for those who would take the folder.
    """

    def __init__(self, folder: SharedFolder, stores: str, *, waits_for_heirs: bool) -> None:
        super().__init__(_config_of(f"unix:{folder.path}/", None))
        self._folder, self._stores = folder, stores
        self._alone_seconds = 0.0
        self._heir_seconds = HEIR_SECONDS if waits_for_heirs else 0.0
        self._is_lost = True
        self._known: tuple[Serving, str] | None = None
        self._seeking = asyncio.Lock()
        self.lost = asyncio.Event()
        """Set while nobody is known to serve the folder."""

    def use_next(self, asked: str) -> None:
        """Look for the one who serves the folder, before the next call."""
        self._is_lost = True
        self.lost.set()

    def error_of(self, exc: aio.AioRpcError, doing: str, address: str) -> StorageError:
        if exc.code() is grpc.StatusCode.UNAUTHENTICATED:  # another process has it by now
            return problems.away(f"{self._folder.path} was handed over ({doing})", address)
        return super().error_of(exc, doing, address)

    async def ready(self) -> None:
        if self._is_lost:
            async with self._seeking:
                if self._is_lost:
                    await self._seek()

    async def _seek(self) -> None:
        """
        :raises FolderInUse: who has the folder does not answer.
        :raises NobodyServes: nobody has it.
        """
        began = time.monotonic()
        while not await self._find():
            waited = time.monotonic() - began
            if self._folder.is_held():
                if waited > OPENING_SECONDS:
                    raise self._folder.in_use()
            elif waited >= self._patience:
                raise NobodyServes(
                    f"No process serves {self._folder.path} any more",
                    hosts=(str(self._folder.path),),
                    remedy="Close this storage and open it again; with share=True it takes the"
                    " folder over by itself.",
                )
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def _patience(self) -> float:
        return self._heir_seconds if self._folder.has_heirs() else self._alone_seconds

    async def _find(self) -> bool:
        """Whether somebody serves the folder; it is he who is called from now on."""
        told = self._folder.serving()
        token = self._folder.token()
        if told is None or told.address is None or token is None:
            return False
        _check_same(self._folder, told, self._stores)
        before = self._channels
        if (told, token) != self._known:
            self._channels = {}
            self.config = _config_of(told.address, token)
        try:
            self.check(await self._greet())
        except aio.AioRpcError:
            self._known = None
            return False
        finally:
            if self._channels is not before:
                for channel in before.values():  # what runs there has failed, or is about to
                    await channel.close()
        self._known = told, token
        self._is_lost = False
        self.lost.clear()
        self._alone_seconds, self._heir_seconds = ALONE_SECONDS, HEIR_SECONDS
        return True


def _config_of(address: str, token: str | None) -> GatewayConfig:
    return GatewayConfig(
        addresses=(address,),
        tls=False,
        token=token,
        connect_timeout=_GREET_SECONDS,
        retry_base_delay=0.02,
        retry_max_delay=0.2,
    )


def _check_same(folder: SharedFolder, told: Serving, stores: str) -> None:
    """:raises InvalidConfiguration: other stores are meant than those that are served."""
    if told.stores != stores:
        raise InvalidConfiguration(
            f"process {told.pid} serves {folder.path} with other stores than those named here",
            remedy="Give both the same JTS_CLICKHOUSE_*, JTS_MONGO_* and JTS_DATABASE_* settings.",
        )
