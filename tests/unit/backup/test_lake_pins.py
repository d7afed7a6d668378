"""Files of a lake are those that were there while the stores were pinned, whatever comes then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Conflict
from jts_storage.backup.stores import lake
from jts_storage.backup.stores.lake import LakeBackup


def written(root: Path, name: str, content: bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def kept(backup: LakeBackup) -> dict[str, bytes]:
    return {name: link.read_bytes() for name, link in backup._files}


async def test_what_is_compacted_after_the_pin_is_there(tmp_path: Path) -> None:
    old = [written(tmp_path, f"day/{n}.parquet", bytes([n])) for n in range(3)]
    backup = LakeBackup(tmp_path)
    await backup.pin()
    for path in old:
        path.unlink()
    written(tmp_path, "day/compacted.parquet", b"all")
    assert kept(backup) == {f"day/{n}.parquet": bytes([n]) for n in range(3)}
    await backup.release()
    left = await asyncio.to_thread(lambda: sorted(path.name for path in tmp_path.rglob("*")))
    assert left == ["compacted.parquet", "day"]


@pytest.mark.parametrize("name", ["a.parquet", "compacted.parquet"])
async def test_what_is_replaced_while_it_is_linked_is_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    written(tmp_path, "a.parquet", b"old")
    real, calls = lake._identified, []

    def identified(root: Path) -> Any:
        found = real(root)
        calls.append(root)
        if len(calls) == 1:  # between the look and the links
            (tmp_path / "a.parquet").unlink()
            written(tmp_path, name, b"new")
        return found

    monkeypatch.setattr(lake, "_identified", identified)
    backup = LakeBackup(tmp_path)
    await backup.pin()
    assert kept(backup) == {name: b"new"}


async def test_files_that_are_replaced_all_the_time_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = lake._identified, iter(range(1_000))

    def identified(root: Path) -> Any:
        written(tmp_path, f"{next(count)}.parquet", b"")
        return real(root)

    monkeypatch.setattr(lake, "_identified", identified)
    with pytest.raises(Conflict, match="replaced all the time"):
        await LakeBackup(tmp_path).pin()
