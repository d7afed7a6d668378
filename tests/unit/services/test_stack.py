"""The description of the stack, and what is told of a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jts_storage.errors import InvalidConfiguration, InvalidData
from jts_storage.services.stack import (
    PORTS,
    STACK,
    STORES,
    all_ports,
    chosen,
    in_order,
    with_needs,
)
from jts_storage.services.status import ServiceStatus
from tests.unit.services.units import stack_of

COMPOSE: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[3] / "docker-compose.yml").read_text()
)["services"]


@pytest.mark.parametrize(
    "fields",
    [
        {"service_name": ""},
        {"status": "well"},
        {"uptime_seconds": -1},
        {"uptime_seconds": 1.5},
        {"uptime_seconds": True},
        {"health_check_url": ""},
        {"restarts": -1},
    ],
)
def test_a_status_that_cannot_be_is_refused(fields: dict[str, Any]) -> None:
    usual: dict[str, Any] = {"service_name": "redis", "status": "running"}
    with pytest.raises(InvalidData):
        ServiceStatus(**{**usual, **fields})


@given(
    st.text(min_size=1),
    st.sampled_from(["running", "stopped", "error"]),
    st.integers(0),
    st.none() | st.text(min_size=1),
)
def test_every_other_status_is_one(name: str, status: Any, uptime: int, url: str | None) -> None:
    made = ServiceStatus(name, status, uptime, url)
    assert (made.service_name, made.status, made.uptime_seconds) == (name, status, uptime)
    assert made.health_check_url == url
    assert made.is_well == (status == "running")


def test_the_stores_are_started_when_nothing_is_said() -> None:
    assert chosen() == STORES


def test_what_a_service_needs_comes_with_it_and_before_it() -> None:
    assert chosen(["gateway"]) == (*STORES, "gateway")
    assert set(chosen(profiles=["edge"])) == {*STORES, "gateway", "nginx"}


def test_a_profile_has_no_containers_where_there_are_none() -> None:
    assert chosen(["redis"], ["observe"], is_local=True)[-3:] == (
        "alertmanager",
        "prometheus",
        "gateway",
    )
    assert "grafana" in chosen(profiles=["observe"])
    assert "grafana" not in chosen(profiles=["observe"], is_local=True)
    with pytest.raises(InvalidConfiguration, match="grafana runs in a container only"):
        chosen(["grafana"], is_local=True)


def test_unknown_names_are_refused_with_those_that_there_are() -> None:
    with pytest.raises(InvalidConfiguration, match=r"no service 'mongo'.*mongodb"):
        chosen(["mongo"])
    with pytest.raises(InvalidConfiguration, match=r"no profile 'all'.*edge"):
        chosen(profiles=["all"])


def test_no_two_services_share_a_port() -> None:
    assert len(set(PORTS.values())) == len(PORTS)
    with pytest.raises(InvalidConfiguration, match="postgres and redis would both"):
        all_ports({"redis": 5432})
    with pytest.raises(InvalidConfiguration, match="no service has the port 'mongo'"):
        all_ports({"mongo": 27018})
    with pytest.raises(InvalidConfiguration, match="80 is no port"):
        all_ports({"nginx": 80})


@pytest.mark.parametrize("name", sorted(COMPOSE.keys() & STACK.keys()))
def test_the_compose_file_and_the_description_agree(name: str) -> None:
    needs = set(COMPOSE[name].get("depends_on") or ()) & STACK.keys()
    assert needs <= with_needs([name])
    published = [str(each).rpartition(":")[0] for each in COMPOSE[name].get("ports", ())]
    ports = {STACK[name].port, *STACK[name].more_ports.values()}
    assert not published or any(str(port) in each for port in ports for each in published)


@given(st.data())
def test_the_order_respects_what_is_needed(data: st.DataObject) -> None:
    """PT-INFRA-01.1: for any services and any needs without a circle."""
    names = [f"s{number}" for number in range(data.draw(st.integers(1, 12)))]
    needs = {
        name: data.draw(st.sets(st.sampled_from(names[:at]) if at else st.nothing()))
        for at, name in enumerate(names)
    }
    stack = stack_of({name: sorted(each) for name, each in needs.items()})
    ordered = in_order(data.draw(st.permutations(names)), stack)
    assert sorted(ordered) == sorted(names)
    for name in names:
        assert all(ordered.index(need) < ordered.index(name) for need in needs[name])
