"""What the commands of ``services`` find in the folder of a stack, and what they do with it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from jts_storage.errors import ConnectionFailed, InUse, InvalidConfiguration

if TYPE_CHECKING:
    from jts_storage.services.state import Plan, StateFolder
    from jts_storage.services.status import ServiceStatus

START_SECONDS = 1_800.0
"""Images may have to be fetched."""

STOP_SECONDS = 300.0
_COMPOSE_FILE = "docker-compose.yml"


class EngineName(StrEnum):
    LOCAL = "local"
    DOCKER = "docker"


def state_of(folder: Path | None) -> StateFolder:
    from jts_storage.services.state import StateFolder
    from jts_storage.settings import StorageSettings

    return StateFolder(folder or StorageSettings.load().data_dir / "services")


def plan_of(where: StateFolder) -> Plan:
    plan = where.plan()
    if plan is None:
        raise InvalidConfiguration(
            f"nothing was started in {where.path}", remedy="Run jts-storage services up."
        )
    return plan


def new_plan(
    where: StateFolder,
    engine: EngineName | None,
    only: list[str] | None,
    profile: list[str] | None,
    port: list[str] | None,
    compose_file: Path | None,
    *,
    lasting: bool = False,
    restart_unhealthy: bool = False,
) -> Plan:
    from jts_storage.services.docker import DockerManager
    from jts_storage.services.stack import all_ports, chosen
    from jts_storage.services.state import Plan

    last = where.plan()
    kind = engine.value if engine is not None else (last.engine if last else "local")
    names = [each.strip() for part in only or [] for each in part.split(",") if each.strip()]
    if kind == "docker":
        file = compose_file or Path(_COMPOSE_FILE)
        if port:
            raise InvalidConfiguration(
                "--port is for services without containers",
                remedy=f"Set the port in the .env beside {file}, or use --with local.",
            )
        manager = DockerManager(file, only=names, profiles=profile or ())
        return Plan(
            engine="docker",
            names=list(manager.names),
            ports=manager.units.ports,
            lasting=True,
            restart_unhealthy=restart_unhealthy,
            compose_file=str(file.absolute()),
        )
    if compose_file is not None:
        raise InvalidConfiguration(
            "--compose-file is for services in containers",
            remedy="Leave it out, or use --with docker.",
        )
    given = dict(last.ports) if last is not None and last.engine == "local" else {}
    ports = all_ports({**given, **dict(map(_port, port or []))})
    wanted = _installed(chosen(names, profile or (), is_local=True), names, where)
    return Plan(
        engine="local",
        names=_with_those_left(wanted, last, where, ports),
        ports=ports,
        lasting=lasting,
        restart_unhealthy=restart_unhealthy,
    )


def _installed(wanted: Sequence[str], asked: Sequence[str], where: StateFolder) -> list[str]:
    """Those of a profile are left out, and told, where their programs are not installed."""
    from jts_storage.services.programs import local_programs
    from jts_storage.services.stack import STACK, with_needs

    programs = local_programs(where.path.parent / "certificates")
    found: list[str] = []
    for name in wanted:
        if not STACK[name].profiles or name in with_needs(asked):
            found.append(name)
        elif missing := [need for need in STACK[name].needs if need not in found]:
            typer.echo(f"{name} is left out: it needs {missing[0]}.", err=True)
        else:
            try:
                programs[name].find()
            except InvalidConfiguration as exc:
                why = str(exc).removeprefix("Invalid configuration: ")
                typer.echo(f"{name} is left out: {why}", err=True)
            else:
                found.append(name)
    return found


def _with_those_left(
    wanted: list[str], last: Plan | None, where: StateFolder, ports: Mapping[str, int]
) -> list[str]:
    """Those, too, that an earlier supervisor left running: nobody else would ever stop them."""
    from jts_storage.services.local import LocalUnits
    from jts_storage.services.stack import STACK, in_order, with_needs

    if last is None or last.engine != "local" or where.is_supervised():
        return wanted
    others = [name for name in last.names if name in STACK and name not in wanted]
    left = LocalUnits(where.path, ports).lasting(others)
    if left:
        typer.echo(f"{', '.join(left)} still run, and are taken, too.", err=True)
    return list(in_order(with_needs([*wanted, *left]))) if left else wanted


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isascii() or not number.isdecimal():
        raise InvalidConfiguration(f"--port {text} is no port", remedy="Write redis=6390.")
    return name.strip(), int(number)


def named(names: list[str] | None, plan: Plan) -> list[str]:
    if unknown := sorted(set(names or ()) - set(plan.names)):
        raise InvalidConfiguration(
            f"{unknown[0]!r} was not started", remedy=f"There are {', '.join(plan.names)}."
        )
    return list(names or plan.names)


def variables(plan: Plan, *, gateway: bool) -> dict[str, str]:
    from jts_storage.services.variables import of_containers, of_processes, through_gateway

    if gateway:
        if "gateway" not in plan.names:
            raise InvalidConfiguration(
                "no gateway was started", remedy="Start one with --profile gateway."
            )
        if "gateway" not in plan.ports:
            raise InvalidConfiguration(
                "the gateway of the compose file is not published on this machine",
                remedy="Programs reach it through nginx, with --profile edge: set JTS_URL to"
                " grpcs://TOKEN@localhost:8443?ca_file=CA.PEM.",
            )
        return through_gateway(plan.ports)
    of = of_containers if plan.engine == "docker" else of_processes
    return of([name for name in plan.names if name in plan.ports], plan.ports)


# ---- what is done


def detached(plan: Plan, where: StateFolder) -> list[ServiceStatus]:
    from jts_storage.services.docker import DockerManager
    from jts_storage.services.supervisor import detach, manager_of

    if plan.engine == "local":
        return detach(plan, where, START_SECONDS)
    # The engine keeps containers; nobody else has to live on for them.
    with where.supervised():
        manager = manager_of(plan, where.path)
        assert isinstance(manager, DockerManager)
        with where.planned(plan):
            return manager.start_services()


def looked_at(where: StateFolder) -> list[ServiceStatus]:
    from jts_storage.services.supervisor import manager_of

    plan = where.plan()
    if plan is None:
        return []
    return where.state() or manager_of(plan, where.path).status()


def restarted_here(plan: Plan, where: StateFolder, names: list[str]) -> list[ServiceStatus]:
    """Where nobody supervises, but services live on."""
    from jts_storage.services.local import LocalManager
    from jts_storage.services.supervisor import manager_of

    with where.supervised():
        manager = manager_of(plan, where.path)
        if not plan.lasting:
            raise InvalidConfiguration(
                f"nobody supervises the stack in {where.path}",
                remedy="Start it with jts-storage services up.",
            )
        manager.status()
        found = [manager.restart(name) for name in names]
        if isinstance(manager, LocalManager):
            manager.units.leave()
        return found


def stopped(where: StateFolder) -> list[ServiceStatus]:
    """Stop all, by whoever supervises them, or here."""
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        try:
            return _stopped_once(where)
        except InUse:  # another one stops them, or has just begun to start them
            if time.monotonic() > deadline:
                raise


def _stopped_once(where: StateFolder) -> list[ServiceStatus]:
    from jts_storage.services.supervisor import STOP

    if where.is_supervised():
        try:
            return where.ask(STOP, timeout=STOP_SECONDS)
        except ConnectionFailed:  # it may have ended for another reason meanwhile
            if where.is_supervised():
                raise
    if where.plan() is None and where.has_plan():
        raise InvalidConfiguration(
            f"{where.path / 'plan.json'}, which says what was started, cannot be understood",
            remedy="Use the release that wrote it; or remove that file, then run"
            " jts-storage services up and down.",
        )
    plan = where.plan()
    return [] if plan is None else stopped_here(plan, where)


def stopped_here(plan: Plan, where: StateFolder) -> list[ServiceStatus]:
    from jts_storage.services.supervisor import manager_of

    with where.supervised():
        return manager_of(plan, where.path).stop_services()
