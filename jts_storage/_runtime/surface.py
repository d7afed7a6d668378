"""Name options in messages as the caller writes them: on the command line or in Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextvars import ContextVar
from enum import Enum

_IS_COMMAND_LINE: ContextVar[bool] = ContextVar("is_command_line", default=False)


def use_command_line() -> None:
    """Name options as the command line has them, from now on in this task."""
    _IS_COMMAND_LINE.set(True)


def option(name: str, value: str | bool | Enum | None = None) -> str:
    """Return an option as the caller writes it: ``timezone='UTC'`` or ``--timezone UTC``."""
    if _IS_COMMAND_LINE.get():
        given = value.value if isinstance(value, Enum) else value
        flag = f"--{name.replace('_', '-')}"
        return f"{flag} {shlex.quote(given)}" if isinstance(given, str) else flag
    if isinstance(value, Enum):
        return f"{name}={type(value).__name__}.{value.name}"
    return f"{name}=" if value is None else f"{name}={value!r}"


def layout_option(name: str, value: str | int) -> str:
    """Return an option of the layout of a file, as the caller writes it."""
    return option(name, str(value)) if _IS_COMMAND_LINE.get() else f"Layout({name}={value!r})"


def numbered_columns() -> str:
    """Return the options for a file without a header, as the caller writes them."""
    if _IS_COMMAND_LINE.get():
        return "--no-header --column timestamp=1 --column open=2 ..."
    return "Layout(header=False, columns={'timestamp': '1', 'open': '2', ...})"


def columns_without_header(skip_lines: int, columns: Mapping[str, str]) -> str:
    """Return the options for rows whose columns are named by their numbers.

    :param skip_lines: how many lines stand above them.
    """
    if _IS_COMMAND_LINE.get():
        each = [f"--column {target}={number}" for target, number in columns.items()]
        return " ".join([f"--skip-lines {skip_lines} --no-header", *each])
    return f"Layout(skip_lines={skip_lines}, header=False, columns={dict(columns)!r})"


def column_option(target: str, header: str) -> str:
    """Return the option that names the column of a target, as the caller writes it.

    :param header: ``"HEADER"`` in general, ``""`` to ignore the column.
    """
    if _IS_COMMAND_LINE.get():
        return f"--column {shlex.quote(f'{target}={header}')}"
    return f"Layout(columns={{{target!r}: {header!r}}})"
