"""mypy and pyright, run on files as their users run them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def mypy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return _checked("mypy", *map(str, arguments))


def pyright(folder: Path, *files: Path, beside: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """
    :param folder: takes the configuration.
    :param beside: where the files import from, too.
    """
    config = {
        "include": list(map(str, files)),
        "extraPaths": [str(ROOT), str(beside)],
        "typeCheckingMode": "standard",
        "reportUnnecessaryTypeIgnoreComment": "error",
        "pythonVersion": "3.11",
    }
    project = folder / "pyrightconfig.json"
    project.write_text(json.dumps(config))
    return _checked("basedpyright", "--project", str(project), "--pythonpath", sys.executable)


def _checked(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
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
