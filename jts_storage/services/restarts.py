"""How often a service that failed is started again, and after which pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FIRST_PAUSE: Final = 0.2
MOST: Final = 3
FORGIVEN_AFTER: Final = 60.0


class Restarts:
    """Counts the failures of one service: 0.2, 0.4 and 0.8 s of pause, and then no more.

    :param clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._well_since: float | None = None
        self.count = 0

    def failed(self) -> float | None:
        """Count a failure; return the seconds before the next start, None if it is given up."""
        self._well_since = None
        if self.count == MOST:
            return None
        self.count += 1
        return float(FIRST_PAUSE * 2 ** (self.count - 1))

    def was_well(self) -> bool:
        """Note that it is well; a minute of that without a break makes earlier failures good.

        :returns: whether it has been well for so long.
        """
        now = self._clock()
        if self._well_since is None:
            self._well_since = now
        if now - self._well_since < FORGIVEN_AFTER:
            return False
        self.count = 0
        return True

    def was_ill(self) -> None:
        """Note that it is not well: a minute of health begins anew."""
        self._well_since = None

    def forget(self) -> None:
        self.count = 0
        self._well_since = None
