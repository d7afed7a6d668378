"""A folder of backups that is whole wherever a process that changes it dies."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage.backup import chunks
from jts_storage.backup.encryption import Cipher, new_key
from jts_storage.backup.errors import DamagedBackup
from jts_storage.backup.listing import listed
from jts_storage.backup.manifest import Contents, Manifest, Piece, StoreCopy
from jts_storage.backup.pruning import pruned
from jts_storage.backup.repository import BackupRepository
from jts_storage.backup.retention import Retention
from jts_storage.errors import Conflict, InvalidConfiguration, NotFound

NOW = datetime.now(UTC)


class Killed(BaseException):
    """The process ends here."""


def manifest_of(repository: BackupRepository, name: str, *texts: str, days: float = 0) -> Manifest:
    """A backup that holds these texts."""
    pieces = []
    for text in texts:
        written = repository.store([text.encode()])
        pieces.append(
            Piece(text, text, written.object, written.raw, written.stored, 1, written.content)
        )
    contents = Contents("texts", "files", len(pieces), "", tuple(pieces))
    at = NOW - timedelta(days=days)
    stores = {"lake": StoreCopy("none", {}, (contents,))}
    return Manifest(name, at, 1, at, 0.0, "1", stores)


def texts_of(repository: BackupRepository, name: str) -> list[str]:
    manifest = repository.manifest(name)
    return [b"".join(repository.read(each.object)).decode() for each in manifest.pieces]


@pytest.mark.parametrize("cipher", [None, Cipher(new_key())], ids=["plain", "encrypted"])
@given(data=st.binary(max_size=3_000), pieces=st.integers(1, 5), repeated=st.integers(0, 2))
@settings(max_examples=40, deadline=None)
def test_an_object_gives_back_what_it_was_made_of(
    cipher: Cipher | None, data: bytes, pieces: int, repeated: int
) -> None:
    data *= 1_000 if repeated == 2 else repeated
    target = BytesIO()
    step = max(1, len(data) // pieces)
    written = chunks.write(
        (data[at : at + step] for at in range(0, len(data), step)), target, cipher
    )
    assert written.stored == len(target.getvalue())
    assert written.raw == len(data)
    assert b"".join(chunks.read(BytesIO(target.getvalue()), cipher)) == data


def test_what_repeats_itself_is_stored_in_less(tmp_path: Path) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    written = repository.store([b"candles " * 500_000])
    assert written.stored < written.raw / 100
    assert sum(map(len, repository.read(written.object))) == written.raw


@pytest.mark.parametrize("at", [0, 4, 5, 8, 12, 16, 30, -13, -1])
def test_a_byte_that_is_another_is_noticed_without_the_hash(at: int) -> None:
    target = BytesIO()
    chunks.write([b"x" * 50], target, Cipher(key := new_key()))
    data = bytearray(target.getvalue())
    data[at] ^= 1
    with pytest.raises((DamagedBackup, InvalidConfiguration)):
        list(chunks.read(BytesIO(bytes(data)), Cipher(key)))


def test_frames_of_another_object_are_noticed() -> None:
    """Encrypted frames know their places: they cannot be left out or exchanged."""
    cipher, target = Cipher(new_key()), BytesIO()
    chunks.write([os.urandom(chunks.FRAME_BYTES), os.urandom(chunks.FRAME_BYTES)], target, cipher)
    data = target.getvalue()
    length = 12 + chunks.FRAME_BYTES + 28
    first, second, rest = data[8 : 8 + length], data[8 + length : 8 + 2 * length], data[-40:]
    for wrong in (second + first + rest, first + rest, first + second):
        with pytest.raises(DamagedBackup):
            list(chunks.read(BytesIO(data[:8] + wrong), cipher))


def test_what_no_backup_needs_is_removed_and_nothing_else(tmp_path: Path) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    repository.add(manifest_of(repository, "a", "shared", "old", days=50))
    repository.add(manifest_of(repository, "b", "shared", "new"))
    repository.store([b"of a backup that was interrupted"])
    told = pruned(repository, Retention(last=1), dry_run=True)
    assert (told.removed, told.objects, repository.ids()) == (("a",), 2, ["a", "b"])
    done = pruned(repository, Retention(last=1), dry_run=False)
    assert (done.removed, done.objects, done.bytes) == (("a",), 2, told.bytes)
    assert repository.ids() == ["b"]
    assert texts_of(repository, "b") == ["shared", "new"]
    assert len(list(repository.object_ids())) == 2


@pytest.mark.parametrize("step", range(12))
def test_a_prune_that_is_killed_leaves_whole_backups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    for number in range(4):
        repository.add(manifest_of(repository, f"old-{number}", "shared", f"own {number}", days=50))
    repository.add(manifest_of(repository, "new", "shared", "mine"))
    _dying(monkeypatch, step)
    with suppress(Killed):
        pruned(repository, Retention(last=1), dry_run=False)
    monkeypatch.undo()
    for each in repository.ids():
        assert texts_of(repository, each)[0] == "shared"
    assert repository.named("latest") == "new" and not repository.missing()
    pruned(repository, Retention(last=1), dry_run=False)
    assert repository.ids() == ["new"]
    assert texts_of(repository, "new") == ["shared", "mine"]
    assert len(list(repository.object_ids())) == 2


@pytest.mark.parametrize("step", range(8))
def test_a_backup_that_is_killed_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    repository.add(manifest_of(repository, "a", "one"))
    _dying(monkeypatch, step)
    with suppress(Killed):
        repository.add(manifest_of(repository, "b", "one", "two"))
    monkeypatch.undo()
    assert texts_of(repository, "a") == ["one"]
    if "b" in repository.ids():
        assert texts_of(repository, "b") == ["one", "two"]
    pruned(repository, Retention(last=9), dry_run=False)
    assert len(list(repository.object_ids())) == len(repository.ids())
    assert not list((repository.folder / "tmp").iterdir())


def _dying(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Die before the change of that number to the file system, and change nothing after it."""
    left = [step]

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*args: Any, **more: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return change(*args, **more)

        return changed

    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(Path, "replace", counted(Path.replace))


def test_a_damaged_manifest_is_listed_and_stops_a_prune(tmp_path: Path) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    repository.add(manifest_of(repository, "a", "one", days=90))
    repository.add(manifest_of(repository, "b", "two"))
    path = repository.folder / "backups" / "b.manifest"
    path.write_bytes(path.read_bytes()[:-1])
    found = {each.backup_id: each.damage for each in listed(repository)}
    assert found["a"] is None and "manifest of backup b" in str(found["b"])
    with pytest.raises(DamagedBackup, match="manifest of backup b"):
        pruned(repository, Retention(last=0, days=0), dry_run=False)
    assert texts_of(repository, "a") == ["one"]


def test_a_manifest_under_the_name_of_another_is_none(tmp_path: Path) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    repository.add(manifest_of(repository, "a", "one"))
    backups = repository.folder / "backups"
    (backups / "b.manifest").write_bytes((backups / "a.manifest").read_bytes())
    with pytest.raises(DamagedBackup, match="it is that of backup a"):
        repository.manifest("b")


def test_one_process_changes_it_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    repository = BackupRepository(folder).make()
    with (
        repository.held(),
        pytest.raises(Conflict, match="at work"),
        BackupRepository(folder).held(),
    ):
        raise AssertionError


@pytest.mark.parametrize("name", ["", "../a", "nothing", "a/b"])
def test_what_is_no_backup_is_not_found(tmp_path: Path, name: str) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    with pytest.raises(NotFound):
        repository.manifest(name)
    with pytest.raises(NotFound):
        BackupRepository(tmp_path / "another").open()


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    repository = BackupRepository(tmp_path / "repository").make()
    (repository.folder / "repository.json").write_text('{"format": 2, "check": null}')
    with pytest.raises(InvalidConfiguration, match="later release"):
        BackupRepository(repository.folder).open()


@pytest.mark.parametrize("key", ["x", "AAAA", "é"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidConfiguration, match="32 bytes"):
        BackupRepository(tmp_path, key=key)
