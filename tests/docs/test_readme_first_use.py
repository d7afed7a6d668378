"""The README's example as a reader runs it: pasted into `python -m asyncio`, and as a file."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PRINTED = "2024-01-02 00:00:00+00:00  78200.0000"

_spec = spec_from_file_location("run_page", Path(__file__).with_name("run_page.py"))
assert _spec is not None
assert _spec.loader is not None
run_page = module_from_spec(_spec)
_spec.loader.exec_module(run_page)


def example() -> str:
    (code,) = (block.code for block in run_page.blocks(README) if block.language == "python")
    assert isinstance(code, str)
    return code


def as_a_file(code: str) -> str:
    """All below the imports within `async def main()`, as the README says."""
    body = ast.parse(code).body
    first = next(s for s in body if not isinstance(s, ast.Import | ast.ImportFrom)).lineno
    lines = code.splitlines()
    indented = [f"    {line}" if line else "" for line in lines[first - 1 :]]
    top = ["import asyncio", *lines[: first - 1], "", "async def main():"]
    return "\n".join([*top, *indented, "", "asyncio.run(main())", ""])


def run(folder: Path, *arguments: str, typed: str | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JTS_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout


@pytest.mark.slow
def test_it_runs_pasted_into_the_asyncio_prompt(tmp_path: Path) -> None:
    assert PRINTED in run(tmp_path, "-m", "asyncio", typed=example())


def test_it_runs_as_a_file(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(as_a_file(example()))
    assert PRINTED in run(tmp_path, "first.py")


def test_the_line_above_it_installs_what_it_and_the_demo_need() -> None:
    """The extras of that line bring the engines, pandas and the calendar of the demo."""
    import tomllib

    found = re.search(r"^\$ pip install 'jts-storage\[(.+)\]'$", README, re.MULTILINE)
    assert found is not None
    assert found.start() < README.index("```python")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    brought = [text for extra in found[1].split(",") for text in extras[extra]]
    names = {re.split(r"[<>=\[; ]", text)[0] for text in brought}
    assert {"chdb", "pandas", "exchange_calendars", "typer", "rich"} <= names
