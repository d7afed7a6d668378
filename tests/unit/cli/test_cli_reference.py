"""No command and no option without its line in the documentation."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer
from typer.testing import CliRunner

from jts_storage._version import __version__
from jts_storage.cli.main import app

ROOT = Path(__file__).parents[3]
PAGES = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))


def test_the_reference_is_what_the_commands_say() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate_cli_reference.py"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"{done.stderr} Run python scripts/generate_cli_reference.py"


def test_every_command_and_option_says_what_it_does() -> None:
    silent = []
    for name, command in _commands(typer.main.get_command(app)):
        if not command.help:
            silent.append(name)
        silent += [
            f"{name} {item.name}"
            for item in command.params
            if item.name != "help" and not getattr(item, "help", None)
        ]
    assert silent == []


def test_help_waits_for_no_engine() -> None:
    """Shells ask at every press of the tab key."""
    heavy = ("alembic", "pandas", "pyarrow", "sqlalchemy", "pymongo", "beanie", "chdb")
    light = ("numpy", "pydantic", "rich")
    code = f"""
import sys
from jts_storage.cli.main import app
try:
    app(["--help"], standalone_mode=False)
finally:
    print([name for name in {heavy + light!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "backtests" in done.stdout
    assert done.stdout.endswith("\n[]\n")


def test_the_list_of_commands_is_true() -> None:
    for name, listed in _root().commands.items():
        told = " ".join((listed.real.help or "").split())
        assert told.startswith((listed.help or "").removesuffix(".")), name


def test_the_version_is_told() -> None:
    told = CliRunner().invoke(app, ["--version"])
    assert (told.exit_code, told.output) == (0, f"jts-storage {__version__}\n")


def test_every_command_that_prints_can_print_json() -> None:
    without = {
        name.removeprefix("jts-storage ")
        for name, command in _commands(typer.main.get_command(app))
        if "as_json" not in {item.name for item in command.params}
    }
    assert without == set()


def test_the_shell_completes_commands() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from jts_storage.cli.main import app; app(prog_name='jts-storage')",
        ],
        env={
            **os.environ,
            "_JTS_STORAGE_COMPLETE": "complete_bash",
            "COMP_WORDS": "jts-storage co",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["coverage"]


def test_every_command_is_in_a_page_that_people_read() -> None:
    written = "".join(
        page.read_text() for page in (ROOT / "docs").rglob("*.md") if page.name != "cli.md"
    )
    groups = {name.split()[1] for name, _ in _commands(typer.main.get_command(app))}
    assert {name for name in groups if f"jts-storage {name}" not in written} == set()


def _root() -> Any:
    return typer.main.get_command(app)


def _commands(
    group: object, path: str = "jts-storage"
) -> list[tuple[str, typer.core.TyperCommand]]:
    found: list[tuple[str, typer.core.TyperCommand]] = []
    for name, listed in group.commands.items():  # type: ignore[attr-defined]
        full, command = f"{path} {name}", getattr(listed, "real", listed)
        found += _commands(command, full) if hasattr(command, "commands") else [(full, command)]
    return found
