"""``services up|status|logs|restart|down|doctor|env``.

Exit codes: 0 all is well; 1 a service is not as it should be; 2 it could not be done, and nothing
was started; 130 interrupted.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jts_storage.cli.output import (
    NOT_WELL,
    AsJson,
    counted,
    print_json,
    print_table,
    told,
    waiting,
)
from jts_storage.errors import InvalidConfiguration

if TYPE_CHECKING:
    from jts_storage.services.state import Plan, StateFolder
    from jts_storage.services.status import ServiceStatus

_START_SECONDS = 1_800.0
"""Images may have to be fetched."""
_STOP_SECONDS = 300.0
_EVAL = 'eval "$(jts-storage services env)"'


class EngineName(StrEnum):
    LOCAL = "local"
    DOCKER = "docker"


With = Annotated[
    EngineName | None,
    typer.Option(
        "--with",
        help="What runs them: processes of this machine, or containers. If not given: what was"
        " started in the folder, else local.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only", metavar="NAMES", help="These services, and what they need, with commas."
    ),
]
Profile = Annotated[
    list[str] | None,
    typer.Option(help="Those of this profile: gateway, watch, edge, logs; may be repeated."),
]
PortOption = Annotated[
    list[str] | None,
    typer.Option(
        "--port", metavar="NAME=PORT", help="Another port for a service; may be repeated."
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(help="Where they keep their files, if not in the data folder: .jts/services."),
]
ComposeFile = Annotated[Path, typer.Option(help="With docker: the services, and how they run.")]
Names = Annotated[list[str] | None, typer.Argument(help="Which services; all if none is named.")]


def add_stack(services: typer.Typer) -> None:
    """Add the commands to the group ``services``."""
    for command in (up, status, logs, restart, down, doctor, env):
        services.command(command.__name__)(command)


def up(
    engine: With = None,
    only: Only = None,
    profile: Profile = None,
    port: PortOption = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when they are well; they live on.")
    ] = False,
    restart_unhealthy: Annotated[
        bool,
        typer.Option("--restart-unhealthy", help="Start those again, too, that do not answer."),
    ] = False,
    folder: Folder = None,
    compose_file: ComposeFile = Path("docker-compose.yml"),
    as_json: AsJson = False,
) -> None:
    """Start services in order, watch them, and stop them at Ctrl-C or SIGTERM.

    A service that fails is started again after 0.2, 0.4 and 0.8 seconds, and then given up. It is
    for development and small machines: what must live through a restart of the machine belongs to
    systemd or Kubernetes. Exits with 1 if a service is not well, with 2 if nothing was started.
    """
    from jts_storage.services.supervisor import supervise

    where = told(lambda: _state_of(folder))
    plan = told(
        lambda: _new_plan(
            where,
            engine,
            only,
            profile,
            port,
            compose_file,
            lasting=detach,
            restart_unhealthy=restart_unhealthy,
        )
    )
    if not as_json:
        _log_to_stderr()
    if detach:
        with waiting("Starting the services", quiet=as_json):
            found = told(lambda: _detached(plan, where))
        _tell_started(plan, found, as_json)
    else:
        early: list[ServiceStatus] = []

        def started(statuses: list[ServiceStatus]) -> None:
            early.extend(statuses)
            _tell_started(plan, statuses, as_json)
            if not as_json:
                typer.echo("Stop them with Ctrl-C.")
                sys.stdout.flush()

        told(lambda: supervise(plan, where, started))
        if not as_json:
            typer.echo("All are stopped; their data stay.")
        found = early
    if not all(each.is_well for each in found):
        raise typer.Exit(NOT_WELL)


def status(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show the services that were started; exits with 1 if one does not run."""
    where = told(lambda: _state_of(folder))
    found = told(lambda: _looked_at(where))
    pid = where.supervisor()
    if as_json:
        print_json({"supervisor": pid, "services": found})
    elif not found:
        typer.echo(f"Nothing was started in {where.path}.")
    else:
        _print(found)
        typer.echo("Nobody supervises them." if pid is None else f"Process {pid} supervises them.")
    if not found or not all(each.is_well for each in found):
        raise typer.Exit(NOT_WELL)


def logs(
    names: Names = None,
    lines: Annotated[int, typer.Option(min=1, help="So many lines of each, the last.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C.")] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Print what services wrote last."""
    from jts_storage.services.logs import followed, last_lines

    where = told(lambda: _state_of(folder))
    plan = told(lambda: _plan_of(where))
    wanted = told(lambda: _named(names, plan))
    if follow:
        told(lambda: followed(plan, where, wanted, lines, typer.echo))
        return
    found = told(lambda: last_lines(plan, where, wanted, lines))
    if as_json:
        print_json(found)
        return
    for name, text in found.items():
        for line in text:
            typer.echo(f"{name} | {line}")


def restart(
    names: Annotated[list[str], typer.Argument(help="Which services.")],
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Stop services, start them and wait until they are well; exits with 1 if one is not.

    What they failed before is forgotten, so it brings back one that was given up.
    """
    from jts_storage.services.supervisor import RESTART

    where = told(lambda: _state_of(folder))
    plan = told(lambda: _plan_of(where))
    wanted = told(lambda: _named(names, plan))
    with waiting("Restarting", quiet=as_json):
        if where.is_supervised():
            found = told(lambda: where.ask(RESTART, wanted, timeout=_START_SECONDS))
        else:
            found = told(lambda: _restarted_here(plan, where, wanted))
    _print(found, as_json)
    if not all(each.is_well for each in found):
        raise typer.Exit(NOT_WELL)


def down(folder: Folder = None, as_json: AsJson = False) -> None:
    """Stop the services, each after those that need it; their data stay.

    One that takes longer than it may is killed, which is told.
    """
    from jts_storage.services.supervisor import STOP

    where = told(lambda: _state_of(folder))
    if where.plan() is None:
        typer.echo(f"Nothing was started in {where.path}.", err=True)
        _print([], as_json)
        return
    plan = told(lambda: _plan_of(where))
    with waiting("Stopping", quiet=as_json):
        if where.is_supervised():
            found = told(lambda: where.ask(STOP, timeout=_STOP_SECONDS))
        else:
            found = told(lambda: _stopped_here(plan, where))
    _print(found, as_json)
    if not all(each.status == "stopped" for each in found):
        raise typer.Exit(NOT_WELL)


def doctor(
    engine: With = None,
    only: Only = None,
    profile: Profile = None,
    port: PortOption = None,
    folder: Folder = None,
    compose_file: ComposeFile = Path("docker-compose.yml"),
    as_json: AsJson = False,
) -> None:
    """Look for what stands in the way of a start, and start nothing; exits with 1 if there is any.

    Programs and their versions, ports, memory, disk, owners of folders, versions of data.
    """
    from jts_storage.services.supervisor import manager_of

    where = told(lambda: _state_of(folder))
    plan = told(lambda: _new_plan(where, engine, only, profile, port, compose_file))
    manager = told(lambda: manager_of(plan, where.path))
    problems = list(manager.units.problems(manager.names))
    if as_json:
        print_json({"services": list(manager.names), "problems": problems})
    else:
        for each in problems:
            typer.echo(f"- {each}")
        names = ", ".join(manager.names)
        many = counted(len(problems), "thing")
        typer.echo(f"{many} in the way of {names}." if problems else f"{names} can be started.")
    if problems:
        raise typer.Exit(NOT_WELL)


def env(
    gateway: Annotated[
        bool, typer.Option("--gateway", help="For programs that go through the gateway.")
    ] = False,
    folder: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Print the variables with which a program uses the stack: eval "$(jts-storage services env)".

    Passwords are not in them: with containers they are references to the variables of .env.
    """
    where = told(lambda: _state_of(folder))
    plan = told(lambda: _plan_of(where))
    found = told(lambda: _variables(plan, gateway=gateway))
    if as_json:
        print_json(found)
    else:
        from jts_storage.services.variables import shell_lines

        typer.echo(shell_lines(found))


# ---- what was started, and what is to be


def _state_of(folder: Path | None) -> StateFolder:
    from jts_storage.services.state import StateFolder
    from jts_storage.settings import StorageSettings

    return StateFolder(folder or StorageSettings.load().data_dir / "services")


def _plan_of(where: StateFolder) -> Plan:
    plan = where.plan()
    if plan is None:
        raise InvalidConfiguration(
            f"nothing was started in {where.path}", remedy="Run jts-storage services up."
        )
    return plan


def _new_plan(
    where: StateFolder,
    engine: EngineName | None,
    only: list[str] | None,
    profile: list[str] | None,
    port: list[str] | None,
    compose_file: Path,
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
        manager = DockerManager(compose_file, only=names, profiles=profile or ())
        return Plan(
            engine="docker",
            names=list(manager.names),
            ports=manager.units.ports,
            lasting=True,
            restart_unhealthy=restart_unhealthy,
            compose_file=str(compose_file.absolute()),
        )
    given = dict(last.ports) if last is not None and last.engine == "local" else {}
    return Plan(
        engine="local",
        names=list(chosen(names, profile or (), is_local=True)),
        ports=all_ports({**given, **dict(map(_port, port or []))}),
        lasting=lasting,
        restart_unhealthy=restart_unhealthy,
    )


def _port(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not number.isascii() or not number.isdecimal():
        raise InvalidConfiguration(f"--port {text} is no port", remedy="Write redis=6390.")
    return name.strip(), int(number)


def _named(names: list[str] | None, plan: Plan) -> list[str]:
    if unknown := sorted(set(names or ()) - set(plan.names)):
        raise InvalidConfiguration(
            f"{unknown[0]!r} was not started", remedy=f"There are {', '.join(plan.names)}."
        )
    return list(names or plan.names)


def _variables(plan: Plan, *, gateway: bool) -> dict[str, str]:
    from jts_storage.services.variables import of_containers, of_processes, through_gateway

    if gateway:
        if "gateway" not in plan.names:
            raise InvalidConfiguration(
                "no gateway was started", remedy="Start one with --profile gateway."
            )
        return through_gateway(plan.ports)
    of = of_containers if plan.engine == "docker" else of_processes
    return of([name for name in plan.names if name in plan.ports], plan.ports)


# ---- what is done


def _detached(plan: Plan, where: StateFolder) -> list[ServiceStatus]:
    from jts_storage.services.docker import DockerManager
    from jts_storage.services.supervisor import detach, manager_of

    if plan.engine == "local":
        return detach(plan, where, _START_SECONDS)
    # The engine keeps containers; nobody else has to live on for them.
    with where.supervised():
        manager = manager_of(plan, where.path)
        assert isinstance(manager, DockerManager)
        where.write_plan(plan)
        return manager.start_services()


def _looked_at(where: StateFolder) -> list[ServiceStatus]:
    from jts_storage.services.supervisor import manager_of

    plan = where.plan()
    if plan is None:
        return []
    return where.state() or manager_of(plan, where.path).status()


def _restarted_here(plan: Plan, where: StateFolder, names: list[str]) -> list[ServiceStatus]:
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


def _stopped_here(plan: Plan, where: StateFolder) -> list[ServiceStatus]:
    from jts_storage.services.supervisor import manager_of

    with where.supervised():
        return manager_of(plan, where.path).stop_services()


# ---- what is printed


def _tell_started(plan: Plan, found: list[ServiceStatus], as_json: bool) -> None:
    variables = _variables(plan, gateway=False)
    if as_json:
        print_json({"services": found, "environment": variables})
        sys.stdout.flush()
        return
    _print(found)
    for name, value in variables.items():
        typer.echo(f"{name}={value}")
    typer.echo(f"Programs use them after {_EVAL}")


def _print(found: list[ServiceStatus], as_json: bool = False) -> None:
    if as_json:
        print_json(found)
        return
    print_table(
        ["service", "status", "up s", "port", "pid", "restarts", "detail"],
        [
            (
                each.service_name,
                each.status,
                each.uptime_seconds,
                None if each.port is None else str(each.port),
                None if each.pid is None else str(each.pid),
                each.restarts,
                each.detail or None,
            )
            for each in found
        ],
    )


def _log_to_stderr() -> None:
    """Tell what happens to services while they are watched."""
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("jts_storage.services")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
