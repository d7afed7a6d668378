"""Faults of a kind after another, each told with its time: what all servers' faults have alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from random import Random

from tests.ha.standstill import Struck


class InTurn(ABC):
    """Strikes with each kind in turn, by a method of its name: each costs seconds, and a round has
    few.

    :param pause: seconds between two faults, half as many to one and a half times as many.
    """

    def __init__(self, choice: Random, kinds: tuple[str, ...], pause: float) -> None:
        self.done: Counter[str] = Counter()
        self.struck: list[Struck] = []
        self._choice, self._kinds, self._pause = choice, kinds, pause

    def strike(self) -> None:
        kind = self._kinds[len(self.struck) % len(self._kinds)]
        time.sleep(self._choice.uniform(0.5, 1.5) * self._pause)
        self.struck.append(Struck(kind, time.monotonic()))
        getattr(self, f"_{kind}")()
        self.heal()
        self.done[kind] += 1

    @abstractmethod
    def heal(self) -> None:
        """Make all whole again."""
