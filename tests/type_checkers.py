"""mypy and pyright, run on files as their users run them."""

from __future__ import annotations

import importlib.util
import json
import os
import re
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


def complaints(done: subprocess.CompletedProcess[str], *, but_of: Path) -> list[str]:
    """What a checker finds wrong, but in the file that is wrong on purpose.

    One run over good files and a bad one takes half of the time of two.
    """
    lines = [line.strip() for line in done.stdout.splitlines()]
    told = [line for line in lines if re.search(r":\d+(:\d+)?(:| -) (error|warning)", line)]
    assert told, done.stdout + done.stderr
    return [line for line in told if not line.startswith(str(but_of))]


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
