"""What can be looked at as a whole before its rows are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Protocol


class Looked(Protocol):
    """A source whose columns can be read any number of times."""

    def columns(self, targets: Collection[str]) -> Iterable[Any]:
        """Yield tables of those of its columns only, without the rows that cannot be read."""
        ...
