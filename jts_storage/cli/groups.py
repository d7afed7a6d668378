"""Options that belong together, declared as the fields of a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Show each field of a parameter that is a dataclass as an option of its own.

    Typer makes one option of each parameter in the signature. So it is given a signature that has
    the fields instead of their group, and the group is filled when the command is called.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {n: hint for n, hint in hints.items() if is_dataclass(hint)}

    @wraps(command)
    def called(**values: Any) -> None:
        for name, group in groups.items():
            chosen = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**chosen)
        command(**values)

    shown = list(_options(command, hints))
    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    called.__annotations__ = {option.name: option.annotation for option in shown}
    return called


def _options(declared: Any, hints: dict[str, Any]) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a command or of a group, those of its groups among them."""
    for parameter in inspect.signature(declared).parameters.values():
        hint: Any = hints[parameter.name]
        if is_dataclass(hint):
            yield from _options(hint, get_type_hints(hint, include_extras=True))
        else:
            yield parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY)
