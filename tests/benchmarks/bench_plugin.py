"""What the pytest plugin costs: loading it, starting the stores of a run, a clean store a test.

The floor is the same pytest without the plugin, and a test without a fixture.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.metadata import entry_points
from pathlib import Path
from statistics import median
from time import perf_counter

from harness import compare, report

from jts_storage.testing.backends import CLICKHOUSE, MONGO, open_stack

INSTALLED = any(found.name == "jts_storage" for found in entry_points(group="pytest11"))
WITH = [] if INSTALLED else ["-p", "jts_storage.testing.plugin"]
WITHOUT = ["-p", "no:jts_storage"] if INSTALLED else []
NOTHING = "def test_nothing():\n    pass\n"
TESTS = 40
EMPTY = f"""
import pytest, time

@pytest.fixture(autouse=True, scope="module")
def warm(_jts_stack):
    _jts_stack.clean(_jts_stack.needed(frozenset()))

@pytest.mark.parametrize("n", range({TESTS}))
def test_reads_nothing(jts_settings, n):
    pass

@pytest.mark.asyncio
@pytest.mark.parametrize("n", range({TESTS}))
async def test_opens_nothing(jts_storage, n):
    pass

@pytest.mark.asyncio
@pytest.mark.parametrize("n", range({TESTS}))
async def test_writes_everywhere(jts_storage, make_candles, make_formula, n):
    async with jts_storage.unit_of_work() as uow:
        bars = make_candles()
        await uow.candles.save_many(bars.key, bars)
        await uow.formulas.save(make_formula())
        await uow.ingestion.checkpoints.save("bench", {{"n": n}})
        await uow.commit()
"""
CONFTEST = """
import pytest

def pytest_runtest_logreport(report):
    if report.when != "call":
        print(f"@{report.when} {report.duration} {report.location[2].split('[')[0]}", flush=True)
"""


def pytest(folder: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:xdist", *options],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith(("JTS_", "PYTEST_"))},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def loading(folder: Path) -> None:
    (folder / "test_nothing.py").write_text(NOTHING)
    compare(
        "collecting a project that uses nothing of the plugin",
        lambda: pytest(folder, "--collect-only", *WITH),
        lambda: pytest(folder, "--collect-only", *WITHOUT),
    )


def starting(runs: int = 5) -> None:
    """In fresh interpreters, imports included; the last line of each is the seconds."""
    code = (
        "from time import perf_counter as now; began = now()\n"
        "import sys, tempfile; from pathlib import Path\n"
        "from jts_storage.testing.backends import open_stack\n"
        "stack = open_stack('embedded', None, Path(sys.argv[1]))\n"
        "stack.clean(stack.needed(frozenset()))\n"
        "print(now() - began, flush=True); stack.close()\n"
    )
    taken = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-c", code, folder], capture_output=True, text=True, check=True
            )
        taken.append(float(done.stdout.split()[-1]))
    report("starting the embedded stores of a run", seconds=median(taken), worst=max(taken))


def cleaning(folder: Path, runs: int = 100) -> None:
    stack = open_stack("embedded", None, folder)
    names = {CLICKHOUSE, MONGO, "books"}
    stack.clean(names)
    taken = []
    for _ in range(runs):
        began = perf_counter()
        stack.clean(names)
        taken.append(perf_counter() - began)
    stack.close()
    report("emptying stores that are empty", seconds=median(taken), worst=max(taken))


def per_test(folder: Path) -> None:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_empty.py").write_text(EMPTY)
    options = ("--jts-backend=embedded", "-s", "-o", "asyncio_default_fixture_loop_scope=function")
    times: dict[str, dict[str, list[float]]] = {}
    for line in pytest(folder, *WITH, *options, "test_empty.py").splitlines():
        if "@" in line:
            when, seconds, name = line.partition("@")[2].split()
            times.setdefault(name, {}).setdefault(when, []).append(float(seconds))
    for name, whens in times.items():
        # The first of each carries what happens once a run or once a module.
        both = [a + b for a, b in zip(whens["setup"], whens["teardown"], strict=True)][1:]
        report(f"setup and teardown of {name}", seconds=median(both), worst=max(both))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        loading(Path(folder))
    starting()
    with tempfile.TemporaryDirectory() as folder:
        cleaning(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        per_test(Path(folder))


if __name__ == "__main__":
    main()
