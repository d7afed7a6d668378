"""The mark of a folder whose mongod is at rest, and what else may stand in its place."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from jts_storage.local_servers import at_rest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "mongod.lock").touch()
    (tmp_path / "db" / "WiredTiger.turtle").write_text("turtle")
    return tmp_path


def test_a_mark_counts_until_it_is_forgotten(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not at_rest.is_marked(folder)
    at_rest.mark(folder)
    assert at_rest.is_marked(folder)
    at_rest.forget(folder)
    assert not at_rest.is_marked(folder)
    assert not caplog.records


def test_a_folder_in_its_place_is_no_mark(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "at_rest.json").mkdir()
    assert not at_rest.is_marked(folder)
    assert "at_rest.json cannot be read (" in caplog.text
    at_rest.forget(folder)
    at_rest.mark(folder)
    assert not at_rest.is_marked(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "\xff", "7", "null", '{"files": 1}'])
def test_what_no_mark_says_is_no_mark(
    folder: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    caplog.set_level(logging.WARNING)
    (folder / "at_rest.json").write_text(text, "latin-1")
    assert not at_rest.is_marked(folder)
    assert all("is started to look" in record.getMessage() for record in caplog.records)
    at_rest.mark(folder)
    assert at_rest.is_marked(folder)
