"""The gateway that a folder has: on its own socket, for processes of the same user."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.remote.server.served import ServedBackend
from jts_storage.remote.server.tokens import Tokens, new_token
from jts_storage.sharing.folder import SharedFolder

_GRACE_SECONDS: Final = 2.0
"""What runs when the folder is handed over: reads go on at the next one, so little is enough."""


class FolderServer:
    """It belongs to one event loop.

    :param stores: which ones these are.
    """

    def __init__(self, backend: ServedBackend, folder: SharedFolder, stores: str) -> None:
        self._folder, self._stores = folder, stores
        self._token = new_token()
        self._socket = folder.socket()
        limits = Limits(grace_seconds=_GRACE_SECONDS)
        place = Place(f"unix:{self._socket}", tokens=Tokens.of(self._token), limits=limits)
        self._gateway = Gateway(backend, place)

    async def start(self) -> None:
        """
        :raises InvalidConfiguration: it cannot listen, or nothing can be written in the folder.
        """
        try:
            await self._gateway.start()
            self._folder.tell(self._gateway.address, self._token, self._stores)
        except BaseException:
            await self.stop()  # a gateway that nobody knows of would be in the way of the next one
            raise

    async def stop(self) -> None:
        """Let what runs end, for a moment, and take no more calls."""
        try:
            await self._gateway.stop()
        finally:
            if self._socket.parent != self._folder.path:
                _remove(self._socket.parent)


def _remove(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()
