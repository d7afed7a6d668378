"""`scripts/measure_code.py` as it is called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "measure_code.py"


def measure(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False
    )


def test_help_says_how_it_is_called() -> None:
    done = measure("--help")
    assert done.returncode == 0
    assert done.stdout.startswith("usage: measure_code.py")


@pytest.mark.parametrize("kind", ["absent", "empty", "file"])
def test_a_folder_that_is_none_is_named_beside_the_usage(tmp_path: Path, kind: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x = 1\n")
    done = measure(str(tmp_path / kind))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("usage: measure_code.py")
    assert f"{tmp_path / kind} is no folder with Python files" in done.stderr


def test_folders_stand_side_by_side(tmp_path: Path) -> None:
    for lines in (1, 2):
        (tmp_path / f"{lines}").mkdir()
        (tmp_path / f"{lines}" / "a.py").write_text("x = 1\n" * lines)
    done = measure(str(tmp_path / "1"), str(tmp_path / "2"))
    assert done.stderr == ""
    assert done.stdout.splitlines()[0].split() == ["lines", "1", "2"]


def test_the_package_keeps_its_shape() -> None:
    done = measure(str(SCRIPT.parents[1] / "jts_storage"))
    told = dict(line.rsplit(None, 1) for line in done.stdout.splitlines() if line.strip())
    shape = {name.strip(): value for name, value in told.items()}
    assert (shape["files > 400"], shape["functions > 40"]) == ("0", "0")
    assert int(shape["pairs with duplicates"]) < 60
