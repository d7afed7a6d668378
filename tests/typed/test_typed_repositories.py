"""mypy and pyright type repositories of declared models as what the models declare."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROOF = Path(__file__).with_name("declared_models.py")
DECLARATIONS = ROOT / "tests" / "declared.py"


def checked(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(module) is None:
        pytest.fail(f"{module} is missing: install the dependency group `dev`", pytrace=False)
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def pyright(folder: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    project = folder / "pyrightconfig.json"
    config = {
        "include": list(map(str, files)),
        "extraPaths": [str(ROOT)],
        "typeCheckingMode": "standard",
        "reportUnnecessaryTypeIgnoreComment": "error",
        "pythonVersion": "3.11",
    }
    project.write_text(json.dumps(config))
    return checked("basedpyright", "--project", str(project), "--pythonpath", sys.executable)


def spoiled(folder: Path) -> Path:
    """The proof with one claim that is wrong."""
    text = PROOF.read_text()
    right = "assert_type(storage.repository(ticks), Ticks)"
    assert right in text
    found = folder / "spoiled.py"
    found.write_text(text.replace(right, "assert_type(storage.repository(ticks), Orders)"))
    return found


def test_mypy_knows_the_repositories_of_declared_models(tmp_path: Path) -> None:
    done = checked("mypy", str(PROOF))
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = checked("mypy", str(spoiled(tmp_path)))
    assert 'Expression is of type "Ticks", not "Orders"' in wrong.stdout, wrong.stdout


def test_pyright_knows_the_repositories_of_declared_models(tmp_path: Path) -> None:
    done = pyright(tmp_path, PROOF, DECLARATIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = pyright(tmp_path, spoiled(tmp_path))
    assert 'expected "Orders" but received "Ticks"' in wrong.stdout, wrong.stdout
