"""In which order services start and stop, and what is done about one that fails.

It is the same for processes and for containers, which differ in `Units` only.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Protocol

from jts_storage.errors import NotFound, StorageError
from jts_storage.services.restarts import MOST, Restarts
from jts_storage.services.stack import STACK, Service, in_order, starting, stopping
from jts_storage.services.status import ServiceStatus, State

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look at a service found.

    :param why: why it is not well; empty if it is.
    :param is_done: whether it was to do something and has ended well.
    :param restarts: how often the engine that runs it has started it again by itself.
    :param is_restarting: whether that engine is about to do so.
    """

    is_alive: bool
    why: str = ""
    uptime: float = 0.0
    pid: int | None = None
    port: int | None = None
    restarts: int = 0
    is_restarting: bool = False
    is_done: bool = False

    @property
    def is_well(self) -> bool:
        return self.is_done or (self.is_alive and not self.why)


class Units(Protocol):
    """What runs services one by one; each may be called for several at once.

    :ivar look_every: seconds between two looks at one that is being started.
    """

    look_every: float

    def problems(self, names: Sequence[str]) -> Sequence[str]:
        """All that stands in the way of starting these."""
        ...

    def start(self, name: str) -> None:
        """Start it, and do not wait until it is well; one that lives is taken as it is.

        :raises StorageError: it could not be started at all.
        """
        ...

    def look(self, names: Sequence[str]) -> Mapping[str, Seen]: ...

    def stop(self, name: str) -> str:
        """Stop it; return what is to be told of that, such as that it was killed."""
        ...

    def health_url(self, name: str) -> str | None: ...


@dataclass(slots=True)
class _Watched:
    """What is known of one service between two looks."""

    restarts: Restarts
    is_wanted: bool = False
    was_well: bool = False
    started: float = 0.0
    due: float | None = None
    gave_up: str = ""
    note: str = ""
    engine_restarts: int = 0
    seen: Seen = field(default_factory=lambda: Seen(False))


class Supervision:
    """A `ServiceManager` over `Units`. Not for use by two threads at once, but for `interrupt`.

    :param names: the services of it.
    :param restart_unhealthy: start those again, too, that live and do not answer.
    :param clock: seconds that only grow.
    """

    def __init__(
        self,
        units: Units,
        names: Collection[str],
        *,
        stack: Mapping[str, Service] = STACK,
        restart_unhealthy: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._units = units
        self._stack = stack
        self.names = in_order(names, stack)
        self._restarts_unhealthy = restart_unhealthy
        self._clock = clock
        self._watched = {name: _Watched(Restarts(clock)) for name in self.names}
        self._interrupted = threading.Event()

    # ---- the port

    def start_services(self) -> list[ServiceStatus]:
        """As `ServiceManager.start_services`."""
        if problems := self._units.problems(self.names):
            listed = "".join(f"\n- {each}" for each in problems)
            raise StorageError(f"Nothing was started, since this stands in the way:{listed}")
        for watched in self._watched.values():
            watched.is_wanted = True
        self._each(starting(self.names, self._stack), self._start_and_wait)
        return self.status()

    def monitor_health(self) -> list[ServiceStatus]:
        """As `ServiceManager.monitor_health`."""
        self._look()
        for name in self.names:
            if self._watched[name].is_wanted:
                self._attend(name)
        return [self._told(name) for name in self.names]

    def status(self) -> list[ServiceStatus]:
        """As `ServiceManager.status`."""
        self._look()
        return [self._told(name) for name in self.names]

    def restart(self, name: str) -> ServiceStatus:
        """As `ServiceManager.restart`."""
        watched = self._known(name)
        self._stop(name)
        watched.restarts.forget()
        watched.engine_restarts = watched.seen.restarts
        watched.gave_up, watched.is_wanted = "", True
        self._start_and_wait(name)
        self._look()
        return self._told(name)

    def stop_services(self) -> list[ServiceStatus]:
        """As `ServiceManager.stop_services`."""
        for watched in self._watched.values():
            watched.is_wanted = False
        self._each(stopping(self.names, self._stack), self._stop)
        return self.status()

    def interrupt(self) -> None:
        """Let a start that waits end soon; any thread may say so."""
        self._interrupted.set()

    # ---- starting and stopping

    def _each(self, graph: TopologicalSorter[str], work: Callable[[str], None]) -> None:
        """Do the work for each service, for those side by side that do not wait for others."""
        graph.prepare()
        running: dict[Future[None], str] = {}
        with self._threads() as pool:
            while graph.is_active():
                for name in graph.get_ready():
                    running[pool.submit(work, name)] = name
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for each in done:
                    name = running.pop(each)
                    each.result()
                    graph.done(name)

    @contextmanager
    def _threads(self) -> Iterator[ThreadPoolExecutor]:
        """Those of the block end with it, and soon at Ctrl-C, whatever they wait for."""
        with ThreadPoolExecutor(max(1, len(self.names)), "services") as pool:
            try:
                yield pool
            except BaseException:
                self._interrupted.set()
                pool.shutdown()
                self._interrupted.clear()  # of a later start nobody has said so
                raise

    def _start_and_wait(self, name: str) -> None:
        watched = self._watched[name]
        if self._interrupted.is_set():
            watched.is_wanted = False
            return
        if hindering := self._hindering(name):
            watched.note = f"it was not started: it needs {hindering}"
            return
        deadline = self._clock() + self._stack[name].start_seconds
        self._start(name)
        while not self._interrupted.is_set():
            watched.seen = self._units.look([name])[name]
            self._attend(name)
            if watched.seen.is_well or watched.gave_up or self._clock() > deadline:
                return
            self._interrupted.wait(self._units.look_every)

    def _start(self, name: str) -> None:
        watched = self._watched[name]
        watched.started, watched.due, watched.note = self._clock(), None, ""
        try:
            self._units.start(name)
        except StorageError as exc:  # told, and counted as one that ended at once
            watched.note = str(exc)
            log.error("%s could not be started: %s", name, exc)

    def _stop(self, name: str) -> None:
        watched = self._watched[name]
        watched.due, watched.was_well = None, False
        watched.note = self._put_down(name)

    def _put_down(self, name: str) -> str:
        """Stop it, and return what is to be told of that."""
        try:
            told = self._units.stop(name)
        except StorageError as exc:  # the others go on all the same
            told = f"it could not be stopped: {exc}"
        if told:
            log.warning("%s: %s", name, told)
        return told

    # ---- watching

    def _look(self) -> None:
        for name, seen in self._units.look(self.names).items():
            self._watched[name].seen = seen

    def _attend(self, name: str) -> None:
        """Do what is due for one that is to run."""
        watched = self._watched[name]
        seen = watched.seen
        if seen.is_well:
            if watched.due is not None or not watched.was_well:
                log.info("%s is well.", name)
            if watched.restarts.was_well():
                watched.engine_restarts = seen.restarts
            watched.was_well, watched.due, watched.gave_up, watched.note = True, None, "", ""
            return
        watched.restarts.was_ill()
        if seen.is_restarting or seen.restarts - watched.engine_restarts >= MOST:
            self._bound_engine(name)
        elif not seen.is_alive:
            self._bring_back(name)
        elif self._may_restart_unhealthy(name):
            log.warning("%s is stopped, since %s.", name, seen.why)
            self._put_down(name)
            self._bring_back(name)

    def _may_restart_unhealthy(self, name: str) -> bool:
        watched = self._watched[name]
        is_asked = self._restarts_unhealthy and not watched.gave_up
        return is_asked and not self._is_starting(watched, name) and not self._hindering(name)

    def _bring_back(self, name: str) -> None:
        watched = self._watched[name]
        if watched.gave_up:
            return
        if hindering := self._hindering(name):
            # A start now would fail, and use up what it has.
            watched.due, watched.note = None, f"it waits for {hindering}"
            return
        if watched.due is None:
            pause = watched.restarts.failed()
            why = watched.note or watched.seen.why or "it has ended"
            if pause is None:
                watched.gave_up = f"given up after {MOST} restarts: {why}"
                log.error("%s is %s", name, watched.gave_up)
                return
            log.warning("%s is started again in %g s: %s", name, pause, why)
            watched.due = self._clock() + pause
        if self._clock() >= watched.due:
            self._start(name)

    def _bound_engine(self, name: str) -> None:
        """Stop one that the engine starts again and again."""
        watched = self._watched[name]
        again = watched.seen.restarts - watched.engine_restarts
        if again >= MOST and not watched.gave_up:
            watched.gave_up = f"given up after {again} restarts by the engine: {watched.seen.why}"
            log.error("%s is %s", name, watched.gave_up)
            self._put_down(name)

    def _hindering(self, name: str) -> str:
        """What it needs and is not well."""
        needs = [need for need in self._stack[name].needs if need in self._watched]
        return ", ".join(need for need in needs if not self._watched[need].seen.is_well)

    def _is_starting(self, watched: _Watched, name: str) -> bool:
        return self._clock() - watched.started < self._stack[name].start_seconds

    def _known(self, name: str) -> _Watched:
        if name not in self._watched:
            raise NotFound(
                f"No service {name!r} is part of this stack.",
                remedy=f"It has {', '.join(self.names)}.",
            )
        return self._watched[name]

    # ---- telling

    def _told(self, name: str) -> ServiceStatus:
        watched = self._watched[name]
        seen = watched.seen
        status, detail = self._judged(name)
        return ServiceStatus(
            service_name=name,
            status=status,
            uptime_seconds=int(max(seen.uptime, 0)) if seen.is_alive else 0,
            health_check_url=self._units.health_url(name),
            detail=detail,
            restarts=watched.restarts.count + max(seen.restarts - watched.engine_restarts, 0),
            pid=seen.pid,
            port=seen.port,
            is_done=seen.is_done,
        )

    def _judged(self, name: str) -> tuple[State, str]:
        watched = self._watched[name]
        seen = watched.seen
        if seen.is_done:
            return "stopped", watched.note or "it has done its work"
        if seen.is_well:
            return "running", watched.note
        if watched.gave_up:
            return "error", watched.gave_up
        if not seen.is_alive and not watched.is_wanted and not seen.is_restarting:
            return "stopped", watched.note
        if not watched.was_well and watched.restarts.count == 0 and self._is_early(name):
            return "stopped", watched.note or "it is starting"
        told = watched.note or seen.why or "it has ended"
        if watched.due is not None:
            told += f"; it is started again ({watched.restarts.count} of {MOST})"
        hindering = self._hindering(name)
        if hindering and hindering not in watched.note:
            told += f"; it needs {hindering}, which is not well"
        return "error", told

    def _is_early(self, name: str) -> bool:
        """Whether it is being started for the first time, and may take longer."""
        watched = self._watched[name]
        return watched.is_wanted and (not watched.started or self._is_starting(watched, name))
