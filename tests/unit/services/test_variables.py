"""With what a program uses the stack."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from jts_storage import StorageSettings
from jts_storage.cli.services_plans import variables
from jts_storage.errors import InvalidConfiguration
from jts_storage.services.stack import PORTS, STORES
from jts_storage.services.state import Plan
from jts_storage.services.variables import (
    of_containers,
    of_gateway,
    of_processes,
    shell_lines,
    through_gateway,
)

PASSWORDS = {
    "CLICKHOUSE_PASSWORD": "one",
    "MONGO_PASSWORD": "two",
    "POSTGRES_PASSWORD": "three",
    "REDIS_PASSWORD": "four",
    "REDIS_LIMITS_PASSWORD": "five",
}


def settings_of(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> StorageSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return StorageSettings(env_file=None)


def in_a_shell(lines: str, environment: dict[str, str]) -> dict[str, str]:
    """What is set after `eval`."""
    done = subprocess.run(
        ["bash", "-c", 'eval "$1"; env', "bash", lines],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    named = (line.partition("=") for line in done.stdout.splitlines())
    return {name: value for name, _, value in named if name.startswith("JTS_")}


def test_settings_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(monkeypatch, of_processes(STORES, PORTS))
    assert (found.clickhouse().host, found.clickhouse().port) == ("127.0.0.1", 9000)
    assert found.mongo().database == "jts"
    assert str(found.database().url).endswith("@127.0.0.1:5432/jts")
    redis = found.redis()
    assert redis is not None
    assert redis.redacted == "redis://127.0.0.1:6379/0"
    assert found.rate_limits_url is not None


def test_only_what_was_started_is_named() -> None:
    assert of_processes(["redis"], PORTS) == {"JTS_REDIS_URL": "redis://127.0.0.1:6379/0"}


def test_a_shell_takes_them_as_they_are() -> None:
    variables = of_processes(STORES, PORTS)
    assert in_a_shell(shell_lines(variables), {}) == variables


def test_a_shell_goes_from_the_stores_to_the_gateway_and_back() -> None:
    stores, gateway = of_processes(STORES, PORTS), through_gateway(PORTS)
    assert in_a_shell(shell_lines(gateway), stores) == gateway
    assert in_a_shell(shell_lines(stores), gateway) == stores


def test_passwords_of_containers_are_references(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shell_lines(of_containers(STORES, PORTS))
    assert not any(f":{password}@" in lines for password in PASSWORDS.values())
    found = in_a_shell(lines, PASSWORDS)
    assert found["JTS_RATE_LIMITS_URL"] == "redis://:five@127.0.0.1:6380/0"
    settings = settings_of(monkeypatch, found)
    password = settings.clickhouse().password
    assert password is not None
    assert "one" not in repr(password)
    assert "jts:two@" in found["JTS_MONGO_URL"]
    assert settings.mongo().database == "jts"


def test_a_gateway_has_the_stores_of_the_stack_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JTS_URL", "grpc://127.0.0.1:1")
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    found = settings_of(monkeypatch, of_gateway(PORTS, tmp_path))
    assert os.environ["PGSSLMODE"] == "disable", "the PostgreSQL of the stack has no TLS"
    assert found.url is None
    assert found.migrate is True
    monkeypatch.setenv("JTS_CLICKHOUSE_URL", "")
    monkeypatch.setenv("JTS_MONGO_URL", "")
    monkeypatch.setenv("JTS_DATABASE_URL", "")
    assert settings_of(monkeypatch, through_gateway(PORTS)).gateway() is not None


def test_a_gateway_in_a_container_is_reached_through_nginx() -> None:
    plan = Plan(engine="docker", names=["gateway"])
    with pytest.raises(InvalidConfiguration, match=r"not published.*--profile edge"):
        variables(plan, gateway=True)
    here = Plan(engine="local", names=["gateway"], ports=PORTS)
    assert variables(here, gateway=True) == {"JTS_URL": "grpc://127.0.0.1:7420"}
