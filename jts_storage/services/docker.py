"""Services as containers of a compose file."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.services.compose import (
    OLDEST,
    Compose,
    is_file_there,
    main_port,
    published,
    services_of,
)
from jts_storage.services.doctor import Resources
from jts_storage.services.stack import STACK, Service, check_names, with_needs
from jts_storage.services.supervision import Seen, Supervision

_LABEL: Final = "com.docker.compose.service"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_KILLED: Final = 137
_SAME_LOOK_SECONDS: Final = 0.4
"""So long what the engine said serves others who ask at about the same time."""


class DockerUnits:
    """The containers of a compose file."""

    look_every = 0.5

    def __init__(self, compose: Compose, resources: Resources | None = None) -> None:
        self.compose = compose
        self._resources = resources or Resources()
        self._failure: StorageError | None = None
        self._described: dict[str, Any] = {}
        self._guard = threading.Lock()
        self._seen: dict[str, Seen] = {}
        self._seen_at = float("-inf")
        self.services: Mapping[str, Service] = STACK
        try:
            if is_file_there(compose.file):
                self._described = compose.description()
                self.services = services_of(self._described)
        except StorageError as exc:  # told when something is to be started
            self._failure = exc

    @property
    def ports(self) -> dict[str, int]:
        """Where each service is reached from this machine."""
        return {
            name: found
            for name, told in self._described.items()
            if (found := main_port(name, told)) is not None
        }

    def chosen(self, only: Collection[str], profiles: Collection[str]) -> set[str]:
        """The names of the services that are meant.

        :raises StorageError: the file has no such service or profile, or cannot be read.
        """
        try:
            return _chosen(self.services, only, profiles)
        except InvalidConfiguration:
            # What the file has is not known then, and not what is wrong.
            if self._failure is not None:
                raise self._failure from None
            if not is_file_there(self.compose.file):
                raise InvalidConfiguration(
                    f"{self.compose.file} cannot be read", remedy="Name it with --compose-file."
                ) from None
            raise

    def problems(self, names: Sequence[str]) -> Sequence[str]:
        if not is_file_there(self.compose.file):
            return [f"{self.compose.file} cannot be read. Name it with --compose-file."]
        try:
            version = self.compose.version()
            if version < OLDEST:
                return [
                    f"docker compose is {'.'.join(map(str, version))}, and"
                    f" {'.'.join(map(str, OLDEST))} is needed. Install a later one."
                ]
            self.compose.check_engine()
            if self._failure is not None:
                return [_plain(self._failure)]
            running = {name for name, seen in self.look(names).items() if seen.is_alive}
        except StorageError as exc:
            return [_plain(exc)]
        found = [
            f"{self.compose.file} has no service {n}." for n in names if n not in self.services
        ]
        for name in names:
            found += self._of_ports(name, is_running=name in running)
        return found

    def start(self, name: str) -> None:
        try:
            self.compose.up(name)
        finally:
            self._forget()  # another may have looked meanwhile, when it was not there yet

    def look(self, names: Sequence[str]) -> dict[str, Seen]:
        with self._guard:
            if time.monotonic() - self._seen_at > _SAME_LOOK_SECONDS:
                self._seen = _all_seen(self.compose, self.services)
                self._seen_at = time.monotonic()
            return {name: self._seen.get(name, Seen(False)) for name in names}

    def stop(self, name: str) -> str:
        self._forget()
        if not self.look([name])[name].is_alive:
            with suppress(StorageError):  # one that is restarted at this moment
                self.compose.stop(name, self.services[name].grace)
            self._forget()
            return ""
        grace = self.services[name].grace
        self.compose.stop(name, grace)
        self._forget()
        if f"code {_KILLED}" in self.look([name])[name].why:
            return f"it did not stop within {grace:g} s, and was killed"
        return ""

    def health_url(self, name: str) -> str | None:
        port = self.ports.get(name)
        service = self.services.get(name)
        if port is None or service is None or not service.health:
            return None
        return service.health_url(port)

    def _of_ports(self, name: str, *, is_running: bool) -> list[str]:
        found = []
        for host, port in published(self._described.get(name, {})):
            if host not in _LOOPBACK:
                found.append(
                    f"{name} would listen on port {port} of other networks, too. Publish it at"
                    " 127.0.0.1, or run docker compose yourself."
                )
            elif not is_running and not self._resources.is_port_free(port):
                found.append(
                    f"{name}: somebody else listens on {host}:{port}. Stop that program, or set"
                    " another port in .env."
                )
        return found

    def _forget(self) -> None:
        with self._guard:
            self._seen_at = float("-inf")


class DockerManager(Supervision):
    """A `ServiceManager` over containers, by the command line of ``docker compose``.

    Containers live on when this process ends. Their health is what the compose file asks; one that
    ends is started again by the engine, if the file says so, and by `monitor_health`. One that the
    engine starts again three times without its being well is stopped and told. Volumes are never
    touched.

    :param compose_file: its services, what they need, and how long they may take to stop.
    :param only: these services, and what they need; if not given, those without a profile.
    :param profiles: those of these profiles, too.
    :param restart_unhealthy: start those again, too, that live and are not well.
    :param program: what is run as ``docker``.
    """

    def __init__(
        self,
        compose_file: Path | str = Path("docker-compose.yml"),
        *,
        only: Collection[str] = (),
        profiles: Collection[str] = (),
        restart_unhealthy: bool = False,
        program: str = "docker",
        resources: Resources | None = None,
    ) -> None:
        self.units = DockerUnits(Compose(Path(compose_file), program), resources)
        stack = self.units.services
        super().__init__(
            self.units,
            self.units.chosen(only, profiles),
            stack=stack,
            restart_unhealthy=restart_unhealthy,
        )

    def __repr__(self) -> str:
        return f"DockerManager({str(self.units.compose.file)!r}, {', '.join(self.names)})"


def _chosen(
    stack: Mapping[str, Service], only: Collection[str], profiles: Collection[str]
) -> set[str]:
    check_names(only, stack)
    there = {profile for each in stack.values() for profile in each.profiles}
    if unknown := sorted(set(profiles) - there):
        raise InvalidConfiguration(
            f"the compose file has no profile {unknown[0]!r}",
            remedy=f"It has {', '.join(sorted(there)) or 'none'}.",
        )
    wanted = set(only)
    if not only:
        wanted |= {name for name, each in stack.items() if not each.profiles}
    wanted |= {name for name, each in stack.items() if set(each.profiles) & set(profiles)}
    return with_needs(wanted, stack)


def _all_seen(compose: Compose, services: Mapping[str, Service]) -> dict[str, Seen]:
    found: dict[str, Seen] = {}
    for told in compose.containers():
        name = str((told.get("Config", {}).get("Labels") or {}).get(_LABEL))
        if name in services:
            found[name] = _seen(told, is_job=services[name].is_job)
    return found


def _seen(told: Mapping[str, Any], *, is_job: bool) -> Seen:
    state = told.get("State", {})
    is_restarting = bool(state.get("Restarting"))
    is_alive = bool(state.get("Running")) and not is_restarting
    is_done = is_job and state.get("Status") == "exited" and state.get("ExitCode") == 0
    why = _why(state, is_alive=is_alive)
    if is_job and is_alive:
        why = "it is at work"
    return Seen(
        is_alive=is_alive,
        is_done=is_done,
        why="" if is_done else why,
        uptime=_seconds_since(state.get("StartedAt", "")) if is_alive else 0.0,
        pid=state.get("Pid") or None,
        port=_port(told),
        restarts=int(told.get("RestartCount", 0)),
        is_restarting=is_restarting,
    )


def _why(state: Mapping[str, Any], *, is_alive: bool) -> str:
    if not is_alive:
        if state.get("OOMKilled"):
            return "it was killed, since its memory was full: give it more, or ask less of it"
        error = f": {state['Error']}" if state.get("Error") else ""
        if state.get("Status") == "created":
            return f"it was made and not started{error}"
        return f"it ended with code {state.get('ExitCode')}{error}"
    if state.get("Paused"):
        return "it is paused"
    health = state.get("Health")
    if health is None or health.get("Status") in ("healthy", "none"):
        return ""
    if health.get("Status") == "starting":
        return "its health check has not passed yet"
    said = [each.get("Output", "").strip() for each in health.get("Log") or []]
    return f"its health check fails: {(said or [''])[-1][:200] or 'without a word'}"


def _port(told: Mapping[str, Any]) -> int | None:
    ports = (told.get("NetworkSettings", {}).get("Ports") or {}).values()
    for published_at in ports:
        for each in published_at or []:
            return int(each["HostPort"])
    return None


def _seconds_since(moment: str) -> float:
    with suppress(ValueError):
        started = datetime.fromisoformat(moment[:19]).replace(tzinfo=UTC)
        return (datetime.now(UTC) - started).total_seconds()
    return 0.0


def _plain(failure: StorageError) -> str:
    return str(failure).removeprefix("Invalid configuration: ")
