"""What a user installs, and what the lock promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import jts_storage

ROOT = Path(jts_storage.__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "constraints.txt").read_text()


def locked() -> dict[str, list[Requirement]]:
    found: dict[str, list[Requirement]] = {}
    for line in LOCK.splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def wanted() -> list[Requirement]:
    project = PROJECT["project"]
    extras = [text for group in project["optional-dependencies"].values() for text in group]
    groups = [
        text
        for name, group in PROJECT["dependency-groups"].items()
        if name != "lock"
        for text in group
        if isinstance(text, str)
    ]
    texts = [*project["dependencies"], *extras, *groups]
    return [r for r in map(Requirement, texts) if r.name != project["name"]]


def test_the_lock_pins_every_package_exactly_and_names_no_host_or_path() -> None:
    for requirements in locked().values():
        for requirement in requirements:
            assert re.fullmatch(r"==[\w.!+]+", str(requirement.specifier)), str(requirement)
            assert requirement.url is None
    assert not re.search(r"https?:|file:|index-url|find-links|/", LOCK)


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_every_dependency_is_locked_to_a_version_it_allows(requirement: Requirement) -> None:
    here: dict[str, str] = {**default_environment(), "extra": ""}  # type: ignore[dict-item]
    pins = [
        pin
        for pin in locked()[canonicalize_name(requirement.name)]
        if pin.marker is None or Marker(str(pin.marker)).evaluate(here)
    ]
    versions = [str(pin.specifier).removeprefix("==") for pin in pins]
    assert len(versions) == 1
    assert requirement.specifier.contains(versions[0])


def test_the_version_is_semantic_and_has_its_place_in_the_changelog() -> None:
    version = Version(jts_storage.__version__)
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z]+\d+)?", jts_storage.__version__)
    headings = re.findall(r"^## \[?(.+?)\]? - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version.base_version in headings


def test_no_page_holds_what_a_merge_left() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    marks = ("<<<<<<< ", ">>>>>>> ")
    assert [page for page in pages if any(mark in page.read_text() for mark in marks)] == []


def test_the_all_extra_names_every_other() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    assert Requirement(extras["all"][0]).extras == extras.keys() - {"all"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def test_the_wheel_carries_the_package_its_types_and_its_licence(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "jts_storage").rglob("*.py")}
    assert modules - names == set()
    assert "jts_storage/py.typed" in names
    (licence,) = (name for name in names if name.endswith("licenses/LICENSE"))
    assert b"Apache License" in wheel.read(licence)


def test_the_wheel_carries_every_migration(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    files = {p.relative_to(ROOT) for p in (ROOT / "migrations").rglob("*.*") if p.suffix != ".pyc"}
    assert {f"jts_storage/{path}" for path in files} - names == set()


def test_the_wheel_carries_no_tests_and_no_rubbish(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"jts_storage", f"jts_storage-{jts_storage.__version__}.dist-info"}
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_whoever_installed_it_has_the_dialects(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "installed")
    program = """
import sys
from sqlalchemy import create_engine

engine = create_engine(f"clickhouse+embedded:///{sys.argv[1]}")
with engine.connect() as connection:
    print(connection.exec_driver_sql("SELECT 6 * 7").scalar(), engine.dialect.driver)
print(create_engine("clickhouse+jts://localhost/x").dialect.driver)
print(sys.modules["jts_storage"].__file__)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "data")],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    module = tmp_path / "installed" / "jts_storage" / "__init__.py"
    assert ran.stdout.splitlines() == ["42 embedded", "jts", str(module)], ran.stderr
