"""Documents and records that lists leave out, since they cannot be read."""

from __future__ import annotations

import logging
from typing import Any, Final

from jts_storage.errors import InvalidData

_MOST: Final = 10_000

_log = logging.getLogger(__name__)


class Unreadable:
    """What reads of this process have met and could not read, each logged once."""

    def __init__(self) -> None:
        self._met: set[tuple[str, str]] = set()

    @property
    def count(self) -> int:
        """How many were met and not read since; beyond 10,000 they are not counted."""
        return len(self._met)

    def met(self, collection: str, identity: object, why: InvalidData) -> None:
        document = (collection, repr(identity))
        # Bounded, and the log with it: a whole collection may be unreadable.
        if document in self._met or len(self._met) >= _MOST:
            return
        self._met.add(document)
        _log.warning(
            "Left out of lists: %s cannot be read: %s",
            collection,
            why,
            extra={"collection": collection, "document": str(identity)},
        )

    def mended(self, collection: str, identity: Any) -> None:
        if self._met:
            self._met.discard((collection, repr(identity)))
