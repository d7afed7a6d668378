"""The example of docs/how-to/build-a-service.md: it is typed, its tests pass, the page shows it."""

from __future__ import annotations

import importlib.util
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.plugin import projects
from tests.type_checkers import ROOT, complaints, mypy, pyright

EXAMPLE = Path(__file__).with_name("example_api")
SERVICE = EXAMPLE / "price_api.py"
TESTS = EXAMPLE / "tests" / "test_price_api.py"
PAGE = ROOT / "docs" / "how-to" / "build-a-service.md"


@pytest.fixture(autouse=True)
def _installed() -> None:
    for name in ("fastapi", "httpx2"):
        if importlib.util.find_spec(name) is None:
            pytest.fail(f"{name} is missing: install the dependency group `dev`", pytrace=False)


def shown() -> list[str]:
    return re.findall(r"^```py\b[^\n]*\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def test_the_page_shows_the_whole_service() -> None:
    assert SERVICE.read_text() in shown()


def test_the_page_shows_tests_that_run() -> None:
    blocks = [block for block in shown() if block != SERVICE.read_text()]
    assert blocks
    for block in blocks:
        assert block.strip() in TESTS.read_text(), f"{TESTS.name} does not hold:\n{block}"


def test_its_tests_pass(tmp_path: Path, engine_used: Callable[[str], None]) -> None:
    engine_used("chDB and mongod in the process of an example project")
    folder = tmp_path / "service"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "pytest.ini").write_text(f"{projects.INI}pythonpath = .\n")
    outcome = projects.run_pytest(folder, "--jts-backend=embedded")
    written = TESTS.read_text().count("def test_")
    assert outcome.counts == {"passed": written}, outcome.text


@pytest.fixture
def spoiled(tmp_path: Path) -> Path:
    """The service with an endpoint that returns what it does not promise."""
    text = SERVICE.read_text()
    right = "return result.written"
    assert right in text
    found = tmp_path / "spoiled.py"
    found.write_text(text.replace(right, "return result"))
    return found


def test_mypy_finds_nothing(spoiled: Path) -> None:
    done = mypy("--strict", SERVICE, TESTS, spoiled)
    assert complaints(done, but_of=spoiled) == []
    assert 'got "SaveResult", expected "int"' in done.stdout, done.stdout


@pytest.mark.slow
def test_pyright_finds_nothing(spoiled: Path, tmp_path: Path) -> None:
    done = pyright(tmp_path, SERVICE, TESTS, spoiled, beside=EXAMPLE)
    assert complaints(done, but_of=spoiled) == []
    assert '"SaveResult" is not assignable to "int"' in done.stdout, done.stdout
