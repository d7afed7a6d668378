"""Whether a backup is what was written, and gives back what was stored."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter

from jts_storage.backup.copying import Progress, Report, unheard
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.outcomes import Look
from jts_storage.backup.repository import BackupRepository, missing
from jts_storage.backup.results import Verified
from jts_storage.backup.scratch import scratch
from jts_storage.errors import ConnectionFailed, PoolTimeout, StorageError
from jts_storage.unit_of_work.participants import Stores

log = logging.getLogger(__name__)


def damage(repository: BackupRepository, manifest: Manifest, report: Report = unheard) -> list[str]:
    """What is wrong with the objects of a backup, by their hashes; the whole of each is read."""
    used = _used(manifest)
    faults = []
    for number, (identity, stored) in enumerate(manifest.objects.items(), start=1):
        try:
            repository.check(identity, stored)
        except DamagedBackup as exc:
            faults.append(f"{exc.args[0]} ({used[identity]})")
        report(Progress("comparing hashes", number, len(manifest.objects)))
    return faults


def _used(manifest: Manifest) -> dict[str, str]:
    """By object what it is of."""
    found: dict[str, str] = {}
    for name, store in manifest.stores.items():
        for contents in store.contents:
            for piece in contents.pieces:
                found[piece.object] = f"{name} {piece.name}"
                if piece.figures is not None:
                    found[piece.figures] = f"fingerprints of {name} {piece.name}"
    return found


async def verified(
    repository: BackupRepository,
    identity: str,
    stores: Stores | None,
    report: Report = unheard,
) -> Verified:
    """Look at a backup, and keep in the repository what was found.

    :param stores: beside which it is restored, to be compared; None compares hashes alone.
    :raises StorageError: the stores could not be asked, which says nothing of the backup.
    """
    begun = perf_counter()
    beside = tuple(_beside(repository, identity))
    was_restored, objects, size = False, 0, 0
    try:
        manifest = repository.manifest(identity)
    except DamagedBackup as exc:
        faults = list(exc.faults)
    else:
        objects, size = len(manifest.objects), manifest.size_bytes
        faults = await asyncio.to_thread(damage, repository, manifest, report)
        if not faults and stores is not None:
            report(Progress("restoring into scratch stores", 0))
            faults = await _restored(repository, manifest, stores)
            was_restored = True
        await asyncio.to_thread(_recorded, repository, identity, faults, was_restored)
    return Verified(
        backup_id=identity,
        objects=objects,
        bytes=size,
        seconds=perf_counter() - begun,
        was_restored=was_restored,
        faults=tuple(faults),
        repository_faults=beside,
    )


def _beside(repository: BackupRepository, identity: str) -> Iterator[str]:
    """What is wrong with the repository beside a backup."""
    if (fault := repository.index_fault()) is not None:
        yield fault
    for each in repository.missing():
        if each != identity:
            yield missing(each)


def _recorded(
    repository: BackupRepository, identity: str, faults: list[str], was_restored: bool
) -> None:
    """Keep what was found.

    :raises NotFound: the backup was removed meanwhile, so that nothing found counts.
    """
    if faults:
        with suppress(DamagedBackup):
            repository.manifest(identity)
    look = Look(datetime.now(UTC), tuple(faults))
    try:
        repository.record(repository.outcome(identity).after(look, was_restored=was_restored))
    except StorageError as exc:
        log.warning("`backup list` will not say what was found of backup %s: %s", identity, exc)


async def _restored(repository: BackupRepository, manifest: Manifest, stores: Stores) -> list[str]:
    try:
        async with scratch(stores, repository) as beside:
            return await beside.differing(manifest)
    except DamagedBackup as exc:
        return list(exc.faults)
    except StorageError as exc:
        if _is_of_stores(exc):
            raise
        return [f"it cannot be restored: {exc}"]


def _is_of_stores(exc: StorageError) -> bool:
    """Whether an error says nothing of the backup: of a server that is away or full, say.

    There is something to be done then, or it is tried again. What an engine says of data that it
    refuses has no such meaning.
    """
    return (
        exc.repeatable or exc.remedy is not None or isinstance(exc, ConnectionFailed | PoolTimeout)
    )
