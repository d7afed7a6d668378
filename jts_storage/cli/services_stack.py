"""``services up|status|logs|restart|down|doctor|env``.

Exit codes: 0 all is well; 1 a service is not as it should be; 2 it could not be done, and nothing
was started; 130 interrupted.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
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
from jts_storage.cli.services_plans import (
    START_SECONDS,
    EngineName,
    detached,
    looked_at,
    named,
    new_plan,
    plan_of,
    restarted_here,
    state_of,
    stopped,
    variables,
)

if TYPE_CHECKING:
    from jts_storage.services.state import Plan, StateFolder
    from jts_storage.services.status import ServiceStatus


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
        "--only", metavar="NAMES", help="These services, with commas, and what they need."
    ),
]
Profile = Annotated[
    list[str] | None,
    typer.Option(help="Those of this profile, too: gateway, observe, edge; may be repeated."),
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
ComposeFile = Annotated[
    Path | None,
    typer.Option(
        help="With docker: the services, and how they run; docker-compose.yml if not given."
    ),
]
Names = Annotated[list[str] | None, typer.Argument(help="Which services; all if none is named.")]

Detach = Annotated[bool, typer.Option("--detach", help="Return when they are well; they live on.")]
RestartUnhealthy = Annotated[
    bool, typer.Option("--restart-unhealthy", help="Start those again, too, that do not answer.")
]


def add_stack(services: typer.Typer) -> None:
    """Add the commands to the group ``services``."""
    for command in (up, status, logs, restart, down, doctor, env):
        services.command(command.__name__)(command)


def up(
    engine: With = None,
    only: Only = None,
    profile: Profile = None,
    port: PortOption = None,
    detach: Detach = False,
    restart_unhealthy: RestartUnhealthy = False,
    folder: Folder = None,
    compose_file: ComposeFile = None,
    as_json: AsJson = False,
) -> None:
    """Start services in order, watch them, and stop them at Ctrl-C or SIGTERM.

    A service that fails is started again after 0.2, 0.4 and 0.8 seconds, and then given up. It is
    for development and small machines: what must live through a restart of the machine belongs to
    systemd or Kubernetes. Exits with 1 if a service is not well, with 2 if nothing was started.
    """
    where = told(lambda: state_of(folder))
    how = {"lasting": detach, "restart_unhealthy": restart_unhealthy}
    plan = told(lambda: new_plan(where, engine, only, profile, port, compose_file, **how))
    if not as_json:
        _log_to_stderr()
    if detach:
        with waiting("Starting the services", quiet=as_json):
            found = told(lambda: detached(plan, where))
        _tell_started(plan, found, folder, as_json)
    else:
        found = _watched(plan, where, folder, as_json)
    if not all(each.is_well for each in found):
        raise typer.Exit(NOT_WELL)


def status(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show the services that were started; exits with 1 if one does not run."""
    where = told(lambda: state_of(folder))
    found = told(lambda: looked_at(where))
    pid = told(where.supervisor)
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
    """Print what services wrote last.

    With --follow and --json each line is an object, with its service.
    """
    from jts_storage.services.logs import followed, last_lines

    where = told(lambda: state_of(folder))
    plan = told(lambda: plan_of(where))
    wanted = told(lambda: named(names, plan))
    if follow:
        told(lambda: followed(plan, where, wanted, lines, _line_told(as_json)))
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

    where = told(lambda: state_of(folder))
    plan = told(lambda: plan_of(where))
    wanted = told(lambda: named(names, plan))
    with waiting("Restarting", quiet=as_json):
        if where.is_supervised():
            found = told(lambda: where.ask(RESTART, wanted, timeout=START_SECONDS))
        else:
            found = told(lambda: restarted_here(plan, where, wanted))
    _print(found, as_json)
    if not all(each.is_well for each in found):
        raise typer.Exit(NOT_WELL)


def down(folder: Folder = None, as_json: AsJson = False) -> None:
    """Stop the services, each after those that need it; their data stay.

    One that takes longer than it may is killed, which is told.
    """
    where = told(lambda: state_of(folder))
    if not told(lambda: where.has_plan() or where.is_supervised()):
        typer.echo(f"Nothing was started in {where.path}.", err=True)
        if as_json:
            print_json([])
        return
    with waiting("Stopping", quiet=as_json):
        found = told(lambda: stopped(where))
    _print(found, as_json)
    if not all(each.status == "stopped" for each in found):
        raise typer.Exit(NOT_WELL)


def doctor(
    engine: With = None,
    only: Only = None,
    profile: Profile = None,
    port: PortOption = None,
    folder: Folder = None,
    compose_file: ComposeFile = None,
    as_json: AsJson = False,
) -> None:
    """Look for what stands in the way of a start, and start nothing; exits with 1 if there is any.

    Programs and their versions, ports, memory, disk, owners of folders, versions of data.
    """
    from jts_storage.services.supervisor import manager_of

    where = told(lambda: state_of(folder))
    plan = told(lambda: new_plan(where, engine, only, profile, port, compose_file))
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
    where = told(lambda: state_of(folder))
    plan = told(lambda: plan_of(where))
    found = told(lambda: variables(plan, gateway=gateway))
    if as_json:
        print_json(found)
    else:
        from jts_storage.services.variables import shell_lines

        typer.echo(shell_lines(found))


# ---- what is printed


def _watched(
    plan: Plan, where: StateFolder, folder: Path | None, as_json: bool
) -> list[ServiceStatus]:
    """Watch until a signal comes, and return how all were once they were started."""
    from jts_storage.services.supervisor import supervise

    early: list[ServiceStatus] = []

    def started(statuses: list[ServiceStatus]) -> None:
        early.extend(statuses)
        _tell_started(plan, statuses, folder, as_json)
        if not as_json:
            typer.echo("Stop them with Ctrl-C.")
            sys.stdout.flush()

    told(lambda: supervise(plan, where, started))
    if not as_json:
        typer.echo("All are stopped; their data stay.")
    return early


def _tell_started(
    plan: Plan, found: list[ServiceStatus], folder: Path | None, as_json: bool
) -> None:
    environment = variables(plan, gateway=False)
    if as_json:
        print_json({"services": found, "environment": environment})
        sys.stdout.flush()
        return
    _print(found)
    for name, value in environment.items():
        typer.echo(f"{name}={value}")
    where = "" if folder is None else f" --folder {shlex.quote(str(folder))}"
    typer.echo(f'Programs use them after eval "$(jts-storage services env{where})"')


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


def _line_told(as_json: bool) -> Callable[[str, str], None]:
    def tell(name: str, line: str) -> None:
        typer.echo(json.dumps({"service": name, "line": line}) if as_json else f"{name} | {line}")
        sys.stdout.flush()

    return tell


def _log_to_stderr() -> None:
    """Tell what happens to services while they are watched."""
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("jts_storage.services")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
