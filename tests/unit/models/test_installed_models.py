"""Models and documents that installed packages name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import invalidate_caches
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jts_storage import Storage
from jts_storage.cli.main import app
from jts_storage.errors import InvalidConfiguration
from jts_storage.models import registry
from jts_storage.models.registry import DOCUMENTS, ENTRY_POINTS, Models, installed_documents

LOADERS: dict[str, Callable[[], object]] = {
    ENTRY_POINTS: Models.known,
    DOCUMENTS: installed_documents,
}
BROKEN = {
    "no module": ("nowhere_at_all.models:MODELS", "ModuleNotFoundError"),
    "no such name": ("tests.declared:MODLES", "AttributeError"),
    "a module that fails": ("failing_models:MODELS", "ZeroDivisionError"),
}


def install(folder: Path, group: str, value: str) -> None:
    """Put a package's metadata where Python looks for installed ones."""
    metadata = folder / "trading-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: trading\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\ntrading = {value}\n")
    (folder / "failing_models.py").write_text("MODELS = [1 / 0]\n")
    invalidate_caches()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_what_a_package_names_is_known(site: Path) -> None:
    install(site, ENTRY_POINTS, "tests.declared:ticks")
    assert "ticks" in Models.known()


def test_packages_are_looked_through_again_only_after_one_was_added(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []

    def look() -> Any:
        looked.append(entry_points())
        return looked[-1]

    monkeypatch.setattr(registry, "entry_points", look)
    for _ in range(3):
        assert "ticks" not in Models.known()
        assert installed_documents() == []
    assert len(looked) == 1, "for both groups"
    install(site, ENTRY_POINTS, "tests.declared:ticks")
    assert "ticks" in Models.known()
    assert len(looked) == 2


@pytest.mark.parametrize("group", LOADERS)
@pytest.mark.parametrize("how", BROKEN)
def test_an_entry_point_that_cannot_be_imported_is_named(site: Path, group: str, how: str) -> None:
    value, kind = BROKEN[how]
    install(site, group, value)
    with pytest.raises(InvalidConfiguration) as refused:
        LOADERS[group]()
    said = str(refused.value)
    assert f"trading names '{value}' in its entry points {group}" in said
    assert f"cannot be imported: {kind}: " in said
    assert said.endswith(
        "Correct it in the pyproject.toml of trading and install that again, or uninstall it."
    )


def test_whoever_opens_a_storage_or_runs_a_command_is_told_so(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, ENTRY_POINTS, "nowhere_at_all.models:MODELS")
    with pytest.raises(InvalidConfiguration, match="trading names"):
        Storage.in_memory()
    monkeypatch.chdir(site)
    done = CliRunner().invoke(app, ["check", "--store", "relational"])
    assert done.exit_code == 2, done.output
    assert "Error: Invalid configuration: trading names" in done.stderr
    assert "report it" not in done.stderr
