"""Whatever happens to a repository is found, named, and never restored."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.backup import BackupManager, BackupRepository, DamagedBackup
from jts_storage.backup.encryption import new_key
from jts_storage.backup.manifest import Contents, Manifest
from jts_storage.backup.verify import verified
from tests.integration.backup.filled import fill, fill_more

_DAMAGES = 200
_RESTORED = 10


def _flip(path: Path, chance: random.Random, _others: list[Path]) -> None:
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def _cut(path: Path, chance: random.Random, _others: list[Path]) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: chance.randrange(1, len(data))])


def _remove(path: Path, _chance: random.Random, _others: list[Path]) -> None:
    path.unlink()


def _empty(path: Path, _chance: random.Random, _others: list[Path]) -> None:
    path.write_bytes(b"")


def _append(path: Path, chance: random.Random, _others: list[Path]) -> None:
    path.write_bytes(path.read_bytes() + chance.randbytes(3))


def _swap(path: Path, chance: random.Random, others: list[Path]) -> None:
    other = chance.choice([each for each in others if each != path])
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


def _rename(path: Path, chance: random.Random, _others: list[Path]) -> None:
    path.rename(path.with_name(f"{chance.randbytes(32).hex()}{path.suffix}"))


HOW: tuple[Callable[[Path, random.Random, list[Path]], None], ...] = (
    *(_flip, _flip, _flip, _cut, _remove, _empty, _append, _swap, _rename),
)


@pytest.fixture(scope="module")
def keys() -> Iterator[str | None]:
    yield new_key()


async def _backed_up(
    settings: StorageSettings, folder: Path, key: str | None = None
) -> tuple[BackupRepository, list[str]]:
    """Two backups of a storage with something of every kind in it."""
    repository = BackupRepository(folder, key=key)
    async with Storage(StoreBackend(settings)) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        first = await manager.create_backup(verify=False)
        await fill_more(storage)
        second = await manager.create_backup(verify=False)
    return repository, [first.backup_id, second.backup_id]


def _damages(folder: Path, scratch: Path, newest: str) -> Iterator[tuple[str, str, Path]]:
    """Copies of a repository, each damaged in one place: the damage, of what, and the copy."""
    manifest = BackupRepository(folder).manifest(newest)
    kinds = sorted({each.kind for store in manifest.stores.values() for each in store.contents})
    by_kind = {kind: _objects_of(manifest, kind) for kind in (*kinds, "figures")}
    chance = random.Random(7)
    for number in range(_DAMAGES):
        copy = scratch / str(number)
        shutil.copytree(folder, copy)
        how = HOW[number % len(HOW)]
        kind = chance.choice([*by_kind, "manifest", "index"])
        if kind in ("manifest", "index"):
            paths = [*sorted((copy / "backups").glob("*.manifest")), copy / "index"]
            path = paths[-1] if kind == "index" else paths[-2]
        else:
            objects = BackupRepository(copy)
            paths = [objects.path_of(each) for each in sorted(manifest.objects)]
            path = objects.path_of(chance.choice(by_kind[kind]))
        how(path, chance, paths)
        yield f"{how.__name__} of {kind}", path.stem, copy
        shutil.rmtree(copy)


def _objects_of(manifest: Manifest, kind: str) -> list[str]:
    if kind == "figures":
        return sorted({each.figures for each in manifest.pieces if each.figures})
    return sorted(
        {
            piece.object
            for store in manifest.stores.values()
            for contents in store.contents
            if contents.kind == kind
            for piece in contents.pieces
        }
    )


async def test_every_damage_is_found_and_named(
    settings: StorageSettings,
    empty_settings: StorageSettings,
    repository: Path,
    tmp_path: Path,
) -> None:
    """PT-INFRA-02.1, of backups"""
    _, (first, newest) = await _backed_up(settings, repository)
    restored = 0
    kinds: dict[str, int] = {}
    async with Storage(StoreBackend(empty_settings)) as storage:
        for damage, name, copy in _damages(repository, tmp_path / "copies", newest):
            damaged = BackupRepository(copy)
            found = await verified(damaged, newest, None)
            faults = (*found.faults, *found.repository_faults)
            assert not found.is_well and any(name in fault for fault in faults), (damage, faults)
            told = damage.partition(" of ")[2]
            kinds[told] = kinds.get(told, 0) + 1
            if restored < _RESTORED and found.faults:
                restored += 1
                with pytest.raises(DamagedBackup):
                    await BackupManager(storage, damaged).restore(newest)
                assert await storage.mongo.get_collection("formulas").count_documents({}) == 0
        assert (await verified(BackupRepository(repository), first, None)).is_well
        assert sum(kinds.values()) == _DAMAGES and len(kinds) > 5, kinds


@pytest.mark.slow
async def test_the_one_before_a_damaged_backup_is_restored_when_asked(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    """ET-INFRA-02.2"""
    objects, (first, newest) = await _backed_up(settings, repository)
    own = objects.manifest(newest).objects.keys() - objects.manifest(first).objects.keys()
    objects.path_of(min(own)).write_bytes(b"")
    async with Storage(StoreBackend(empty_settings)) as storage:
        manager = BackupManager(storage, objects)
        with pytest.raises(DamagedBackup, match=newest):
            await manager.restore()
        result = await manager.restore(previous_if_damaged=True)
        assert result.backup_id == first
        assert [each.partition(":")[0] for each in result.passed_over] == [newest]


@pytest.mark.slow
async def test_a_manifest_that_says_something_else_is_found_by_restoring(
    settings: StorageSettings, repository: Path
) -> None:
    """Its hashes are right: only what is restored tells that it is not what was stored."""
    objects, (_, newest) = await _backed_up(settings, repository)
    manifest = objects.manifest(newest)
    async with Storage(StoreBackend(settings)) as storage:
        manager = BackupManager(storage, objects)
        assert (await manager.verify(newest)).is_well
        for number, (store, name, change) in enumerate(_lies(manifest)):
            lie = replace(_with(manifest, store, name, change), id=f"lie-{number}")
            objects.add(lie)
            found = await manager.verify(lie.id)
            assert found.was_restored
            assert any(name.partition(".")[0].rstrip("s") in each for each in found.faults), (
                name,
                found,
            )


def _lies(
    manifest: Manifest,
) -> Iterator[tuple[str, str, Callable[[Contents], Contents]]]:
    candles = manifest.contents("clickhouse", "candles")
    history = manifest.contents("clickhouse", "candles_history")
    assert candles is not None and history is not None
    figures = history.pieces[0].figures
    yield "clickhouse", "candles", lambda each: replace(each, rows=each.rows + 1)
    yield (
        "clickhouse",
        "candles",
        lambda each: replace(
            each, pieces=tuple(replace(piece, figures=figures) for piece in each.pieces)
        ),
    )
    yield "mongo", "formulas", lambda each: replace(each, rows=each.rows + 1)
    yield "mongo", "strategies", lambda each: replace(each, fingerprint="0" * 64)
    yield (
        "database",
        "bookkeeping.db",
        lambda each: replace(each, fingerprint="0" * 64, name="bookkeeping.db"),
    )
    yield (
        "lake",
        "files",
        lambda each: replace(
            each, pieces=tuple(replace(piece, content="0" * 64) for piece in each.pieces)
        ),
    )


def _with(
    manifest: Manifest, store: str, name: str, change: Callable[[Contents], Contents]
) -> Manifest:
    copy = manifest.stores[store]
    contents = tuple(change(each) if each.name == name else each for each in copy.contents)
    return replace(manifest, stores={**manifest.stores, store: replace(copy, contents=contents)})


@pytest.mark.slow
async def test_one_that_is_found_out_only_after_it_was_restored_is_replaced(
    settings: StorageSettings, empty_settings: StorageSettings, repository: Path
) -> None:
    objects, (_, newest) = await _backed_up(settings, repository)
    manifest = objects.manifest(newest)
    wrong = _with(manifest, "mongo", "strategies", lambda e: replace(e, fingerprint="0" * 64))
    objects.add(replace(wrong, id=f"{newest}-wrong"))
    async with Storage(StoreBackend(empty_settings)) as storage:
        manager = BackupManager(storage, objects)
        restored = await manager.restore(previous_if_damaged=True)
        assert restored.backup_id == newest
        assert "strategies" in restored.passed_over[0]
        assert len(await storage.strategies.list()) == 1


@pytest.mark.slow
async def test_a_backup_that_does_not_verify_is_told_and_the_next_one_is_well(
    settings: StorageSettings, repository: Path
) -> None:
    """An object of an earlier backup is damaged: the next would only refer to it."""
    async with Storage(StoreBackend(settings)) as storage:
        await fill(storage, settings.lake_root)
        manager = BackupManager(storage, repository)
        first = await manager.create_backup()
        manifest = manager.repository.manifest(first.backup_id)
        candles = manifest.contents("clickhouse", "candles")
        assert candles is not None
        path = manager.repository.path_of(candles.pieces[0].object)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        second = await manager.create_backup()
        assert (second.status, second.is_verified) == ("failed", False)
        assert candles.pieces[0].object in second.faults[0]
        third = await manager.create_backup()
        assert (third.status, third.is_verified) == ("success", True)
        assert (await manager.verify(first.backup_id)).is_well  # stored anew, under the same hash


@pytest.mark.slow
async def test_encrypted_objects_are_checked_likewise(
    settings: StorageSettings, repository: Path, keys: str
) -> None:
    objects, (_, newest) = await _backed_up(settings, repository, keys)
    for identity in list(objects.manifest(newest).objects)[:5]:
        path = objects.path_of(identity)
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(DamagedBackup, match=identity):
            list(objects.read(identity))
        path.write_bytes(data)
        assert list(objects.read(identity)) is not None
