"""Documentation tells the truth: its Python runs, and the commands it names exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests import forked

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("run_page.py")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# exchange_calendars uses what pandas deprecates.
WARNINGS = (*forked.STRICT, ("ignore", "Series.values returning an ndarray"))
SHELL_WORDS = {"cd", "export", "git", "pip", "python", "python3", "docker", "kubectl", "cp"}

_spec = spec_from_file_location("run_page", RUNNER)
assert _spec is not None
assert _spec.loader is not None
run_page = module_from_spec(_spec)
_spec.loader.exec_module(run_page)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def has(page: Path, language: str) -> bool:
    return any(block.language == language for block in run_page.blocks(page.read_text()))


def by_day(page: Path) -> object:
    """By day the example of the README runs as a file of its own, see `test_readme_first_use`."""
    marks = [pytest.mark.slow] if page.name == "README.md" else []
    return pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", [by_day(p) for p in PAGES if has(p, "python")])
def test_python_of_the_page_runs(page: Path, tmp_path: Path) -> None:
    # A process of its own: the embedded ClickHouse serves one data folder a process.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JTS_")}
    done = forked.run([RUNNER, page], cwd=tmp_path, env=environment, warnings=WARNINGS, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", [p for p in PAGES if has(p, "console")], ids=name_of)
def test_commands_of_the_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for block in run_page.blocks(page.read_text()):
        if block.language != "console":
            continue
        for line in re.findall(r"^\$ (.+)$", block.code, re.MULTILINE):
            command, *arguments = shlex.split(line, comments=True)
            if command == "make":
                unknown = {a for a in arguments if "=" not in a and not a.startswith("-")} - targets
                assert not unknown, f"{name_of(page)}: no target {unknown} in the Makefile"
            elif command not in SHELL_WORDS:
                found = shutil.which(command, path=str(Path(sys.executable).parent))
                assert found, f"{name_of(page)}: there is no command {command!r}"


def test_the_first_screen_of_the_readme_says_what_matters() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:60]
    text = "\n".join(first_screen)
    for needed in ("make demo", "make test", "does not", "async with Storage"):
        assert needed in text, f"the first {len(first_screen)} lines of README.md lack {needed!r}"


def test_a_block_with_a_title_is_a_file(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '```python title="own/thing.py"\nraise SystemExit("imported")\n```\n\n'
        "```python\nfrom pathlib import Path\n\n"
        'assert Path("own/thing.py").read_text().startswith("raise")\n```\n'
    )
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(page)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def test_a_wrong_block_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```python\nvalue = 1\n```\n\n```python\nassert value == 2\n```\n")
    done = subprocess.run(
        [sys.executable, str(RUNNER), str(page)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert f'"{page}", line 8' in done.stderr


def test_the_navigation_and_the_index_list_every_decision() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    index = (ROOT / "docs/decisions/index.md").read_text()
    pages = sorted(page.name for page in (ROOT / "docs/decisions").glob("0*.md"))
    assert pages
    assert [name for name in pages if f"decisions/{name}" not in navigation] == []
    assert [name for name in pages if f"({name})" not in index] == []
