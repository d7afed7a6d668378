"""Commands that are imported when they are called, so that help and completion come at once."""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand


class Deferred(TyperCommand):
    """A command, or a group of them, that stands in a list until it is called.

    :param home: `module:name` below `jts_storage.cli`, of a function or of a `Typer`.
    :param help: the line of the list.
    """

    def __init__(self, name: str, home: str, help: str) -> None:
        super().__init__(name=name, help=help, callback=None)
        self._home = home

    @cached_property
    def real(self) -> Any:
        module, name = self._home.split(":")
        found: Any = getattr(import_module(f"jts_storage.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            found.rich_markup_mode = None  # as in every other help
            made: Any = typer.main.get_group(found)
        else:
            alone = typer.Typer(add_completion=False, rich_markup_mode=None)
            alone.command(self.name)(found)
            made = typer.main.get_command(alone)
        made.name = self.name
        return made

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        return self.real.make_context(*arguments, **options)
