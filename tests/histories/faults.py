"""What goes wrong on purpose, from a seed: clocks, pauses, kills, partitions, cancellation."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Protocol

from tests.histories.workers import Worker

APART = (0.0, 0.0, 2.0, -2.0, 10.0, -10.0, 3600.0, -3600.0, 9 * 3600.0, -9 * 3600.0)
KINDS = ("clock", "pause", "kill", "partition", "cancel", "die", "stall")
POINTS = (
    "before the journal",
    "chunks written",
    "database ready",
    "entry written",
    "decided",
    "series stored",
    "database committed",
    "journal done",
)

_SECONDS_TO_A_POINT = 2.0
_STALLS = (3, 3, 3, 9)
"""How many times as long as a pause: most may outlive a lease, some the place of a commit, too."""


class Strikes(Protocol):
    """Whoever does one thing after another that goes wrong, and counts what."""

    done: Counter[str]

    def strike(self) -> None: ...


class Nemesis:
    """Does one fault at a time to one worker, and ends it."""

    def __init__(
        self,
        workers: Sequence[Worker],
        choice: Random,
        *,
        kinds: Sequence[str] = KINDS,
        longest_pause: float = 1.5,
    ) -> None:
        self.done: Counter[str] = Counter()
        self._workers = workers
        self._choice = choice
        self._kinds = list(kinds)
        self._longest = longest_pause

    def strike(self) -> None:
        for each in self._workers:
            if each.has_ended():
                self._start(each)
            each.signal(signal.SIGCONT)
        kind, worker = self._choice.choice(self._kinds), self._choice.choice(self._workers)
        if worker.is_at_work:
            getattr(self, f"_{kind}")(worker)
            self.done[kind] += 1

    def _clock(self, worker: Worker) -> None:
        worker.set_clock(self._choice.choice(APART))

    def _pause(self, worker: Worker) -> None:
        worker.signal(signal.SIGSTOP)
        time.sleep(self._choice.uniform(0.01, self._longest))
        worker.signal(signal.SIGCONT)

    def _kill(self, worker: Worker) -> None:
        worker.kill()
        self._start(worker)

    def _start(self, worker: Worker) -> None:
        worker.start(self._choice.choice(APART) if "clock" in self._kinds else None)

    def _die(self, worker: Worker) -> None:
        """Have it kill itself at a point of its next commit over several stores."""
        worker.order(f"die {self._choice.choice(POINTS)}")
        if worker.has_ended(within=_SECONDS_TO_A_POINT):
            self._start(worker)
        worker.order("die nowhere")

    def _stall(self, worker: Worker) -> None:
        """Stop it at a point of a commit, at times for longer than any lease lasts."""
        worker.order(f"stall {self._choice.choice(POINTS)}")
        time.sleep(self._choice.uniform(0.2, self._choice.choice(_STALLS) * self._longest))
        worker.signal(signal.SIGCONT)
        worker.order("stall nowhere")

    def _partition(self, worker: Worker) -> None:
        """Cut one worker from one server, in one of the ways in which networks fail."""
        faults = self._choice.choice(list(worker.network.proxies.values())).faults
        how = self._choice.choice(("refuse", "hang", "cut", "delay"))
        if how == "cut":
            faults.cut(self._choice.randrange(400))
        elif how == "delay":
            faults.delay(self._choice.uniform(0.01, 0.1))
        elif how == "hang":
            faults.hang()
        else:
            faults.refuse()
        time.sleep(self._choice.uniform(0.05, self._longest))
        faults.clear()

    def _cancel(self, worker: Worker) -> None:
        worker.order("cancel")
