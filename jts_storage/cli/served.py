"""What has the stores in place of this process, where commands need the stores themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.settings import StorageSettings

if TYPE_CHECKING:
    from jts_storage.remote.repositories import RemoteStorage


@asynccontextmanager
async def served(settings: StorageSettings) -> AsyncIterator[RemoteStorage | None]:
    """The gateway to ask, open as long as the block; None where this process has the stores."""
    from jts_storage.cli.output import opened_storage
    from jts_storage.sharing.choice import backend_of
    from jts_storage.storage import Storage

    if not is_elsewhere(settings):
        yield None
        return
    backend = backend_of(settings)
    async with opened_storage(Storage(backend)):
        yield getattr(backend, "gateway", None)


def is_elsewhere(settings: StorageSettings) -> bool:
    """Whether the stores are had by a gateway, or by another process that serves the folder."""
    if settings.url is not None:
        return True
    from jts_storage.sharing.backend import is_shareable
    from jts_storage.sharing.folder import is_served

    return is_shareable(settings) and is_served(settings.data_dir)


def check_here(settings: StorageSettings, *, engine: bool) -> None:
    """
    :param engine: whether ClickHouse is needed, too, which one process alone can have.
    :raises StorageError: the stores themselves are needed, and are not this process's.
    """
    if settings.url is not None:
        raise StorageError(
            "This works on the stores themselves, and JTS_URL names a gateway.",
            remedy="Run it where the gateway runs, without JTS_URL.",
        )
    if engine and is_elsewhere(settings):
        from jts_storage.sharing.folder import SharedFolder

        raise SharedFolder(settings.data_dir).in_use(
            "which serves it; this works on the stores themselves",
            remedy="Stop that process first, or name other stores alone, by --store.",
        )


def check_own_folder(folder: Path | None) -> None:
    """
    :raises InvalidConfiguration: a folder of migrations is named, and the stores are elsewhere.
    """
    if folder is not None:
        raise InvalidConfiguration(
            "--folder names migrations, and the process that has the stores knows its own",
            remedy="Leave it out: JTS_MIGRATIONS of that process is taken.",
        )
