"""Services as containers, by a `docker` that is a program driven by a table.

No container engine runs where the suite does: that the images start is not shown here.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from jts_storage.cli.services_plans import EngineName, new_plan
from jts_storage.errors import InvalidConfiguration, StorageError
from jts_storage.services import docker as docker_units
from jts_storage.services.docker import DockerManager
from jts_storage.services.doctor import Resources
from jts_storage.services.logs import followed, last_lines
from jts_storage.services.state import Plan, StateFolder
from jts_storage.services.status import ServiceStatus
from tests.unit.services.fake_docker import MISSING_VARIABLE, NO_ENGINE, Docker

SERVICES: dict[str, dict[str, Any]] = {
    "gateway": {"depends_on": {"redis": {"condition": "service_healthy"}, "postgres": {}}},
    "postgres": {
        "ports": [{"published": "5432", "host_ip": "127.0.0.1", "target": 5432}],
        "stop_grace_period": "1m30s",
    },
    "redis": {"ports": [{"published": "6379", "host_ip": "127.0.0.1", "target": 6379}]},
    "grafana": {"profiles": ["observe", "edge"]},
}


class Free(Resources):
    """Ports of this machine are none of this test's business."""

    def __init__(self, *taken: int) -> None:
        self._taken = taken

    def is_port_free(self, port: int) -> bool:
        return port not in self._taken


@pytest.fixture
def docker(tmp_path: Path) -> Docker:
    return Docker(tmp_path, SERVICES)


def manager_of(docker: Docker, *only: str, **options: Any) -> DockerManager:
    resources = options.pop("resources", Free())
    manager = DockerManager(
        docker.compose_file, only=only, program=docker.program, resources=resources, **options
    )
    manager.units.look_every = 0.01
    return manager


def by_name(statuses: list[ServiceStatus]) -> dict[str, ServiceStatus]:
    return {each.service_name: each for each in statuses}


def looked(manager: DockerManager) -> dict[str, ServiceStatus]:
    manager.units._forget()
    return by_name(manager.monitor_health())


def test_services_start_in_the_order_of_the_compose_file(docker: Docker) -> None:
    """UT-INFRA-01.1: those that need others after them, once those are healthy."""
    manager = manager_of(docker)
    with docker.table() as table:
        starting = {"health": "starting", "next": {"health": "starting", "next": {}}}
        table["up"] = {"redis": [starting], "postgres": [starting]}
    started = manager.start_services()
    assert {each.status for each in started} == {"running"}
    assert sorted(docker.changes()[:2]) == ["up postgres", "up redis"]
    assert docker.changes()[2:] == ["up gateway"]
    assert by_name(started)["redis"].health_check_url == "redis://127.0.0.1:6379"
    assert by_name(started)["gateway"].health_check_url is None
    assert by_name(started)["redis"].pid == 4711


def test_every_command_line(docker: Docker) -> None:
    manager = manager_of(docker, "redis")
    manager.start_services()
    manager.stop_services()
    file = ["compose", "--file", "--profile", "*"]
    known = [
        ["compose", "version", "--short"],
        ["version", "--format", "{{.Server.Version}}"],
        [*file, "config", "--format", "json"],
        [*file, "ps", "--all", "--quiet"],
        ["inspect", "id-redis"],
        [*file, "up", "--detach", "--no-deps", "redis"],
        [*file, "stop", "--timeout", "10", "redis"],
    ]
    assert [call for call in docker.calls() if call not in known] == []
    assert [call for call in known if call not in docker.calls()] == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"compose": ""}, "docker has no compose plugin.*docker-compose-plugin"),
        ({"compose": "2.6.0"}, "docker compose is 2.6, and 2.20 is needed"),
        ({"compose": "what"}, "says no version"),
        ({"engine": NO_ENGINE}, "Docker does not answer.*--with local"),
        ({"engine": "permission denied while trying to connect"}, "Docker does not answer.*group"),
        ({"invalid": MISSING_VARIABLE}, "REDIS_PASSWORD is missing a value"),
    ],
)
def test_what_is_in_the_way_is_told_and_nothing_started(
    docker: Docker, change: dict[str, Any], text: str
) -> None:
    """ET-INFRA-01.1"""
    with docker.table() as table:
        table.update(change)
    manager = manager_of(docker)
    with pytest.raises(StorageError, match=rf"(?s)Nothing was started.*{text}"):
        manager.start_services()
    assert docker.changes() == []


@pytest.mark.parametrize("said", ["", "warning: what\n[]", "{}", "[1]", '{"services": 1}'])
def test_a_docker_that_says_nonsense_is_told(docker: Docker, tmp_path: Path, said: str) -> None:
    """And what it said is not: passwords may be in it."""
    manager = manager_of(docker)
    manager.start_services()
    nonsense = tmp_path / "nonsense"
    (tmp_path / "said").write_text(said)
    nonsense.write_text(
        f"#!/bin/sh\ncase \"$*\" in *' ps '*) echo id;; *' --short') echo 2.39;;"
        f" *) cat {tmp_path}/said;; esac\n"
    )
    nonsense.chmod(0o755)
    manager.units.compose._program = str(nonsense)
    with pytest.raises(StorageError, match=r"no JSON|no containers"):
        looked(manager)
    docker.program = str(nonsense)
    with pytest.raises(StorageError, match=r"no JSON|no services") as failure:
        manager_of(docker).start_services()
    assert "what" not in str(failure.value).replace("what `docker", "")


def test_a_docker_that_is_missing_is_told(docker: Docker, tmp_path: Path) -> None:
    docker.program = str(tmp_path / "nowhere" / "docker")
    with pytest.raises(StorageError, match=r"is not installed.*--with local"):
        manager_of(docker).start_services()
    docker.compose_file.unlink()
    with pytest.raises(StorageError, match=r"docker-compose.yml cannot be read"):
        manager_of(docker).start_services()


def test_a_port_of_a_stranger_is_told(docker: Docker) -> None:
    manager = manager_of(docker, resources=Free(6379))
    with pytest.raises(StorageError, match=r"redis: somebody else listens on 127.0.0.1:6379"):
        manager.start_services()
    free = manager_of(docker)
    free.start_services()
    assert manager_of(docker, resources=Free(6379)).start_services(), "it is our own container"


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", None])
def test_a_service_for_every_network_is_refused(docker: Docker, address: str | None) -> None:
    """Compose leaves the address out where a port is published on all networks."""
    with docker.table() as table:
        (port,) = table["services"]["redis"]["ports"]
        port["host_ip"] = address
        if address is None:
            del port["host_ip"]
    with pytest.raises(StorageError, match="redis would listen on port 6379 of other networks"):
        manager_of(docker).start_services()


def test_a_stack_that_starts_by_half_is_told(docker: Docker) -> None:
    with docker.table() as table:
        table["up"] = {"postgres": [{"refused": "no space left on device"}]}
    manager = manager_of(docker)
    told = by_name(manager.start_services())
    assert told["redis"].status == "running"
    assert told["postgres"].status == "error"
    assert "no space left on device" in told["postgres"].detail
    assert "it needs postgres" in told["gateway"].detail
    assert "up gateway" not in docker.changes()
    assert docker.changes().count("up postgres") == 4


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"oom": True, "code": 137}, "its memory was full"),
        ({"code": 1}, "it ended with code 1"),
        ({"status": "created"}, "it was made and not started"),
    ],
)
def test_a_container_that_failed_is_started_again(
    docker: Docker, state: dict[str, Any], text: str
) -> None:
    """UT-INFRA-01.2: and its status says why it was down."""
    manager = manager_of(docker, "redis")
    manager.start_services()
    docker.becomes("redis", **state)
    told = looked(manager)["redis"]
    assert (told.status, told.uptime_seconds) == ("error", 0)
    assert text in told.detail
    for _ in range(200):
        if (told := looked(manager)["redis"]).is_well:
            break
    assert (told.status, told.restarts) == ("running", 1)
    assert docker.changes() == ["up redis", "up redis"]


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({"status": "running", "health": "unhealthy", "said": "-LOADING"}, "fails: -LOADING"),
        ({"status": "paused"}, "it is paused"),
        ({"status": "running", "health": "starting"}, "has not passed yet"),
    ],
)
def test_a_container_that_lives_and_is_not_well_is_left_alone(
    docker: Docker, state: dict[str, Any], text: str
) -> None:
    manager = manager_of(docker, "redis")
    manager.start_services()
    docker.becomes("redis", **state)
    told = looked(manager)["redis"]
    assert told.status == "error"
    assert text in told.detail
    assert docker.changes() == ["up redis"]


def test_a_container_that_the_engine_restarts_is_bounded(
    docker: Docker, caplog: pytest.LogCaptureFixture
) -> None:
    manager = manager_of(docker, "redis")
    manager.start_services()
    docker.becomes("redis", status="restarting", code=1, restarts=2)
    assert looked(manager)["redis"].restarts == 2
    assert docker.changes() == ["up redis"], "the engine does it"
    docker.becomes("redis", status="restarting", code=1, restarts=3)
    with caplog.at_level(logging.ERROR):
        assert "given up after 3 restarts by the engine" in looked(manager)["redis"].detail
    assert docker.changes() == ["up redis", "stop redis"]


def test_a_stop_is_in_reverse_and_a_kill_is_told(docker: Docker) -> None:
    """UT-INFRA-01.3"""
    manager = manager_of(docker)
    manager.start_services()
    with docker.table() as table:
        table["stubborn"] = ["postgres"]
    told = by_name(manager.stop_services())
    assert {each.status for each in told.values()} == {"stopped"}
    assert told["postgres"].detail == "it did not stop within 90 s, and was killed"
    stopped = [each for each in docker.changes() if each.startswith("stop")]
    assert stopped[0] == "stop gateway"
    assert sorted(stopped[1:]) == ["stop postgres", "stop redis"]


def test_a_job_is_waited_for_and_not_started_again(docker: Docker) -> None:
    with docker.table() as table:
        table["services"]["migrations"] = {"restart": "no", "depends_on": {"redis": {}}}
        table["services"]["gateway"]["depends_on"]["migrations"] = {}
        ended = {"status": "exited", "code": 0}
        table["up"] = {"migrations": [{"health": None, "next": ended}]}
    manager = manager_of(docker)
    told = by_name(manager.start_services())
    assert (told["migrations"].status, told["migrations"].is_well) == ("stopped", True)
    assert told["gateway"].status == "running"
    changes = docker.changes()
    assert changes[-1] == "up gateway"
    assert changes.index("up redis") < changes.index("up migrations")
    assert looked(manager)["migrations"].is_done
    assert docker.changes().count("up migrations") == 1


def test_a_job_that_fails_keeps_those_down_that_need_it(docker: Docker) -> None:
    with docker.table() as table:
        table["services"]["migrations"] = {"restart": "no"}
        table["services"]["gateway"]["depends_on"]["migrations"] = {}
        table["up"] = {"migrations": [{"status": "exited", "code": 2}]}
    told = by_name(manager_of(docker).start_services())
    assert "it ended with code 2" in told["migrations"].detail
    assert not told["migrations"].is_well
    assert "up gateway" not in docker.changes()


def test_volumes_are_never_touched(docker: Docker) -> None:
    """PT-INFRA-01.1: a restart keeps the data; so does a stop."""
    manager = manager_of(docker)
    manager.start_services()
    manager.restart("redis")
    manager.stop_services()
    manager.start_services()
    with docker.table() as table:
        kept = {name: each["volume"] for name, each in table["containers"].items()}
    assert kept["redis"] == "data of redis"
    words = {word for call in docker.calls() for word in call}
    assert not words & {"--volumes", "-v", "down", "rm", "prune", "--force-recreate"}


def test_an_engine_that_goes_away_is_no_reason_to_restart(docker: Docker) -> None:
    manager = manager_of(docker, "redis")
    manager.start_services()
    with docker.table() as table:
        table["engine"] = NO_ENGINE
    with pytest.raises(StorageError, match="Docker does not answer"):
        looked(manager)
    with docker.table() as table:
        table["engine"] = ""
    assert looked(manager)["redis"].is_well
    assert docker.changes() == ["up redis"]


def test_a_profile_adds_its_services(docker: Docker) -> None:
    assert manager_of(docker).names == ("postgres", "redis", "gateway")
    assert "grafana" in manager_of(docker, profiles=["edge"]).names
    assert manager_of(docker, "gateway").names == ("postgres", "redis", "gateway")


def test_no_password_is_among_the_arguments(docker: Docker) -> None:
    with docker.table() as table:
        table["services"]["redis"]["environment"] = {"REDISCLI_AUTH": "s3cret"}
        table["up"] = {"redis": [{"refused": "no"}]}
    manager = manager_of(docker)
    told = manager.start_services()
    assert "s3cret" not in str([docker.calls(), told, manager])


def test_a_profile_that_the_file_has_not_is_told(docker: Docker) -> None:
    with pytest.raises(InvalidConfiguration, match=r"no profile 'gateway'.*edge, observe"):
        manager_of(docker, profiles=["gateway"])


def test_a_file_that_cannot_be_read_any_more_is_told_as_such(docker: Docker) -> None:
    """Not as one that lacks the services that were started from it."""
    with docker.table() as table:
        table["services"]["migrations"] = {"restart": "no"}
    assert manager_of(docker, "migrations").names == ("migrations",)
    with docker.table() as table:
        table["invalid"] = MISSING_VARIABLE
    with pytest.raises(StorageError, match="REDIS_PASSWORD is missing a value"):
        manager_of(docker, "migrations")
    docker.compose_file.unlink()
    with pytest.raises(InvalidConfiguration, match=r"cannot be read.*--compose-file"):
        manager_of(docker, "migrations")


def test_logs_that_docker_does_not_give_are_told(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(docker.folder))
    plan = Plan(engine="docker", names=["redis"], compose_file=str(docker.compose_file))
    folder = StateFolder(docker.folder)
    assert last_lines(plan, folder, ["redis"], 5) == {"redis": ["a line of redis"]}
    with docker.table() as table:
        table["engine"] = NO_ENGINE
    with pytest.raises(StorageError, match="Cannot connect to the Docker daemon"):
        last_lines(plan, folder, ["redis"], 5)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InvalidConfiguration, match="docker could not be run"):
        followed(plan, folder, ["redis"], 5, print)


def test_another_port_is_for_the_compose_file_to_say(docker: Docker) -> None:
    with pytest.raises(InvalidConfiguration, match=r"--port is for.*\.env"):
        new_plan(
            StateFolder(docker.folder / "state"),
            EngineName.DOCKER,
            None,
            None,
            ["redis=6390"],
            docker.compose_file,
        )


def test_what_was_seen_while_it_started_is_not_taken_for_its_end(
    docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others that start side by side look as well; a container that is being made is not there."""
    monkeypatch.setattr(docker_units, "_SAME_LOOK_SECONDS", 60.0)
    units = manager_of(docker, "redis").units
    up = units.compose.up

    def looked_at_meanwhile(name: str) -> None:
        assert not units.look([name])[name].is_alive
        up(name)

    monkeypatch.setattr(units.compose, "up", looked_at_meanwhile)
    units.start("redis")
    assert units.look(["redis"])["redis"].is_alive
