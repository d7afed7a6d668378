"""The compose file, checked against the compose specification and against our own rules.

No container engine runs where the suite does: that the images start is not shown here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
EXAMPLE = (ROOT / ".env.example").read_text()

each_service = pytest.mark.parametrize("name", SERVICES)


def test_it_follows_the_compose_specification() -> None:
    # The package carries the specification's schema, so nothing is fetched.
    done = subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.compose-spec", str(COMPOSE)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_whole_stack_is_there() -> None:
    assert SERVICES.keys() == {"clickhouse", "mongodb", "postgres", "redis"}


@each_service
def test_versions_are_pinned_to_a_patch(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:\d+(\.\d+){1,3}", SERVICES[name]["image"])


@each_service
def test_ports_are_bound_to_loopback(name: str) -> None:
    ports = SERVICES[name]["ports"]
    assert ports
    assert all(str(port).startswith("127.0.0.1:") for port in ports)
    assert "network_mode" not in SERVICES[name]


@each_service
def test_health_checks_are_bounded(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"]
    assert {"interval", "timeout", "retries"} <= check.keys()


@each_service
def test_data_lives_in_named_volumes(name: str) -> None:
    named = yaml.safe_load(TEXT)["volumes"]
    assert SERVICES[name]["volumes"]
    assert all(volume.partition(":")[0] in named for volume in SERVICES[name]["volumes"])


def test_secrets_are_asked_for_and_have_no_default() -> None:
    secrets = dict(re.findall(r"\$\{(\w*(?:PASSWORD|KEY))([^}]*)\}", TEXT))
    assert len(secrets) == 5
    assert all(rest.startswith(":?") for rest in secrets.values())
    for name in secrets:
        assert re.search(rf"^{name}=$", EXAMPLE, re.MULTILINE), name


def test_the_example_names_every_variable_with_its_default() -> None:
    defaults = set(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    assert defaults == set(re.findall(r"^#(\w+)=(.*)$", EXAMPLE, re.MULTILINE))


def test_a_written_env_file_leaves_no_secret_empty_and_repeats_none() -> None:
    written = subprocess.run(
        [ROOT / "scripts" / "write_env.sh"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    values = [v for line in written.splitlines() for _, v in re.findall(r"^([A-Z_]+)=(.*)$", line)]
    assert len(values) == 5 == len(set(values))
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values)
