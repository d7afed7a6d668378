"""The suite ends when it cannot go on, and begins with what takes longest."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import runs

TESTS = Path(runs.__file__).parent
CONFTEST = """
from tests.runs import end_when_a_worker_is_lost as pytest_configure
"""


def test_the_longest_files_exist_and_come_first() -> None:
    assert [name for name in runs.LONGEST if not (TESTS / name).is_file()] == []
    paths = ["unit/a.py", runs.LONGEST[1], "unit/b.py", runs.LONGEST[0], "unit/a.py"]
    items: Any = [SimpleNamespace(path=TESTS / path) for path in paths]
    found = [str(item.path.relative_to(TESTS)) for item in sorted(items, key=runs.rank)]
    assert found == [*runs.LONGEST[:2], "unit/a.py", "unit/b.py", "unit/a.py"]


def test_by_day_every_value_comes_and_by_night_every_combination() -> None:
    letters, numbers, flags = "ab", range(5), (True, False, None)
    cases = runs.every_value_by_day(letters, numbers, flags)
    assert {case.values for case in cases} == {*product(letters, numbers, flags)}
    assert len(cases) == 30
    by_day = [case.values for case in cases if not case.marks]
    assert len(by_day) == 5
    for place, values in enumerate((letters, numbers, flags)):
        assert {case[place] for case in by_day} == {*values}
    same = runs.every_value_by_day("abc", "abc", range(8))
    assert len({case.values[:2] for case in same if not case.marks}) == 8


class Contract:
    def test_a(self) -> None: ...

    def test_b(self) -> None: ...


class Some(Contract):
    BY_DAY = runs.every_test_of(Contract) - {"test_b"}


def test_a_class_leaves_those_it_does_not_name_to_the_night() -> None:
    def is_left(kind: type | None, name: str) -> bool:
        item: Any = SimpleNamespace(cls=kind, originalname=name, name=f"{name}[1]")
        return runs.is_left_to_the_night(item)

    assert [is_left(Some, name) for name in ("test_a", "test_b")] == [False, True]
    assert not any(is_left(kind, "test_b") for kind in (Contract, None))


def test_a_run_that_loses_a_worker_fails_and_ends(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for number in range(3):
        body = "def test_a(): pass\n\ndef test_b(): pass\n"
        (tmp_path / f"test_{number}.py").write_text(body)
    (tmp_path / "test_dies.py").write_text("import os\n\ndef test_dies(): os._exit(3)\n")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    plugins = ["-p", "no:randomly", "-p", "no:asyncio", "--no-loadscope-reorder"]
    done = subprocess.run(
        [*command, *plugins], cwd=tmp_path, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "crashed while running 'test_dies.py::test_dies'" in done.stdout
    assert "1 failed, 6 passed" in done.stdout
