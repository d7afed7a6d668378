"""Backups of a storage: made, listed, verified, restored and pruned."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, Final, cast

from jts_storage._runtime.tasks import run_to_the_end
from jts_storage._version import __version__
from jts_storage.backend import StoreBackend
from jts_storage.backup import cut, files, schema
from jts_storage.backup.copying import Copies, Progress, Report, StoreBackup, pieces_of, unheard
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.listing import listed, rows_of
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.pruning import pruned, readable_of, retention_of
from jts_storage.backup.repository import LATEST, BackupRepository
from jts_storage.backup.restore import WholeRestore
from jts_storage.backup.results import BackupInfo, BackupResult, Pruned, Restored, Verified
from jts_storage.backup.retention import Retention
from jts_storage.backup.scratch import FOLDER, new_name, swept
from jts_storage.backup.selection import DocumentCollection, PartRestore, Series
from jts_storage.backup.stores import clickhouse, relational
from jts_storage.backup.stores.lake import LakeBackup
from jts_storage.backup.stores.mongo import MongoBackup
from jts_storage.backup.verify import verified
from jts_storage.domain import checks
from jts_storage.errors import Conflict, InvalidConfiguration, StorageError
from jts_storage.mongo.leases import DURATION, Leases, renewing
from jts_storage.settings import StorageSettings
from jts_storage.settings.backup import BackupConfig
from jts_storage.storage import Storage
from jts_storage.unit_of_work.fence import Cut
from jts_storage.unit_of_work.participants import Stores

LEASE: Final = "jts-storage: backup"
"""Beside leases on the keys of events, which may be any word."""

log = logging.getLogger(__name__)


class BackupManager:
    """Backups of one storage in one repository; one is made or restored at a time.

    :param storage: an open one, whose stores this process has itself.
    :param repository: a folder or a `BackupRepository`; as ``JTS_BACKUP_*`` say if not given.
    :param report: told how far it is.
    """

    def __init__(
        self,
        storage: Storage,
        repository: BackupRepository | Path | str | None = None,
        *,
        report: Report = unheard,
    ) -> None:
        self._storage, self._report = storage, report
        self._config = BackupConfig.from_env()
        if not isinstance(repository, BackupRepository):
            folder = repository or self._config.repository
            repository = BackupRepository(folder, key=self._config.key)
        self._repository = repository

    @property
    def repository(self) -> BackupRepository:
        """Where the backups are kept."""
        return self._repository

    async def create_backup(self, *, note: str = "", verify: bool | None = None) -> BackupResult:
        """Back up all stores as they are at one commit, while commits go on.

        :param verify: whether it is restored into scratch stores and compared; if None as the
            settings say, else where the stores are embedded. Hashes are compared in any case.
        :raises Conflict: another backup is being made or restored.
        :raises StorageError: it could not be made, or it was, as the message says then, and could
            not be verified.
        """
        checks.text(note, "note")
        begun = perf_counter()
        self._check_apart()
        async with self._alone():
            with files.translated("A backup"):
                self.repository.make()
                await swept(self._stores)
                manifest, copies = await self._copied(note)
                # Not after the lock is given back: somebody may prune then.
                await run_to_the_end(asyncio.to_thread(self.repository.add, manifest))
            found = await self._verified_new(manifest, verify)
        return BackupResult(
            backup_id=manifest.id,
            timestamp=manifest.cut_at,
            size_bytes=manifest.size_bytes,
            status="failed" if found.faults else "success",
            location=str(self.repository.folder),
            version=manifest.version,
            new_bytes=copies.new_bytes,
            new_objects=copies.new_objects,
            seconds=perf_counter() - begun,
            waited_seconds=manifest.waited_seconds,
            is_verified=found.was_restored and not found.faults,
            faults=found.faults,
        )

    async def list(self) -> Sequence[BackupInfo]:
        """The backups of the repository, the newest first; also those that cannot be read."""
        self.repository.open()
        return await asyncio.to_thread(listed, self.repository)

    async def verify(self, backup_id: str = LATEST, *, quick: bool = False) -> Verified:
        """Compare the hashes of all objects; then restore into scratch stores, and compare.

        What was found is kept in the repository, where `list` and `restore` see it.

        :param quick: compare hashes only.
        """
        self.repository.open()
        stores = None if quick else self._stores
        identity = self.repository.named(backup_id)
        with files.translated("Verifying"):
            found = await verified(self.repository, identity, stores, self._report)
        for fault in found.faults:
            log.error("Backup %s is damaged: %s", found.backup_id, fault)
        for fault in found.repository_faults:
            log.error("The repository %s is damaged: %s", self.repository.folder, fault)
        return found

    async def restore(
        self,
        backup_id: str = LATEST,
        *,
        only: Series | DocumentCollection | None = None,
        replace: bool = False,
        previous_if_damaged: bool = False,
        parks_events: bool = True,
    ) -> Restored:
        """Restore a backup into the stores of the storage, which nobody else uses meanwhile.

        Afterwards no commit is unfinished and the clock is ahead of all. Events that waited when
        the backup was made are parked, since they may have been delivered after it. One that failed
        when it was last verified is not taken unless it is named.

        :param only: a part of it, into a storage that may be in use.
        :param replace: put it in the place of what is stored.
        :param previous_if_damaged: take the newest earlier one that is whole, where it is damaged.
        :raises NotEmpty: something is stored there, and not `replace`; nothing is changed.
        :raises DamagedBackup: it is damaged. Where its hashes tell that, nothing is changed; where
            only what was restored tells it, that is in the stores, and `was_begun` is true.
        """
        self.repository.open()
        begun = perf_counter()
        passed_over: list[str] = []
        async with self._alone(reads=True):
            for identity in self._candidates(backup_id, only, previous_if_damaged):
                try:
                    if identity != backup_id:
                        await asyncio.to_thread(self._check_outcome, identity)
                    manifest = await asyncio.to_thread(self.repository.manifest, identity)
                    rows, recovered = await self._restored(manifest, only, replace, parks_events)
                except DamagedBackup as exc:
                    if not previous_if_damaged:
                        raise
                    log.error("Backup %s is damaged, so an earlier one is taken.", identity)
                    passed_over.append(f"{identity}: {exc.args[0]}")
                    replace = replace or exc.was_begun
                    continue
                return Restored(
                    backup_id=manifest.id,
                    timestamp=manifest.cut_at,
                    version=manifest.version,
                    rows=rows,
                    seconds=perf_counter() - begun,
                    recovered=recovered,
                    passed_over=tuple(passed_over),
                )
        raise DamagedBackup(
            "No backup can be restored: " + "; ".join(passed_over), faults=passed_over
        )

    async def prune(
        self,
        retention: Retention | None = None,
        *,
        dry_run: bool = False,
        forget_damaged: bool = False,
    ) -> Pruned:
        """Remove the backups that no rule keeps, and the objects that no backup needs.

        Interrupted anywhere, it leaves whole backups; run it again.

        :param retention: as the settings say if not given.
        :param forget_damaged: remove also backups whose manifests are damaged or gone.
        :raises DamagedBackup: a manifest is, and not `forget_damaged`; nothing is removed.
        """
        self.repository.open()
        rules = retention or retention_of(self._config)
        return await asyncio.to_thread(
            lambda: pruned(self.repository, rules, dry_run=dry_run, forget_damaged=forget_damaged)
        )

    # ---- inside

    @property
    def _backend(self) -> StoreBackend:
        backend: Any = self._storage._backend  # noqa: SLF001 - it has no public name
        # One that is observed hands these on.
        if not (hasattr(backend, "stores") and hasattr(backend, "settings")):
            raise StorageError(
                "Backups need the stores themselves, and this storage reaches them through another"
                " process.",
                remedy="Make them where the stores are open, by BackupSchedule.",
            )
        return cast(StoreBackend, backend)

    @property
    def _stores(self) -> Stores:
        return self._backend.stores

    def _check_apart(self) -> None:
        """:raises InvalidConfiguration: what destroys the stores would take the backups along."""
        data, folder = self._settings.data_dir.resolve(), self.repository.folder.resolve()
        if data in (folder, *folder.parents):
            raise InvalidConfiguration(
                f"the repository {self.repository.folder} is in the data folder {data}",
                remedy="Name a folder on another disk with JTS_BACKUP_REPOSITORY.",
            )

    @property
    def _settings(self) -> StorageSettings:
        return self._backend.settings

    @asynccontextmanager
    async def _alone(self, *, reads: bool = False) -> AsyncIterator[None]:
        """Hold the lease on backups of this storage, and the lock of the repository."""
        leases = Leases(self._stores.mongo)
        async with leases.taken(LEASE) as lease:
            if lease is None:
                raise Conflict(
                    "Another backup of this storage is being made or restored.",
                    remedy="Wait until it is done.",
                )
            with self.repository.held(reads=reads):
                async with renewing(DURATION, lease.renewed):
                    yield

    async def _copied(self, note: str) -> tuple[Manifest, Copies]:
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix=FOLDER))
        try:
            revisions = await schema.revisions_of(schema.databases_of(self._settings, self._stores))
            found, backups = await cut.pinned(self._stores, lambda: self._made(folder))
            self._report(Progress("pinned", 1, 1))
            try:
                manifest, copies = await self._manifest(found, backups, note)
            finally:
                await cut.released(backups)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        return schema.with_revisions(revisions, manifest), copies

    def _made(self, folder: Path) -> cut.Made:
        stores = self._stores
        # In the order of the copies: the views of SQL, as of MongoDB, cost while they are open.
        others: list[StoreBackup] = [
            relational.backup_of(stores.database, folder),
            LakeBackup(self._settings.lake_root.absolute()),
            clickhouse.backup_of(stores.clickhouse, new_name(stores)),
        ]
        return MongoBackup(stores.mongo), others

    async def _manifest(
        self, found: Cut, backups: Sequence[StoreBackup], note: str
    ) -> tuple[Manifest, Copies]:
        known = await asyncio.to_thread(lambda: pieces_of(readable_of(self.repository)))
        copies = Copies(self.repository, known, self._report)
        stores = {each.name: await each.copy(copies) for each in backups}
        now = datetime.now(UTC)
        manifest = Manifest(
            id=f"{now:%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}",
            created_at=now,
            version=found.version,
            cut_at=found.moment,
            waited_seconds=found.waited_seconds,
            kit=__version__,
            stores=stores,
            note=note,
        )
        return manifest, copies

    async def _verified_new(self, manifest: Manifest, verify: bool | None) -> Verified:
        wanted = self._config.verify if verify is None else verify
        if wanted is None:
            wanted = self._stores.clickhouse.is_embedded
        stores = self._stores if wanted else None
        try:
            with files.translated("Verifying"):
                found = await verified(self.repository, manifest.id, stores, self._report)
        except StorageError as exc:
            raise StorageError(
                f"Backup {manifest.id} was made, and could not be verified: {exc.args[0]}",
                remedy=exc.remedy,
            ) from exc
        if found.faults:
            log.error("Backup %s is damaged: %s", manifest.id, found.faults[0])
            await asyncio.to_thread(self._set_aside, manifest)
        return found

    def _set_aside(self, manifest: Manifest) -> None:
        """Remove objects that are damaged, so that the next backup stores them anew."""
        for identity, stored in manifest.objects.items():
            try:
                self.repository.check(identity, stored)
            except DamagedBackup:
                self.repository.path_of(identity).unlink(missing_ok=True)

    def _check_outcome(self, identity: str) -> None:
        """:raises DamagedBackup: it failed when it was last verified."""
        failure = self.repository.outcome(identity).failure
        if failure is not None:
            raise DamagedBackup(
                f"Backup {identity} failed when it was verified at {failure.at:%Y-%m-%d %H:%M} UTC:"
                f" {failure.faults[0]}",
                faults=failure.faults,
                remedy="Restore the one before it by --previous-if-damaged, verify it once more, or"
                " name it to restore it all the same.",
            )

    def _candidates(
        self, backup_id: str, only: Series | DocumentCollection | None, previous: bool
    ) -> Sequence[str]:
        ids = self.repository.ids()
        if backup_id == LATEST and isinstance(only, Series) and only.at is not None:
            backup_id = self._first_after(only.at, ids) or backup_id
        named = self.repository.named(backup_id)
        return ids[ids.index(named) :: -1] if previous else [named]

    def _first_after(self, moment: datetime, ids: Sequence[str]) -> str | None:
        """The first backup that was made after a moment: its history knows most of it."""
        for manifest in readable_of(self.repository, ids):
            if manifest.cut_at >= moment:
                return manifest.id
        return None

    async def _restored(
        self,
        manifest: Manifest,
        only: Series | DocumentCollection | None,
        replace: bool,
        parks_events: bool,
    ) -> tuple[dict[str, int], int]:
        """How many rows of what were restored, and how many commits finished."""
        with files.translated("A restore"):
            if only is None:
                whole = WholeRestore(self._settings, self._stores, self.repository, self._report)
                recovered = await whole.run(manifest, replace=replace, parks_events=parks_events)
                return rows_of(manifest), recovered
            part = PartRestore(self._storage, self._stores, self.repository)
            if isinstance(only, Series):
                count = await part.series(manifest, only, replace=replace)
                return {str(only.into or only.key): count}, 0
            count = await part.collection(manifest, only, replace=replace)
            return {only.into or only.name: count}, 0
