"""What happens to the primary of Redis with sentinels, while its answers are read."""

from __future__ import annotations

import time
from random import Random
from typing import Final

from tests.ha.in_turn import InTurn
from tests.ha.redis_set import SentinelSet, continued, paused

KINDS: Final = ("kill", "stop", "restart")


class SentinelFaults(InTurn):
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
        super().__init__(choice, kinds, pause)
        self._servers = servers
        self._stopped = stopped

    def heal(self) -> None:
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
