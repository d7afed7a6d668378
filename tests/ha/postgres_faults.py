"""What happens to the primary of a pair while units of work are committed."""

from __future__ import annotations

import time
from random import Random
from typing import Final

from tests.ha.in_turn import InTurn
from tests.ha.postgres_pair import Pair

KINDS: Final = ("kill", "hang", "alone")


class PairFaults(InTurn):
    """Does one thing after another to the primary of a pair, promotes the other, and rebuilds.

    :param hangs: for how many seconds a primary answers nothing, before it is given up.
    :param alone: for how long a primary works without its standby, before it is killed.
    """

    def __init__(
        self,
        pair: Pair,
        choice: Random,
        *,
        kinds: tuple[str, ...] = KINDS,
        hangs: float = 5.0,
        alone: float = 1.0,
        pause: float = 2.0,
    ) -> None:
        super().__init__(choice, kinds, pause)
        self._pair = pair
        self._hangs = hangs
        self._alone_for = alone

    def heal(self) -> None:
        self._pair.promote()
        self._pair.rejoin()

    def _kill(self) -> None:
        self._pair.primary.kill()

    def _hang(self) -> None:
        """It is killed before the other is promoted: two that take writes are no pair any more."""
        self._pair.primary.pause()
        time.sleep(self._hangs)
        self._pair.primary.kill()

    def _alone(self) -> None:
        """What it acknowledges without its standby is gone with it."""
        self._pair.standby.kill()
        time.sleep(self._alone_for)
        self._pair.primary.kill()
        self._pair.standby.restart()
