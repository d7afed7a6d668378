"""What ``jts-storage migrate`` prints while it runs."""

from __future__ import annotations

import shutil
import sys
import threading
from typing import Final, Self

import typer

from jts_storage import migrate

_START_OF_EMPTY_LINE: Final = "\r\x1b[2K"


class Lines:
    """Prints steps on standard output, and the progress of each on standard error if a terminal.

    Stores report from threads of their own.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._busy = threading.Lock()
        self._has_shown = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._busy:
            self._clear()

    def __call__(self, event: migrate.Event) -> None:
        if self._quiet:
            return
        with self._busy:
            if isinstance(event, migrate.Progress):
                self._show(migrate.describe(event))
            else:
                self._clear()
                typer.echo(migrate.describe(event))

    def _show(self, text: str) -> None:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            typer.echo(f"{_START_OF_EMPTY_LINE}{text[:width]}", nl=False, err=True)
            self._has_shown = True

    def _clear(self) -> None:
        if self._has_shown:
            typer.echo(_START_OF_EMPTY_LINE, nl=False, err=True)
            self._has_shown = False
