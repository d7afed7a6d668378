"""Services that only exist in a test, and a clock that stands until it is told."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from jts_storage.errors import ConnectionFailed
from jts_storage.services.stack import Service
from jts_storage.services.supervision import Seen, Supervision


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class FakeUnits:
    """Each service is as a test says; what is done to them is noted.

    :ivar ends: those that end at once whenever they are started.
    :ivar ill: those that live and are not well, and why.
    :ivar engine: restarts of the engine itself.
    """

    look_every = 0.0

    def __init__(self) -> None:
        self.done: list[str] = []
        self.alive: set[str] = set()
        self.ends: set[str] = set()
        self.ill: dict[str, str] = {}
        self.refuses: set[str] = set()
        self.restarting: dict[str, int] = {}
        self.killed_at_stop: set[str] = set()
        self.in_the_way: list[str] = []
        self._guard = threading.Lock()

    def problems(self, names: Sequence[str]) -> Sequence[str]:
        return self.in_the_way

    def start(self, name: str) -> None:
        with self._guard:
            self.done.append(f"start {name}")
        if name in self.refuses:
            raise ConnectionFailed(f"{name} refuses.")
        if name not in self.ends:
            self.alive.add(name)

    def look(self, names: Sequence[str]) -> Mapping[str, Seen]:
        found = {name: self._seen(name) for name in names}
        with self._guard:
            self.done += [f"well {name}" for name, seen in found.items() if seen.is_well]
        return found

    def stop(self, name: str) -> str:
        with self._guard:
            self.done.append(f"stop {name}")
        self.alive.discard(name)
        self.restarting.pop(name, None)
        return "it was killed" if name in self.killed_at_stop else ""

    def health_url(self, name: str) -> str | None:
        return f"fake://{name}"

    def _seen(self, name: str) -> Seen:
        if name in self.restarting:
            return Seen(
                False, why="ended with 1", restarts=self.restarting[name], is_restarting=True
            )
        if name not in self.alive:
            return Seen(False, why="it has ended")
        return Seen(True, why=self.ill.get(name, ""), uptime=3.5, pid=7, port=9)


def stack_of(needs: Mapping[str, Sequence[str]]) -> dict[str, Service]:
    return {
        name: Service(name=name, port=9000 + at, health="", needs=tuple(each))
        for at, (name, each) in enumerate(needs.items())
    }


class Scene:
    """A supervision over such services."""

    def __init__(self, needs: Mapping[str, Sequence[str]], **options: bool) -> None:
        self.units = FakeUnits()
        self.clock = Clock()
        self.manager = Supervision(
            self.units, list(needs), stack=stack_of(needs), clock=self.clock, **options
        )

    def told(self) -> dict[str, tuple[str, str]]:
        return {
            each.service_name: (each.status, each.detail) for each in self.manager.monitor_health()
        }

    def starts(self, name: str) -> int:
        return self.units.done.count(f"start {name}")

    def watch(self, seconds: float, step: float = 0.05) -> None:
        """Look again and again, as time goes by."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now += step
            self.manager.monitor_health()
