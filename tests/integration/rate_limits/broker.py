"""A broker that counts arrivals, and the processes that ask it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests import forked

CLIENT: Final = Path(__file__).with_name("client.py")
SECOND: Final = 1_000_000_000


@dataclass
class Broker:
    """
    :param arrivals: the file in which requests note when they arrive.
    :param store: where slots are counted: the URL of a Redis, a file, or ``memory``.
    """

    arrivals: Path
    store: str
    limits: str = "broker=15/s"
    delay: float = 0.2
    longest: float = 30.0
    clients: int = 16
    processes: list[forked.Process] = field(default_factory=list)

    def start(self, seconds: float, count: int = 4) -> None:
        for _ in range(count):
            task: dict[str, Any] = {
                "arrivals": str(self.arrivals),
                "store": self.store,
                "limits": self.limits,
                "delay": self.delay,
                "longest": self.longest,
                "clients": self.clients,
                "seconds": seconds,
                "seed": len(self.processes),
            }
            self.processes.append(forked.Process([CLIENT, json.dumps(task)]))

    def wait(self) -> None:
        """Wait for all to end by themselves, but those that were killed."""
        for process in self.processes:
            assert process.wait(60) in (0, -9)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()

    def times(self) -> list[int]:
        text = self.arrivals.read_text() if self.arrivals.exists() else ""
        return sorted(int(line) for line in text.splitlines())

    def wait_for(self, count: int, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while len(self.times()) < count:
            assert time.monotonic() < end, f"only {len(self.times())} requests arrived"
            time.sleep(0.05)


def worst_window(times: Sequence[int], window: int = SECOND) -> int:
    """How many arrive within any window, at most."""
    worst = first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - window:
            first += 1
        worst = max(worst, last - first + 1)
    return worst
