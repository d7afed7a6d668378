"""Streams that go on behind the last value when a gateway was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Final

from jts_storage.domain.series import CandleSeries

_STEP: Final = timedelta(milliseconds=1)
_MOST: Final = 20
"""So often in a row a stream goes on without a new value."""


class Resuming:
    """One stream of values, and what to ask for when it breaks."""

    def __init__(self, method: str, arguments: Mapping[str, Any]) -> None:
        self.arguments = dict(arguments)
        self._service, _, self._method = method.partition("/")
        self._failures = 0
        self._items = 0
        self._skip = 0
        self._is_known = True

    def new(self, value: Any) -> Iterable[Any]:
        """What of a value its reader has not had."""
        self._failures = 0
        if isinstance(value, CandleSeries):
            assert value.end is not None
            self.arguments["start"] = value.end + _STEP
            return [value]
        if isinstance(value, list):
            fresh = value[self._skip :]
            self._skip = max(0, self._skip - len(value))
            self._items += len(fresh)
            return fresh
        self._is_known = False  # panels and rows of tables: the next would be other blocks
        return [value]

    def goes_on(self) -> bool:
        """Whether the rest can be asked for; what comes then is behind what was read."""
        self._failures += 1
        self._skip = self._items
        return self._is_known and self._failures <= _MOST
