"""Count stored rows that lists leave out because they are invalid; log each of them once."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import Final

log = logging.getLogger(__name__)

_REMEMBERED: Final = 10_000
"""So many are told one by one; whoever has more will have read it."""


@dataclass(slots=True)
class LeftOut:
    """What lists of one kind have left out in this process.

    :param of: what they are lists of.
    """

    of: str
    _told: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def count(self) -> int:
        return len(self._told)

    def tell(self, which: str, why: str) -> None:
        """Log one that is left out, the first time that it is met."""
        with self._lock:
            if which in self._told or len(self._told) >= _REMEMBERED:
                return
            self._told.add(which)
            count = len(self._told)
        log.warning(
            "%s is left out of lists of %s, as %d are by now: %s"
            " `jts-storage check` counts such rows.",
            *(which, self.of, count, why),
            extra={"table": self.of, "row": which},
        )
