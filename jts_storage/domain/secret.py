"""Texts that must not appear in output or logs by accident."""

from __future__ import annotations

from typing import Any, Self

MASK = "***"


class Secret(str):
    """A text that works as one, and is masked wherever it is shown.

    Printed, formatted, logged or copied by `dataclasses.asdict` it is what `shown` says; pickled,
    compared or encoded it is itself. Give `get_secret_value()` to what may call `str` on it.
    """

    shown: str

    def __new__(cls, value: str, shown: str = MASK) -> Self:
        self = super().__new__(cls, plain(value))
        self.shown = shown
        return self

    def get_secret_value(self) -> str:
        """The text itself."""
        return str.__str__(self)

    def __str__(self) -> str:
        return self.shown

    def __repr__(self) -> str:
        return repr(self.shown)

    def __format__(self, spec: str) -> str:
        return format(self.shown, spec)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: Any) -> str:
        # What `asdict` puts in its dictionary, which may go to JSON or a log.
        return self.shown

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.get_secret_value(), self.shown)


def plain(value: str) -> str:
    """The text itself, be it a secret or not."""
    return value.get_secret_value() if isinstance(value, Secret) else value
