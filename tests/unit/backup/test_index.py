"""A repository knows which backups it has to have, and what was found of each."""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from jts_storage.backup import DamagedBackup, Retention, files
from jts_storage.backup.encryption import new_key
from jts_storage.backup.index import Indexed
from jts_storage.backup.listing import backups_of, listed
from jts_storage.backup.manifest import Manifest
from jts_storage.backup.pruning import pruned, readable_of
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.verify import verified
from jts_storage.errors import Conflict, InvalidConfiguration, NotFound, StorageError
from tests.integration.backup.keep_repository import KEPT
from tests.unit.backup.test_repository import manifest_of, texts_of

LAST = Retention(last=1, days=0)


@pytest.fixture
def repository(tmp_path: Path) -> BackupRepository:
    """Three backups: of fifty days ago, of twenty, and of now."""
    repository = BackupRepository(tmp_path / "repository").make()
    for name, days in (("a", 50), ("b", 20), ("c", 0)):
        repository.add(manifest_of(repository, name, "shared", f"own of {name}", days=days))
    return repository


def manifest_file(repository: BackupRepository, name: str) -> Path:
    return repository.folder / "backups" / f"{name}.manifest"


def damaged(repository: BackupRepository, name: str) -> str:
    """Damage what only this backup has; which object that was."""
    identity = repository.manifest(name).stores["lake"].contents[0].pieces[1].object
    path = repository.path_of(identity)
    data = path.read_bytes()
    path.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    return identity


def states(repository: BackupRepository) -> dict[str, str]:
    return {each.backup_id: each.verification for each in listed(repository)}


# ---- manifests that are gone


async def test_the_newest_manifest_that_is_gone_is_missed(repository: BackupRepository) -> None:
    manifest_file(repository, "c").unlink()
    assert repository.ids() == ["a", "b", "c"]
    found = await verified(repository, repository.named("latest"), None)
    assert (found.backup_id, found.is_well) == ("c", False)
    assert "backup c is missing" in found.faults[0]
    assert {each.backup_id for each in listed(repository) if each.damage} == {"c"}
    assert backups_of(repository)()[0] is None


async def test_one_that_is_gone_is_named_beside_a_backup_that_is_well(
    repository: BackupRepository,
) -> None:
    manifest_file(repository, "a").unlink()
    found = await verified(repository, "c", None)
    assert (found.faults, found.is_well) == ((), False)
    assert found.repository_faults == ("the manifest of backup a is missing, and was not pruned",)
    assert states(repository)["c"] == "not verified"


def test_nothing_is_pruned_beside_one_that_is_gone(repository: BackupRepository) -> None:
    kept = manifest_file(repository, "b").read_bytes()
    manifest_file(repository, "b").unlink()
    with pytest.raises(DamagedBackup, match="backup b is missing"):
        pruned(repository, LAST, dry_run=False)
    manifest_file(repository, "b").write_bytes(kept)  # from a copy
    assert texts_of(repository, "b") == ["shared", "own of b"]


def test_one_that_is_gone_can_be_forgotten(repository: BackupRepository) -> None:
    manifest_file(repository, "b").unlink()
    manifest_file(repository, "a").write_bytes(b"")
    told = pruned(repository, LAST, dry_run=False, forget_damaged=True)
    assert told.removed == ("a", "b")
    assert repository.ids() == ["c"]
    assert len(list(repository.object_ids())) == 2


def test_what_was_pruned_is_not_missed(repository: BackupRepository) -> None:
    pruned(repository, LAST, dry_run=False)
    assert repository.ids() == ["c"] and repository.missing() == []
    with pytest.raises(NotFound, match="It was removed at 20"):
        repository.manifest("a")
    with pytest.raises(NotFound, match=r"'z'\.$|'z'\. `"):
        repository.manifest("z")


@pytest.mark.parametrize("how", ["gone", "flipped", "empty"])
async def test_an_index_that_is_damaged_is_told_and_made_anew(
    repository: BackupRepository, how: str
) -> None:
    index = repository.folder / "index"
    if how == "gone":
        index.unlink()
    else:
        index.write_bytes(b"" if how == "empty" else index.read_bytes()[:-1] + b"\0")
    assert repository.ids() == ["a", "b", "c"]
    found = await verified(repository, "c", None)
    assert (found.faults, len(found.repository_faults)) == ((), 1)
    assert "the index of backups" in found.repository_faults[0]
    with pytest.raises(DamagedBackup, match="index"):
        pruned(repository, LAST, dry_run=False)
    repository.add(manifest_of(repository, "d", "shared"))
    assert (await verified(repository, "d", None)).is_well
    assert repository.ids() == ["a", "b", "c", "d"]


async def test_a_repository_of_an_earlier_release_gets_its_index_with_the_next_backup(
    tmp_path: Path,
) -> None:
    with tarfile.open(KEPT / "format-1.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    repository = BackupRepository(tmp_path / "repository").open()
    (first,) = repository.ids()
    assert (await verified(repository, first, None)).is_well
    assert not (repository.folder / "index").exists()
    repository.make().add(manifest_of(repository, "later", "text"))
    manifest_file(repository, first).unlink()
    assert repository.missing() == [first]


def test_the_index_of_an_encrypted_repository_is_encrypted(tmp_path: Path) -> None:
    key = new_key()
    repository = BackupRepository(tmp_path / "repository", key=key).make()
    repository.add(manifest_of(repository, "abcdefgh", "text"))
    assert b"abcdefgh" not in (repository.folder / "index").read_bytes()
    manifest_file(repository, "abcdefgh").unlink()
    assert BackupRepository(repository.folder, key=key).open().missing() == ["abcdefgh"]


# ---- what was found


async def test_what_was_found_is_listed_and_the_manifest_stays_as_it_is(
    repository: BackupRepository,
) -> None:
    manifest = manifest_file(repository, "c").read_bytes()
    identity = damaged(repository, "c")
    await verified(repository, "c", None)
    assert states(repository) == {"a": "not verified", "b": "not verified", "c": "failed"}
    newest = listed(repository)[0]
    assert identity in newest.faults[0] and newest.verified_at is not None
    assert backups_of(repository)()[0] is None
    assert manifest_file(repository, "c").read_bytes() == manifest
    repository.store([b"own of c"])  # as the next backup does
    await verified(repository, "c", None)
    assert states(repository)["c"] == "not verified"


async def test_a_comparison_of_hashes_neither_makes_nor_takes_a_restore(
    repository: BackupRepository,
) -> None:
    outcome = repository.outcome("c")
    await verified(repository, "c", None)
    assert repository.outcome("c").state == "not verified"
    look = repository.outcome("c").hashes
    assert look is not None
    repository.record(outcome.after(look, was_restored=True))
    await verified(repository, "c", None)
    assert repository.outcome("c").state == "verified"
    wrong = replace(look, faults=("it has other rows",))
    repository.record(outcome.after(wrong, was_restored=True))
    await verified(repository, "c", None)
    assert repository.outcome("c").state == "failed"


@pytest.mark.parametrize("text", [b"", b"x" * 100])
async def test_a_file_of_what_was_found_that_cannot_be_read_says_nothing(
    repository: BackupRepository, text: bytes
) -> None:
    await verified(repository, "b", None)
    backups = repository.folder / "backups"
    (backups / "a.verified").write_bytes(text)
    (backups / "c.verified").write_bytes((backups / "b.verified").read_bytes())
    assert set(states(repository).values()) == {"not verified"}
    assert repository.outcome("c").hashes is None
    assert repository.outcome("b").hashes is not None


async def test_what_was_found_goes_with_the_backup(repository: BackupRepository) -> None:
    for name in ("a", "b", "c"):
        await verified(repository, name, None)
    (repository.folder / "backups" / "nobody.verified").write_bytes(b"")
    pruned(repository, LAST, dry_run=False)
    names = {path.name for path in (repository.folder / "backups").iterdir()}
    assert names == {"c.manifest", "c.verified"}


async def test_backups_that_did_not_verify_do_not_push_out_those_that_did(
    repository: BackupRepository,
) -> None:
    for name in ("b", "c"):
        damaged(repository, name)
        await verified(repository, name, None)
    told = pruned(repository, LAST, dry_run=True)
    assert told.kept == {"c": ("last",), "a": ("last",)}


async def test_nothing_is_recorded_of_a_backup_that_is_pruned_meanwhile(
    repository: BackupRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = repository.check

    def checked(identity: str, stored: int = -1) -> None:
        if repository.ids() != ["c"]:
            pruned(repository, LAST, dry_run=False)
        check(identity, stored)

    monkeypatch.setattr(repository, "check", checked)
    with pytest.raises(NotFound, match="It was removed"):
        await verified(repository, "a", None)
    assert not (repository.folder / "backups" / "a.verified").exists()


# ---- clocks


def test_the_latest_is_the_one_made_last_also_where_the_clock_was_set_back(
    repository: BackupRepository,
) -> None:
    repository.add(manifest_of(repository, "0-later", "shared", "own of it", days=90))
    assert repository.named("latest") == "0-later"
    assert [each.backup_id for each in listed(repository)] == ["0-later", "c", "b", "a"]
    told = pruned(repository, LAST, dry_run=False)
    assert "0-later" in told.kept and "0-later" in repository.ids()


# ---- file systems that refuse


def full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_and_leaves_what_was_there(
    repository: BackupRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot be written: No space left on device\. See"):
        repository.store([b"more"])
    with pytest.raises(StorageError, match="cannot be written"):
        repository.add(manifest_of_nothing(repository))
    with pytest.raises(StorageError, match="cannot be written"):
        BackupRepository(repository.folder.with_name("another")).make()
    monkeypatch.undo()
    assert repository.ids() == ["a", "b", "c"]
    assert not list((repository.folder / "tmp").iterdir())


def test_a_file_that_cannot_be_closed_on_a_full_disk_is_told_likewise(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="cannot be written: No space left"),
        files._Guarded(Path("/dev/full").open("wb"), tmp_path) as file,
    ):
        file.write(b"x" * 100)


def manifest_of_nothing(repository: BackupRepository) -> Manifest:
    return replace(repository.manifest("c"), id="d")


def test_a_failure_of_what_is_backed_up_is_not_told_as_one_of_the_repository(
    repository: BackupRepository,
) -> None:
    def lost() -> Iterator[bytes]:
        yield b"begun"
        raise FileNotFoundError(errno.ENOENT, "gone", "part/data.bin")

    with pytest.raises(FileNotFoundError, match=r"part/data\.bin"):
        repository.store(lost())
    assert not list((repository.folder / "tmp").iterdir())


def test_a_prune_makes_room_where_there_is_none_for_the_index(
    repository: BackupRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Indexed.write
    failed: list[Any] = []

    def written(self: Indexed, index: Any) -> None:
        if not failed:
            failed.append(index)
            raise StorageError("no room")
        write(self, index)

    monkeypatch.setattr(Indexed, "write", written)
    told = pruned(repository, LAST, dry_run=False)
    assert failed and told.removed == ("a", "b")
    assert repository.ids() == ["c"] and repository.missing() == []


async def test_a_backup_in_a_folder_that_cannot_be_written_is_verified_and_read(
    repository: BackupRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(FileLock, "acquire", refused)
    monkeypatch.setattr(os, "fsync", refused)
    with repository.held(reads=True):
        assert texts_of(repository, "c") == ["shared", "own of c"]
    assert (await verified(repository, "c", None)).is_well
    assert pruned(repository, LAST, dry_run=True).removed == ("a", "b")
    with pytest.raises(StorageError, match="Read-only file system"):
        pruned(repository, LAST, dry_run=False)


def test_one_object_lets_nobody_in_twice(repository: BackupRepository) -> None:
    with repository.held():
        with pytest.raises(Conflict, match="at work"), repository.held():
            raise AssertionError
        with pytest.raises(Conflict), BackupRepository(repository.folder).held(reads=True):
            raise AssertionError
    with repository.held():
        pass


# ---- what else lies there


def test_what_is_no_part_of_a_repository_is_left_alone(
    repository: BackupRepository, tmp_path: Path
) -> None:
    stray = [
        repository.folder / "objects" / "README",
        repository.folder / "objects" / "ab" / ".DS_Store",
        repository.folder / "objects" / "ab" / ("cd" * 32),
        repository.folder / "backups" / "c (copy).manifest",
    ]
    for path in stray:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    assert repository.ids() == ["a", "b", "c"] == sorted(states(repository))
    pruned(repository, LAST, dry_run=False)
    assert [path.read_text() for path in stray] == ["mine"] * len(stray)


def test_links_lead_nowhere_else(repository: BackupRepository, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(manifest_file(repository, "c").read_bytes())
    manifest_file(repository, "c").unlink()
    manifest_file(repository, "c").symlink_to(outside)
    assert texts_of(repository, "c") == ["shared", "own of c"]  # moved to another disk, say
    link = repository.path_of("f" * 64)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "nothing")
    manifest_file(repository, "b").unlink()
    manifest_file(repository, "b").symlink_to(tmp_path / "nothing")
    assert "is no file" in str(next(e.damage for e in listed(repository) if e.backup_id == "b"))
    pruned(repository, LAST, dry_run=False, forget_damaged=True)
    assert not link.is_symlink() and outside.exists()


def test_a_copy_without_empty_folders_is_used(repository: BackupRepository) -> None:
    (repository.folder / "tmp").rmdir()
    assert pruned(repository, LAST, dry_run=True).removed == ("a", "b")
    repository.make().add(manifest_of(repository, "d", "shared"))
    assert repository.ids()[-1] == "d"


def test_a_manifest_of_a_later_release_is_named_and_hides_no_other(
    repository: BackupRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = manifest_of_nothing(repository).to_json().replace(b'"format": 1', b'"format": 9')
    monkeypatch.setattr(Manifest, "to_json", lambda _: text)
    repository.add(manifest_of_nothing(repository))
    assert "format 9" in str(listed(repository)[0].damage)
    assert [each.id for each in readable_of(repository)] == ["a", "b", "c"]
    with pytest.raises(InvalidConfiguration, match=r"backup d cannot be read.*later release"):
        pruned(repository, LAST, dry_run=False, forget_damaged=True)
    assert repository.ids() == ["a", "b", "c", "d"]


@pytest.mark.parametrize("name", ["x" * 300, "x\0y", "c\n", "백업 하나"])
def test_a_name_that_no_backup_can_have_is_not_found(
    repository: BackupRepository, name: str
) -> None:
    for look in (repository.named, repository.manifest):
        with pytest.raises(NotFound):
            look(name)


def test_readers_see_no_backup_missing_while_others_come_and_go(
    repository: BackupRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is read, then something happens, then the folder."""
    reader = BackupRepository(repository.folder)
    meanwhile: list[Callable[[], object]] = [
        lambda: repository.remove("b"),
        lambda: repository.add(manifest_of(repository, "e", "shared")),
        lambda: repository.remove("a"),
        lambda: repository.add(manifest_of(repository, "d", "shared")),
    ]

    def before(look: Callable[..., Any]) -> Callable[..., Any]:
        def looked(*given: Any) -> Any:
            if meanwhile:
                meanwhile.pop()()
            return look(*given)

        return looked

    monkeypatch.setattr(reader, "_present", before(reader._present))
    monkeypatch.setattr(reader, "_is_there", before(reader._is_there))
    assert reader.ids() == ["a", "b", "c", "d"]
    assert reader.ids() == ["b", "c", "d"]
    assert reader.missing() == [] and len(meanwhile) < 2
    assert reader.missing() == [] and not meanwhile
    assert reader.ids() == ["c", "d", "e"]
