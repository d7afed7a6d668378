"""Events that a migration run reports while it works."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from jts_storage.migrate.plan import Step

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepStarted:
    step: Step


@dataclass(frozen=True, slots=True)
class StepFinished:
    step: Step
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long step has come.

    :param done: rows, those among them that an earlier run had copied included.
    :param seconds: since this run began with them.
    """

    what: str
    done: int
    total: int
    copied: int
    seconds: float

    @property
    def rate(self) -> float:
        """Rows a second of this run."""
        return self.copied / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        return (self.total - self.done) / self.rate if self.rate else None


Event: TypeAlias = StepStarted | StepFinished | Progress
Report: TypeAlias = Callable[[Event], None]


def describe(event: Event) -> str:
    """One line for people."""
    if isinstance(event, StepStarted):
        return f"{event.step} ..."
    if isinstance(event, StepFinished):
        return f"{event.step} done in {event.seconds:.2f} s"
    left = "" if event.seconds_left is None else f", {_duration(event.seconds_left)} left"
    return f"{event.what}: {event.done:,} of {event.total:,} rows, {event.rate:,.0f}/s{left}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, whole = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {whole} s"
    return f"{minutes // 60} h {minutes % 60} min"


def to_log(event: Event) -> None:
    """The report of those who give none."""
    _log.info("%s", describe(event))
