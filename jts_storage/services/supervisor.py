"""The process that starts a stack, watches it, and stops it when it is told to."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Final

from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.local_servers.keeper import bound
from jts_storage.services.docker import DockerManager
from jts_storage.services.local import LocalManager
from jts_storage.services.state import Plan, StateFolder, make_folder
from jts_storage.services.status import ServiceStatus
from jts_storage.services.supervision import Supervision

RESTART: Final = "restart"
STOP: Final = "stop"
_PAUSES: Final = {"local": 0.2, "docker": 2.0}
_WRITE_EVERY: Final = 3.0
"""So long a state that has not changed is not written again; others see that it is not stale."""

_DETACHED: Final = "jts_storage.services.supervisor"

log = logging.getLogger(__name__)


def manager_of(plan: Plan, folder: Path) -> LocalManager | DockerManager:
    """The manager of what a plan says."""
    if plan.engine == "docker":
        return DockerManager(
            plan.compose_file, only=plan.names, restart_unhealthy=plan.restart_unhealthy
        )
    return LocalManager(
        folder,
        only=plan.names,
        ports=plan.ports,
        restart_unhealthy=plan.restart_unhealthy,
        lasting=plan.lasting,
    )


def supervise(
    plan: Plan,
    folder: StateFolder,
    started: Callable[[list[ServiceStatus]], None],
) -> list[ServiceStatus]:
    """Start what a plan says, watch it until SIGTERM, Ctrl-C or a request, and stop it.

    :param started: called once all that can be started is.
    :returns: how the services are at the end.
    :raises StorageError: something stood in the way, and nothing was started.
    """
    with folder.supervised():
        folder.forget_state()
        manager = manager_of(plan, folder.path)
        with _told_to_stop(manager) as stopping:
            try:
                with folder.planned(plan):
                    statuses = manager.start_services()
                _write_and_tell(statuses, folder, started)
                asked = _watch(manager, folder, stopping, _PAUSES[plan.engine])
            except StorageError:
                if isinstance(manager, LocalManager):
                    manager.units.leave()
                raise
            stopped = manager.stop_services()
        _write_state(stopped, folder)
        for identity in asked:
            with _tolerated("Answering who asked"):
                folder.answer(identity, stopped)
    return stopped


def detach(plan: Plan, folder: StateFolder, timeout: float) -> list[ServiceStatus]:
    """Let another process supervise, which outlives this one; return how it started.

    :raises StorageError: something stood in the way, and nothing was started.
    """
    if folder.is_supervised():
        raise folder.in_use()
    make_folder(folder.path)
    told = {**asdict(plan), "supervisor": ""}
    with folder.log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _DETACHED, str(folder.path), json.dumps(told)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,  # Ctrl-C in this terminal is not meant for it
        )
    assert process.stdout is not None
    late = threading.Timer(timeout, process.terminate)
    late.start()
    try:
        with process.stdout:
            said = process.stdout.readline()
    except BaseException:  # Ctrl-C: it stops what it has started
        process.terminate()
        raise
    finally:
        late.cancel()
    answer: dict[str, Any] = json.loads(said) if said.strip() else {}
    if "services" in answer:
        process.returncode = 0  # it lives on, and nobody waits for it
        return [ServiceStatus(**each) for each in answer["services"]]
    process.wait(timeout)
    why = answer.get("error") or f"The supervisor ended before it said anything; see {folder.log}."
    raise ConnectionFailed(why)


def _write_and_tell(
    statuses: list[ServiceStatus],
    folder: StateFolder,
    tell: Callable[[list[ServiceStatus]], None],
) -> None:
    _write_state(statuses, folder)
    tell(statuses)


def _write_state(statuses: list[ServiceStatus], folder: StateFolder) -> None:
    with _tolerated("Noting how the services are"):
        try:
            folder.write_state(statuses)
        except OSError:
            folder.forget_state()  # rather none than an old one
            raise


@contextmanager
def _tolerated(doing: str) -> Iterator[None]:
    """A disk that is full, or an engine that is away, is no reason to leave services alone."""
    try:
        yield
    except (OSError, StorageError) as exc:
        log.error("%s failed: %s", doing, exc)


def _watch(
    manager: Supervision,
    folder: StateFolder,
    stopping: threading.Event,
    pause: float,
) -> list[str]:
    """Look again and again; return who asked to stop, if it was not a signal."""
    last: list[ServiceStatus] = []
    written = float("-inf")
    while not stopping.wait(pause):
        with _tolerated("Looking at the services"):
            statuses = manager.monitor_health()
            if statuses != last or time.monotonic() - written > _WRITE_EVERY:
                _write_state(statuses, folder)
                written = time.monotonic()
            last = statuses
        bound(folder.log)
        asked: list[str] = []
        with _tolerated("Doing what was asked"):
            asked.extend(_answered(manager, folder))
        if asked:
            return asked
    return []


def _answered(manager: Supervision, folder: StateFolder) -> Iterator[str]:
    """Do what others ask; give the identities of those who ask for the end."""
    for identity, what, names in folder.requests():
        if what == STOP:
            yield identity
        elif what == RESTART:
            try:
                folder.answer(identity, [manager.restart(name) for name in names])
            except StorageError as exc:
                folder.answer(identity, error=str(exc))
        else:
            folder.answer(identity, error=f"Nobody knows how to do {what!r}.")


@contextmanager
def _told_to_stop(manager: Supervision) -> Iterator[threading.Event]:
    """What is set once SIGTERM or Ctrl-C comes, or the terminal is closed."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()
        manager.interrupt()

    # Whoever closes the terminal ends it as well, unless nohup says otherwise.
    hears = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        hears.append(signal.SIGHUP)
    kept = {each: signal.signal(each, stop) for each in hears}
    try:
        yield stopping
    finally:
        for each, handler in kept.items():
            signal.signal(each, handler)


def main(folder: str, told: str) -> int:
    """Supervise in a process of its own, and say on standard output how it started."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    values = json.loads(told)
    del values["supervisor"]

    def say(answer: dict[str, Any]) -> None:
        with suppress(OSError):  # who started this may be gone
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)

    try:
        supervise(
            Plan(**values),
            StateFolder(Path(folder)),
            lambda statuses: say({"services": [asdict(each) for each in statuses]}),
        )
    except StorageError as exc:
        log.error("%s", exc)
        say({"error": str(exc)})
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
