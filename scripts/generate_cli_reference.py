"""Writes docs/reference/cli.md from the command line itself.

`python scripts/generate_cli_reference.py` writes it; with ``--check`` it only compares.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from jts_storage.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"

HEAD = """# Command line

Written by `scripts/generate_cli_reference.py` from the commands themselves.

`jts-storage` works on the stores that `JTS_*` in the environment names, and on embedded ones below
`.jts` without any. Options that stand before the command: `--debug` shows the traceback of an
error, which is one sentence otherwise; `--install-completion` teaches your shell to complete.

| exit code | meaning |
|---|---|
| 0 | all is well |
| 1 | what was looked at is not well: a store is silent, a rule broken, stores differ |
| 2 | it could not be done: the message says why, and what to do |
| 130 | interrupted; what was committed stays, and the message says where it stopped |

Progress is shown on standard error after a second, and only on a terminal. With `--json` a command
prints one JSON value and nothing else.
"""


def commands(group: Any, path: str = "jts-storage") -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name."""
    for name, listed in sorted(group.commands.items()):
        full, command = f"{path} {name}", getattr(listed, "real", listed)
        if hasattr(command, "commands"):
            yield from commands(command, full)
        else:
            yield full, command


def reference() -> str:
    root = typer.main.get_command(app)
    return HEAD + "".join(_section(name, command) for name, command in commands(root))


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    usage = " ".join(_usage(argument) for argument in arguments)
    lines = [f"\n## {name.removeprefix('jts-storage ')}\n", f"`{name} {usage}`".replace(" `", "`")]
    lines += ["", " ".join((command.help or "").split()), ""]
    if arguments or options:
        lines += ["| | |", "|---|---|"]
        lines += [f"| `{_usage(item)}` | {_help(item)} |" for item in arguments]
        lines += [f"| `{_names(item)}` | {_help(item)} |" for item in options]
    return "\n".join(lines).rstrip() + "\n"


def _usage(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    return ", ".join([*option.opts, *option.secondary_opts])


def _help(item: Any) -> str:
    text = (getattr(item, "help", None) or "").replace("|", r"\|")
    if item.required and item.param_type_name == "option":
        return f"{text} Required."
    if item.default in (None, False, (), []) or item.default == "" or callable(item.default):
        return text
    return f"{text} Default: {getattr(item.default, 'value', item.default)}."


def main() -> None:
    text = reference()
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == text else f"{PAGE} is out of date")
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
