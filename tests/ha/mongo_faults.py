"""What happens to the primary of a replica set while units of work are committed."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Final

from tests.ha.mongo_set import MongoSet
from tests.ha.standstill import Struck

KINDS: Final = ("kill", "stop", "alone")


class SetFaults:
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
        self.done: Counter[str] = Counter()
        self.struck: list[Struck] = []
        self._set = members
        self._choice = choice
        self._kinds = kinds
        self._stopped = stopped
        self._alone_for = alone
        self._pause = pause

    def strike(self) -> None:
        # In turn: each costs seconds, and a round has few.
        kind = self._kinds[len(self.struck) % len(self._kinds)]
        self._set.wait_until_whole()
        time.sleep(self._choice.uniform(0.5, 1.5) * self._pause)
        self.struck.append(Struck(kind, time.monotonic()))
        getattr(self, f"_{kind}")()
        self.done[kind] += 1
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
