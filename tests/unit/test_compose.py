"""The compose file, checked against the compose specification and against our own rules.

No container engine runs where the suite does: that the images start is not shown here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from jts_storage._version import __version__

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
TEXT = COMPOSE.read_text()
STACK: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
EXAMPLE = (ROOT / ".env.example").read_text()

STORES = {"clickhouse", "mongodb", "postgres", "redis", "redis-limits"}
"""What `make up` starts."""
PROFILES = {
    "edge": {"migrations", "gateway", "nginx"},
    "observe": {"migrations", "gateway", "prometheus", "alertmanager", "grafana"},
    "logs": {"loki", "alloy"},
    "backup": {"backup"},
    "replica": {"postgres-replication", "postgres-replica"},
    "mongo-set": {"mongodb-2", "mongodb-3", "mongodb-set"},
    "cluster": {
        *(f"keeper-{number}" for number in (1, 2, 3)),
        *(f"clickhouse-{shard}-{replica}" for shard in (1, 2) for replica in (1, 2)),
    },
}
CAPABILITIES: Final = {"alloy": {"DAC_READ_SEARCH"}}
"""What a service may do beyond nothing."""
ROOTS: Final = {"alloy"}
OUTSIDE: Final = {"alertmanager"}
"""Who may reach what is not of the stack."""

each_service = pytest.mark.parametrize("name", SERVICES)


def runs_once(name: str) -> bool:
    return bool(SERVICES[name]["restart"] == "no")


@cache
def networks(name: str) -> frozenset[str]:
    return frozenset(SERVICES[name]["networks"])


def kind(network: str) -> str:
    """``inside``: no way in or out; ``ports``: a way in; ``open``: both."""
    found = STACK["networks"][network] or {}
    if found.get("internal"):
        return "inside"
    options = found.get("driver_opts", {})
    masks = options.get("com.docker.network.bridge.enable_ip_masquerade") != "false"
    return "open" if masks else "ports"


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


@pytest.mark.parametrize("profile", ["", *PROFILES])
def test_docker_compose_renders_it(profile: str) -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("NOT RUN: no `docker compose` here, which would render the file")
    named = ("--profile", profile) if profile else ()
    secrets = dict.fromkeys(re.findall(r"^([A-Z_]+)=$", EXAMPLE, re.MULTILINE), "secret")
    done = subprocess.run(
        [docker, "compose", "--file", str(COMPOSE), *named, "config", "--services"],
        capture_output=True,
        text=True,
        env={**os.environ, **secrets},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == STORES | PROFILES.get(profile, set())


def test_the_whole_stack_is_there() -> None:
    for profile, expected in PROFILES.items():
        assert {n for n, it in SERVICES.items() if profile in it.get("profiles", [])} == expected
    assert {n for n, it in SERVICES.items() if not it.get("profiles")} == STORES
    assert set().union(STORES, *PROFILES.values()) == SERVICES.keys()


@each_service
def test_versions_are_pinned_to_a_patch(name: str) -> None:
    assert re.fullmatch(r"[\w./-]+:v?\d+(\.\d+){1,3}", SERVICES[name]["image"])


def test_our_image_has_the_version_of_the_kit() -> None:
    built = {it["image"] for it in SERVICES.values() if "build" in it}
    assert built == {f"jts-storage-gateway:{__version__}"}


@each_service
def test_a_service_may_do_next_to_nothing(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert set(service.get("cap_add", [])) == CAPABILITIES.get(name, set())
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & set(service)
    assert "docker.sock" not in str(service.get("volumes", ""))
    user = service["user"]
    assert user.startswith("0:") == (name in ROOTS), user


@each_service
def test_a_service_is_bounded(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"\d+[mg]|\$\{[A-Z_]+:-\d+[mg]\}", service["mem_limit"])
    assert 0 < float(service["cpus"]) <= 4
    assert 0 < service["pids_limit"] <= 4096
    assert service["logging"]["options"].keys() >= {"max-size", "max-file"}


@each_service
def test_ports_are_bound_to_loopback(name: str) -> None:
    ports = SERVICES[name].get("ports", [])
    assert all(
        str(port).startswith(("127.0.0.1:", "${EDGE_ADDRESS:-127.0.0.1}:")) for port in ports
    )
    if any("EDGE_ADDRESS" in str(port) for port in ports):
        assert name == "nginx"  # nobody else may be let out by a setting
    assert not SERVICES[name].get("expose")
    # A port is of no use without a network that has a way in, nor that without a port.
    assert any(kind(each) != "inside" for each in networks(name)) == bool(ports)


def test_no_two_services_have_the_same_port() -> None:
    names = [re.findall(r"\$\{(\w+_PORT)", port)[0] for port in _all_ports()]
    defaults = dict(re.findall(r"^#(\w+_PORT)=(\d+)$", EXAMPLE, re.MULTILINE))
    assert len(names) > 10
    assert len({defaults[name] for name in names}) == len(names)


def _all_ports() -> list[str]:
    return [str(port) for service in SERVICES.values() for port in service.get("ports", [])]


@each_service
def test_stores_are_kept_from_the_outside(name: str) -> None:
    """Only the gateway and what runs once is between the stores and anybody else."""
    mine = networks(name)
    assert (("outside" in mine) == (name in OUTSIDE)) and "default" not in mine
    assert {each for each in mine if kind(each) == "open"} <= {"outside"}
    if "stores" in mine and mine - {"stores", "stores-ports"}:
        assert name == "gateway"
    if "stores-ports" in mine:
        assert "stores" in mine
    if name == "nginx":
        assert mine == {"front", "watch", "front-ports"}


def test_who_depends_on_somebody_can_reach_him_and_starts_with_him() -> None:
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert networks(name) & networks(other), (name, other)
            needed = SERVICES[other].get("profiles")
            assert not needed or set(service["profiles"]) <= set(needed), (name, other)
            expected = "service_completed_successfully" if runs_once(other) else "service_healthy"
            assert how["condition"] == expected, (name, other)


@each_service
def test_health_checks_are_bounded(name: str) -> None:
    if runs_once(name):
        return
    check = SERVICES[name]["healthcheck"]
    assert check["test"]
    assert {"interval", "timeout", "retries"} <= check.keys()


def test_only_what_ends_by_itself_is_not_restarted() -> None:
    assert {name for name in SERVICES if runs_once(name)} == {
        *("migrations", "backup", "postgres-replication", "mongodb-set")
    }
    assert {service["restart"] for service in SERVICES.values()} == {"no", "unless-stopped"}


@each_service
def test_what_is_mounted_is_named_or_read_only(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        if isinstance(volume, dict):
            assert volume["read_only"] is True
            assert volume["bind"] == {"create_host_path": False}  # a missing folder is an error
            continue
        source, _, rest = volume.replace(":-", "=").partition(":")
        if source in STACK["volumes"]:
            continue
        assert rest.endswith(":ro"), volume
        path = re.sub(r"\$\{\w+=(.*)\}", r"\1", source)
        assert path.startswith("/var/lib/docker") or (ROOT / path).exists(), volume


def test_every_volume_and_network_is_used() -> None:
    used = {
        str(volume).partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
    }
    assert set(STACK["volumes"]) <= used
    assert set(STACK["networks"]) == set().union(*map(networks, SERVICES))


def test_data_of_stores_lives_in_named_volumes() -> None:
    homes = {"clickhouse": "/var/lib/clickhouse", "mongo": "/data/db"}
    homes |= {"postgres": "/var/lib/postgresql/data", "redis-limits": "/data"}
    for name, service in SERVICES.items():
        home = next((home for store, home in homes.items() if name.startswith(store)), None)
        if home is None or runs_once(name):
            continue
        mounted = [volume.partition(":")[::2] for volume in service["volumes"]]
        assert [source for source, target in mounted if target == home] == [f"{name}-data"]


def test_secrets_are_asked_for_and_have_no_default() -> None:
    secrets = re.findall(r"\$\{(\w*(?:PASSWORD|KEY|SECRET))([^}]*)\}", TEXT)
    assert len({name for name, _ in secrets}) == 9
    for name, rest in secrets:
        assert rest.startswith(":?"), name
        assert re.search(rf"^{name}=$", EXAMPLE, re.MULTILINE), name
    asked = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert asked == {name for name, _ in secrets}


@each_service
def test_no_secret_is_in_a_command_line(name: str) -> None:
    """Every user of a host sees the arguments of all processes on it."""
    service = SERVICES[name]
    text = f"{service.get('command', '')} {service.get('entrypoint', '')}"
    assert not re.search(r"(?<!\$)\$\{\w*(PASSWORD|KEY|SECRET)", text)
    for variable, value in service.get("environment", {}).items():
        if re.search(r"PASSWORD|KEY|SECRET|AUTH", variable):
            assert re.match(r"\$\{\w+:\?", str(value)), variable


def test_secrets_that_are_not_files_are_not_mounted() -> None:
    # Compose would have to write them into a root that is read-only, and refuses.
    assert all(set(secret) == {"file"} for secret in STACK["secrets"].values())


def test_the_example_names_every_variable_with_its_default() -> None:
    defaults = set(re.findall(r"\$\{(\w+):-([^}]*)\}", TEXT))
    assert defaults == set(re.findall(r"^#(\w+)=(.*)$", EXAMPLE, re.MULTILINE))


def test_a_written_env_file_leaves_no_secret_empty_and_repeats_none() -> None:
    written = subprocess.run(
        [ROOT / "scripts" / "write_env.sh"], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    found = dict(re.findall(r"^([A-Z_]+)=(.*)$", written, re.MULTILINE))
    ids = {name: found.pop(name) for name in ("STACK_UID", "STACK_GID") if name in found}
    assert ids == ({} if os.getuid() == 0 else _own_ids())
    assert found.keys() == set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert len(found) == 9 == len(set(found.values()))
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in found.values())


def _own_ids() -> dict[str, str]:
    return {"STACK_UID": str(os.getuid()), "STACK_GID": str(os.getgid())}


def test_names_inside_are_those_of_services() -> None:
    """Hosts that configurations name."""
    hosts = {
        "prometheus": re.findall(r'targets: \["([\w-]+):', _ops("prometheus/containers.yml"))
        + re.findall(r"names: \[([\w-]+)\]", _ops("prometheus/containers.yml")),
        "grafana": re.findall(
            r"url: http://([\w-]+):", _ops("grafana/provisioning/datasources/stores.yml")
        ),
        "alloy": re.findall(r"http://([\w-]+):", _ops("alloy/config.alloy")),
        "nginx": [
            SERVICES["nginx"]["environment"][f"EDGE_{each}"].partition(":")[0]
            for each in ("GATEWAY", "METRICS", "DASHBOARDS")
        ],
        "gateway": re.findall(r"(?:@|:-)([\w-]+):\d+/", str(SERVICES["gateway"]["environment"])),
    }
    for name, found in hosts.items():
        assert found, name
        for host in found:
            assert networks(name) & networks(host), (name, host)


def _ops(name: str) -> str:
    return (ROOT / "ops" / name).read_text()


@pytest.mark.parametrize("file", ["cluster", "keeper"])
def test_the_cluster_names_those_that_there_are(file: str) -> None:
    tree = ElementTree.parse(ROOT / "ops" / "clickhouse" / f"{file}.xml")
    who = [n for n in PROFILES["cluster"] if n.startswith("keeper") == (file == "keeper")]
    hosts = {it.text for tag in ("host", "hostname") for it in tree.iter(tag)}
    assert hosts == (PROFILES["cluster"] if file == "cluster" else set(who))
    wanted = {it.attrib["from_env"] for it in tree.iter() if "from_env" in it.attrib}
    assert wanted
    for name in who:
        assert wanted <= SERVICES[name]["environment"].keys()
        assert any(f"{file}.xml" in volume for volume in SERVICES[name]["volumes"])
    if file == "keeper":
        ids = {SERVICES[name]["environment"]["KEEPER_ID"] for name in who}
        assert ids == {it.text for it in tree.iter("id")}
        return
    shards = [[it.text for it in shard.iter("host")] for shard in tree.iter("shard") if len(shard)]
    assert [
        {SERVICES[name or ""]["environment"]["SHARD"] for name in shard} for shard in shards
    ] == [{"1"}, {"2"}]
    for name in who:
        assert SERVICES[name]["environment"]["REPLICA"] == name


def test_nginx_is_told_what_its_file_asks_for(tmp_path: Path) -> None:
    """Filled in as the container does it."""
    service = SERVICES["nginx"]
    template = ROOT / "ops" / "nginx" / "nginx.conf.template"
    told = {
        name: re.sub(r"\$\{\w+:-(.*)\}", r"\1", it) for name, it in service["environment"].items()
    }
    assert told.keys() == set(re.findall(r"\$\{(\w+)\}", template.read_text()))
    if shutil.which("envsubst") is None:
        pytest.skip("NOT RUN: envsubst is not installed: apt-get install gettext-base")
    *shell, script = service["entrypoint"]
    script = script.replace("$$", "$").replace("exec nginx", "exec true")
    # The other way round, a clone below /tmp would be named anew.
    script = script.replace("/tmp/", f"{tmp_path}/").replace("/etc/jts/", f"{template.parent}/")
    path = {"PATH": os.environ["PATH"]}
    subprocess.run([*shell, script], env={**told, **path}, check=True, timeout=60)
    made = (tmp_path / "nginx.conf").read_text()
    assert "listen 8443 ssl http2;" in made
    assert "https://$host:8443$request_uri" in made
    # What nginx fills in itself is still there.
    assert re.findall(r"\$\w+", made) == re.findall(r"\$\w+", template.read_text())
    mounted = str(service["volumes"])
    assert all(told[name] in mounted for name in ("EDGE_SERVER_FILES", "EDGE_CLIENT_FILES"))
