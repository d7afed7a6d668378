"""What happens to the primary of Redis with sentinels, while its answers are read."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Final

from tests.ha.redis_set import SentinelSet, continued, paused
from tests.ha.standstill import Struck

KINDS: Final = ("kill", "stop", "restart")


class SentinelFaults:
    """Does one thing after another to the primary, and lets all be whole again.

    :param stopped: for how many seconds a primary is stopped, in addition to the failover.
    """

    def __init__(
        self,
        servers: SentinelSet,
        choice: Random,
        *,
        kinds: tuple[str, ...] = KINDS,
        stopped: float = 1.0,
        pause: float = 2.0,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.struck: list[Struck] = []
        self._servers = servers
        self._choice = choice
        self._kinds = kinds
        self._stopped = stopped
        self._pause = pause

    def strike(self) -> None:
        kind = self._kinds[len(self.struck) % len(self._kinds)]
        time.sleep(self._choice.uniform(0.5, 1.5) * self._pause)
        self.struck.append(Struck(kind, time.monotonic()))
        getattr(self, f"_{kind}")()
        self.done[kind] += 1
        self._servers.wait_until_whole()

    def _kill(self) -> None:
        """It comes back, empty, behind the one that has taken its place."""
        primary = self._servers.primary()
        primary.kill()
        self._servers.wait_for_failover(primary)
        self._servers.start(primary)

    def _stop(self) -> None:
        """It comes back with what it had, and believes for seconds that it is the primary still."""
        primary = self._servers.primary()
        paused(primary)
        try:
            self._servers.wait_for_failover(primary)
            time.sleep(self._choice.uniform(0, 2) * self._stopped)
        finally:
            continued(primary)

    def _restart(self) -> None:
        """It is back and empty, as a rule before the sentinels miss it."""
        primary = self._servers.primary()
        primary.kill()
        self._servers.start(primary)
