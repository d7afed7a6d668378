"""What happens to the primary of a replica set while units of work are committed."""

from __future__ import annotations

import time
from random import Random
from typing import Final

from tests.ha.in_turn import InTurn
from tests.ha.mongo_set import MongoSet

KINDS: Final = ("kill", "stop", "alone")


class SetFaults(InTurn):
    """Does one thing after another to the primary of a set, and lets it become whole again.

    :param stopped: for how many seconds a primary is stopped; longer than an election takes.
    :param alone: for how long a primary takes writes that nobody copies, before it is killed.
    """

    def __init__(
        self,
        members: MongoSet,
        choice: Random,
        *,
        kinds: tuple[str, ...] = KINDS,
        stopped: float = 15.0,
        alone: float = 1.0,
        pause: float = 2.0,
    ) -> None:
        super().__init__(choice, kinds, pause)
        self._set = members
        self._stopped = stopped
        self._alone_for = alone

    def strike(self) -> None:
        self._set.wait_until_whole()
        super().strike()

    def heal(self) -> None:
        self._set.wait_until_whole()

    def _kill(self) -> None:
        """It comes back while the others elect, or after that."""
        primary = self._set.primary()
        primary.kill()
        time.sleep(self._choice.choice((0.0, self._choice.uniform(0, 5))))
        primary.start()

    def _stop(self) -> None:
        """It comes back believing that it is primary still, with what it had not answered."""
        primary = self._set.primary()
        primary.stop()
        try:
            time.sleep(self._stopped)
        finally:
            primary.go_on()

    def _alone(self) -> None:
        """What it takes meanwhile has no copy: whoever is told of it is told wrongly.

        The others are killed, as one that is stopped still has what was sent to it.
        """
        primary = self._set.primary()
        others = self._set.others(primary)
        for other in others:
            other.kill()
        time.sleep(self._alone_for)
        primary.kill()
        for other in others:
            other.start()
        self._set.primary()  # elected before the old one is back, which has more entries
        primary.start()
