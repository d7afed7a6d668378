"""The command line of ``docker compose`` over one compose file."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from jts_storage.errors import ConnectionFailed, InvalidConfiguration, StorageError
from jts_storage.services.stack import STACK, Service

OLDEST: Final = (2, 20)
_ASK_SECONDS: Final = 30.0
_START_SECONDS: Final = 900.0
"""Images may have to be fetched."""

_NUMBER: Final = re.compile(r"(\d+)\.(\d+)")
_NO_COMPOSE: Final = ("unknown flag: --short", "unknown command", "is not a docker command")
"""What docker says where `compose version --short` is none of its commands."""

_NO_SENSE: Final = "See whether `docker` is Docker, and what `docker compose config` prints."
_NO_ENGINE: Final = ("cannot connect to the docker daemon", "permission denied", "is the docker")
_DURATION: Final = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?")


class Compose:
    """Calls ``docker compose`` as a program; no password is among its arguments.

    :param file: the compose file; ``.env`` beside it is read by compose itself.
    :param program: what is run as ``docker``.
    """

    def __init__(self, file: Path, program: str = "docker") -> None:
        self.file = file.absolute()
        self._program = program

    def version(self) -> tuple[int, int]:
        """:raises StorageError: there is no docker, or it has no compose."""
        said = self._run(["compose", "version", "--short"])
        found = _NUMBER.search(said)
        if found is None:
            raise InvalidConfiguration(f"docker compose says no version: {said.strip()[:100]!r}")
        return int(found[1]), int(found[2])

    def check_engine(self) -> None:
        """:raises StorageError: nobody answers docker."""
        self._run(["version", "--format", "{{.Server.Version}}"])

    def description(self) -> dict[str, Any]:
        """The services of the file, with its variables filled in; passwords are in it."""
        told = self._json([*self._begin(), "config", "--format", "json"])
        services = told.get("services") if isinstance(told, dict) else None
        if not isinstance(services, dict):
            raise ConnectionFailed("`docker compose config` names no services.", remedy=_NO_SENSE)
        return services

    def containers(self) -> list[dict[str, Any]]:
        """What the engine says of each container of the file, stopped ones too."""
        ids = self._compose("ps", "--all", "--quiet").split()
        if not ids:
            return []
        found = self._json(["inspect", *ids])
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise ConnectionFailed("`docker inspect` lists no containers.", remedy=_NO_SENSE)
        return found

    def up(self, name: str) -> None:
        self._compose("up", "--detach", "--no-deps", name, seconds=_START_SECONDS)

    def stop(self, name: str, grace: float) -> None:
        self._compose("stop", "--timeout", f"{grace:.0f}", name, seconds=grace + _ASK_SECONDS)

    def logs_command(self, names: Sequence[str], lines: int, *, follow: bool) -> list[str]:
        """The command that prints what services wrote."""
        options = ["--no-color", "--tail", str(lines), *(["--follow"] if follow else [])]
        return [self._program, *self._begin(), "logs", *options, *names]

    def _begin(self) -> list[str]:
        # All profiles: which services are meant is said by their names.
        return ["compose", "--file", str(self.file), "--profile", "*"]

    def _compose(self, *arguments: str, seconds: float = _ASK_SECONDS) -> str:
        return self._run([*self._begin(), *arguments], seconds)

    def _json(self, arguments: Sequence[str]) -> Any:
        said = self._run(arguments)
        try:
            return json.loads(said)
        except ValueError as exc:  # what it said is not told: passwords may be in it
            what = " ".join(each for each in arguments[:3] if each != str(self.file))
            raise ConnectionFailed(f"`docker {what}` printed no JSON.", remedy=_NO_SENSE) from exc

    def _run(self, arguments: Sequence[str], seconds: float = _ASK_SECONDS) -> str:
        what = " ".join(["docker", *(each for each in arguments if each != str(self.file))])
        try:
            done = subprocess.run(
                [self._program, *arguments],
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                timeout=seconds,
                check=False,
            )
        except FileNotFoundError as exc:
            raise InvalidConfiguration(
                f"{self._program} is not installed",
                remedy="Install Docker with its compose plugin, or use --with local.",
            ) from exc
        except (OSError, subprocess.TimeoutExpired) as exc:
            how = f"took more than {seconds:g} s" if not isinstance(exc, OSError) else str(exc)
            raise ConnectionFailed(
                f"`{what}` {how}.", remedy="See whether Docker answers."
            ) from exc
        if done.returncode:
            raise _failure(what, done.stderr.strip() or done.stdout.strip())
        return done.stdout


def _failure(what: str, said: str) -> StorageError:
    plain = said.lower()
    if any(each in plain for each in _NO_COMPOSE):
        return InvalidConfiguration(
            "docker has no compose plugin",
            remedy="On Debian and Ubuntu: apt-get install docker-compose-plugin.",
        )
    if any(each in plain for each in _NO_ENGINE):
        return ConnectionFailed(
            f"Docker does not answer: {said.splitlines()[-1][:300]}",
            remedy="Start it, or let this user use it (the group docker), or use --with local.",
        )
    lines = [line for line in said.splitlines() if line.strip()]
    told = "; ".join(lines[-3:])[:500] or "it says nothing"
    return StorageError(f"`{what}` failed: {told}")


def services_of(description: Mapping[str, Any]) -> dict[str, Service]:
    """The services of a compose file as the kit describes services, in an order of starting."""
    found: dict[str, Service] = {}
    for name, told in description.items():
        known = STACK.get(name, Service(name=name, port=0, health=""))
        grace = _seconds(told.get("stop_grace_period"))
        found[name] = replace(
            known,
            needs=tuple(each for each in _needs(told) if each in description),
            profiles=tuple(told.get("profiles") or ()),
            is_job=told.get("restart") == "no" and not told.get("healthcheck"),
            grace=known.grace if grace is None else grace,
            start_seconds=300.0,
        )
    return found


def published(told: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The addresses at which a service of a compose file is reached from this machine."""
    ports = [each for each in told.get("ports") or [] if each.get("published")]
    return [(each.get("host_ip", ""), int(each["published"])) for each in ports]


def main_port(name: str, told: Mapping[str, Any]) -> int | None:
    """The port of this machine at which a service is used."""
    ports = [each for each in told.get("ports") or [] if each.get("published")]
    usual = [each for each in ports if name in STACK and each.get("target") == STACK[name].port]
    return int((usual or ports)[0]["published"]) if ports else None


def is_file_there(file: Path) -> bool:
    return file.is_file() and os.access(file, os.R_OK)


def _needs(told: Mapping[str, Any]) -> list[str]:
    return list(told.get("depends_on") or [])


def _seconds(duration: str | None) -> float | None:
    """Seconds of ``1m30s``."""
    found = _DURATION.fullmatch(duration or "")
    if found is None or not any(found.groups()):
        return None
    hours, minutes, seconds = (float(each or 0) for each in found.groups())
    return hours * 3600 + minutes * 60 + seconds
