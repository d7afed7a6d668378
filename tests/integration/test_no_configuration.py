"""A storage that nobody has configured."""

from __future__ import annotations

from pathlib import Path

import pytest

from jts_storage import Storage


async def test_opens_with_no_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with Storage.open() as storage:
        assert await storage.health() == {"clickhouse": True, "mongo": True, "database": True}
    assert (tmp_path / ".jts").is_dir()
