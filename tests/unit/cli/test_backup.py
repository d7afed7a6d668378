"""``backup`` where no store is needed: what is in a repository, and when the next is due."""

from __future__ import annotations

import json
import tarfile
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jts_storage.backup.encryption import Cipher
from jts_storage.backup.repository import BackupRepository
from jts_storage.cli.backup import backup
from tests.integration.backup.keep_repository import KEPT


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BackupRepository:
    with tarfile.open(KEPT / "format-1.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    monkeypatch.setenv("JTS_BACKUP_REPOSITORY", str(tmp_path / "repository"))
    return BackupRepository(tmp_path / "repository")


def run(*arguments: str, code: int = 0) -> Any:
    """What a command prints: JSON, if it was asked for, else a text."""
    result = CliRunner().invoke(backup, arguments)
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if "--json" in arguments else result.output


def test_backups_are_listed_with_what_is_in_them(repository: BackupRepository) -> None:
    (found,) = run("list", "--json")
    assert found["backup_id"] == repository.ids()[0]
    assert found["rows"]["clickhouse"] > 500
    assert found["note"] == "kept"
    assert repository.ids()[0] in run("list")


def test_one_that_is_damaged_is_named_and_exits_with_1(repository: BackupRepository) -> None:
    assert "is well" in run("verify", "--quick")
    (identity, *_) = repository.manifest(repository.ids()[0]).objects
    repository.path_of(identity).write_bytes(b"")
    found = run("verify", "--quick", "--json", code=1)
    assert identity in found["faults"][0]
    assert identity in run("verify", "--quick", code=1)
    (manifest,) = (repository.folder / "backups").glob("*.manifest")
    manifest.write_bytes(b"")
    assert "DAMAGED" in run("list", code=1)


def test_what_was_found_and_what_is_gone_is_listed(repository: BackupRepository) -> None:
    (backup_id,) = repository.ids()
    (identity, *_) = repository.manifest(backup_id).objects
    path = repository.path_of(identity)
    kept = path.read_bytes()
    path.write_bytes(b"")
    run("verify", "--quick", code=1)
    path.write_bytes(kept)
    (found,) = run("list", "--json", code=1)
    assert found["verification"] == "failed" and identity in found["faults"][0]
    said = run("list", code=1)
    assert f"failed {found['verified_at'][:10]}" in said and "did not verify: " in said
    run("verify", "--quick")
    assert "not verified" in run("list")
    repository.remove()  # as the next change of a release that keeps an index
    (repository.folder / "backups" / f"{backup_id}.manifest").unlink()
    for command in (("list",), ("verify", "--quick"), ("verify", "--quick", backup_id)):
        assert f"{backup_id} is missing" in run(*command, code=1)
    assert "is missing" in run("prune", code=2)
    told = run("prune", "--forget-damaged", "--json")
    assert told["removed"] == [backup_id] and told["objects"] > 0
    assert run("list", "--json") == []
    (repository.folder / "index").unlink()
    assert "the index of backups" in run("list", code=1)


def test_prune_says_what_it_would_do(repository: BackupRepository) -> None:
    told = run("prune", "--keep-last", "0", "--keep-days", "0", "--dry-run", "--json")
    assert told["removed"] == repository.ids()
    done = run("prune", "--keep-last", "0", "--keep-days", "0", "--json")
    assert done["removed"] == told["removed"] and done["objects"] == told["objects"] > 0
    assert repository.ids() == [] and not list(repository.object_ids())


def test_what_cannot_be_done_exits_with_2(tmp_path: Path) -> None:
    nowhere = ("--repository", str(tmp_path / "nowhere"))
    assert "There are no backups" in run("list", *nowhere, code=2)
    assert "There are no backups" in run("prune", *nowhere, code=2)
    assert "five fields" in run("schedule", "0 2 *", code=2)


def test_a_schedule_is_printed_for_cron_and_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the folder and the repository: elsewhere other stores would be backed up."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JTS_MONGO_URL", "mongodb://user:very-secret@host/")
    found = run("schedule", "0 2 * * *", "--json")
    create = f"backup create --repository {tmp_path / '.jts-backups'} --json"
    assert found["cron"].startswith(f"0 2 * * * cd {tmp_path} && /")
    assert found["cron"].endswith(create)
    assert f"WorkingDirectory={tmp_path}\n" in found["service"] and create in found["service"]
    assert f"User={getuser()}\n" in found["service"]
    said = run("schedule", "--repository", "elsewhere")
    assert f"--repository {tmp_path / 'elsewhere'}" in said
    assert "Only this shell has " in said and "JTS_MONGO_URL" in said
    assert "very-secret" not in said
    (tmp_path / ".env").write_text("JTS_MONGO_URL=mongodb://host/\n")
    assert "JTS_MONGO_URL" not in run("schedule")
    assert "OnCalendar=*-*-* 02:00:00 UTC" in found["timer"]
    assert found["next"].endswith("T02:00:00+00:00")
    assert "crontab" in run("schedule")


def test_a_key_is_one() -> None:
    assert Cipher(run("key").strip()).encrypted(b"", b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--series", "KRX:1/1m", "--collection", "formulas"),
        ("--start", "2026-01-01"),
        ("--into", "formulas"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(arguments: tuple[str, ...]) -> None:
    assert "--" in run("restore", *arguments, code=2)
