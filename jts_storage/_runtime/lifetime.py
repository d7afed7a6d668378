"""Whether a unit of work still takes changes."""

from __future__ import annotations

from jts_storage.errors import StorageError


class Lifetime:
    """Whether a unit of work is open. Its repositories ask: a caller may keep them beyond it."""

    def __init__(self) -> None:
        self._is_open = True
        self._state = ""

    def end(self, state: str) -> None:
        """:param state: what follows "This unit of work" in a message, such as ``"is over"``."""
        self._is_open = False
        self._state = state

    def check(self) -> None:
        """:raises StorageError: it is over, or was never begun."""
        if not self._is_open:
            raise StorageError(
                f"This unit of work {self._state}.", remedy="Ask the storage for a new one."
            )
