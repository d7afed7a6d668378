"""The one description of the stack: its services, what they need, and where they are.

The names are those of `docker-compose.yml`. Whatever starts, asks or stops a service reads here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Final

from jts_storage.errors import InvalidConfiguration

HOST: Final = "127.0.0.1"
STORES: Final = ("clickhouse", "mongodb", "postgres", "redis", "redis-limits")
METRICS: Final = "gateway.metrics"
"""A second port of the gateway, where Prometheus asks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service of the stack.

    :param needs: those that must be well before it starts, and stop after it.
    :param port: where it listens on 127.0.0.1 if nothing else is said; also of ``more_ports``.
    :param health: what is asked whether it is well, with ``{port}`` in it.
    :param grace: seconds that it may take to stop before it is killed.
    :param start_seconds: it may take so long until it is well.
    :param memory_mb: what it takes with little in it.
    :param disk_mb: what its files take with little in them.
    :param profiles: with each of which it is started; none if it is when nothing is said.
    :param folder: where its files are, in the folder of the stack.
    :param is_local: whether it can be run without containers.
    :param is_job: whether it is to do something and end: what needs it waits for that.
    """

    name: str
    port: int
    health: str
    needs: tuple[str, ...] = ()
    grace: float = 30.0
    start_seconds: float = 60.0
    memory_mb: int = 64
    disk_mb: int = 64
    profiles: tuple[str, ...] = ()
    more_ports: Mapping[str, int] = field(default_factory=dict)
    is_local: bool = True
    is_job: bool = False

    @property
    def folder(self) -> str:
        return self.name

    def health_url(self, port: int) -> str:
        return self.health.format(port=port)


_SERVICES: Final = (
    Service(
        name="clickhouse",
        port=9000,
        health=f"clickhouse://{HOST}:{{port}}",
        memory_mb=512,
        disk_mb=512,
    ),
    Service(
        name="mongodb",
        port=27017,
        health=f"mongodb://{HOST}:{{port}}",
        memory_mb=384,
        disk_mb=512,
    ),
    Service(
        name="postgres",
        port=5432,
        health=f"postgresql://{HOST}:{{port}}",
        memory_mb=128,
        disk_mb=256,
    ),
    Service(name="redis", port=6379, health=f"redis://{HOST}:{{port}}", grace=10.0),
    Service(name="redis-limits", port=6380, health=f"redis://{HOST}:{{port}}", grace=10.0),
    Service(
        name="gateway",
        port=7420,
        health=f"grpc://{HOST}:{{port}}",
        needs=STORES,
        grace=40.0,  # calls that run are given thirty
        memory_mb=384,
        profiles=("gateway", "edge", "observe"),
        more_ports={METRICS: 9108},
    ),
    Service(
        name="alertmanager",
        port=9093,
        health=f"http://{HOST}:{{port}}/-/ready",
        profiles=("observe",),
    ),
    Service(
        name="prometheus",
        port=9090,
        health=f"http://{HOST}:{{port}}/-/ready",
        memory_mb=256,
        disk_mb=512,
        profiles=("observe",),
    ),
    Service(
        name="nginx",
        port=8443,
        health=f"tls://{HOST}:{{port}}",
        needs=("gateway",),
        profiles=("edge",),
    ),
    Service(
        name="grafana",
        port=3000,
        health=f"http://{HOST}:{{port}}/api/health",
        needs=("prometheus",),
        memory_mb=256,
        profiles=("observe",),
        is_local=False,
    ),
    Service(
        name="loki",
        port=3100,
        health=f"http://{HOST}:{{port}}/ready",
        memory_mb=256,
        disk_mb=512,
        profiles=("logs",),
        is_local=False,
    ),
)

STACK: Final[Mapping[str, Service]] = {each.name: each for each in _SERVICES}
PROFILES: Final = tuple(sorted({name for each in _SERVICES for name in each.profiles}))
PORTS: Final[Mapping[str, int]] = {
    name: port
    for each in _SERVICES
    for name, port in ((each.name, each.port), *each.more_ports.items())
}


def chosen(
    only: Collection[str] = (), profiles: Collection[str] = (), *, is_local: bool = False
) -> tuple[str, ...]:
    """The names to start, in an order in which they can be started.

    :param only: these, and what they need; if empty, the stores.
    :param profiles: those of these profiles, too.
    :param is_local: leave those out of a profile that need containers.
    :raises InvalidConfiguration: there is no such service or profile, or it needs containers.
    """
    check_names(only)
    if unknown := sorted(set(profiles) - set(PROFILES)):
        raise InvalidConfiguration(
            f"there is no profile {unknown[0]!r}", remedy=f"Profiles are {', '.join(PROFILES)}."
        )
    if is_local and (far := [name for name in only if not STACK[name].is_local]):
        raise InvalidConfiguration(
            f"{', '.join(far)} runs in a container only", remedy="Use --with docker."
        )
    wanted = set(only or STORES)
    for each in STACK.values():
        if set(profiles) & set(each.profiles) and (each.is_local or not is_local):
            wanted.add(each.name)
    return in_order(with_needs(wanted))


def check_names(names: Iterable[str], stack: Mapping[str, Service] = STACK) -> None:
    """:raises InvalidConfiguration: the stack has no such service."""
    if unknown := sorted(set(names) - stack.keys()):
        raise InvalidConfiguration(
            f"the stack has no service {unknown[0]!r}", remedy=f"It has {', '.join(stack)}."
        )


def with_needs(names: Iterable[str], stack: Mapping[str, Service] = STACK) -> set[str]:
    """These, what they need, what that needs, and so on."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(stack[name].needs)
    return found


def in_order(names: Collection[str], stack: Mapping[str, Service] = STACK) -> tuple[str, ...]:
    """The names, each after those that it needs; otherwise as in the description."""
    graph = starting(names, stack)
    graph.prepare()
    place = {name: number for number, name in enumerate(stack)}
    found: list[str] = []
    while graph.is_active():
        ready = sorted(graph.get_ready(), key=lambda name: place[name])
        found += ready
        graph.done(*ready)
    return tuple(found)


def starting(
    names: Collection[str], stack: Mapping[str, Service] = STACK
) -> TopologicalSorter[str]:
    """What gives each name when all that it needs, as far as it is among them, is done."""
    return TopologicalSorter(
        {name: [need for need in stack[name].needs if need in names] for name in names}
    )


def stopping(
    names: Collection[str], stack: Mapping[str, Service] = STACK
) -> TopologicalSorter[str]:
    """What gives each name when all that need it are done."""
    return TopologicalSorter(
        {name: [each for each in names if name in stack[each].needs] for name in names}
    )


def all_ports(given: Mapping[str, int]) -> dict[str, int]:
    """Every port of the stack, those given in place of the usual ones.

    :raises InvalidConfiguration: a port has no name that the stack knows, is none, or there twice.
    """
    if unknown := sorted(given.keys() - PORTS.keys()):
        raise InvalidConfiguration(
            f"no service has the port {unknown[0]!r}", remedy=f"Ports are {', '.join(PORTS)}."
        )
    ports = {**PORTS, **given}
    holders: dict[int, str] = {}
    for name, port in ports.items():
        if not 1024 <= port < 65536:
            raise InvalidConfiguration(f"{port} is no port for {name}", remedy="Use 1024 to 65535.")
        if (other := holders.setdefault(port, name)) != name:
            raise InvalidConfiguration(
                f"{other} and {name} would both listen on {port}", remedy="Give one another port."
            )
    return ports
