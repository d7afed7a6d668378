"""The manifests for Kubernetes, against its schemas, and against rules of our own.

No cluster runs where the suite does: that one admits and runs them is not shown here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from typer.testing import CliRunner

from jts_storage._version import __version__
from jts_storage.cli.main import app
from tests.ops.take_kubernetes_schemas import KINDS

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "ops" / "kubernetes"
SCHEMAS: Final = json.loads(Path(__file__).with_name("kubernetes_schemas.json").read_text())
KUSTOMIZATION: Final = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
PAGE: Final = (ROOT / "docs" / "how-to" / "run-a-gateway.md").read_text()


def objects() -> dict[str, dict[str, Any]]:
    """Each by its kind and name."""
    return _named(
        found for name in KUSTOMIZATION["resources"] for found in _read((FOLDER / name).read_text())
    )


def _read(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


def _named(found: Any) -> dict[str, dict[str, Any]]:
    listed = list(found)
    named = {f"{each['kind']}/{each['metadata']['name']}": each for each in listed}
    assert len(named) == len(listed)
    return named


OBJECTS: Final = objects()
each_object = pytest.mark.parametrize("name", OBJECTS)


@cache
def validator(kind: str) -> Draft202012Validator:
    return Draft202012Validator({**SCHEMAS["kinds"][kind], "$defs": SCHEMAS["$defs"]})


def faults(found: dict[str, Any]) -> list[str]:
    kind = f"{found['apiVersion']} {found['kind']}"
    return [f"{each.json_path}: {each.message}" for each in validator(kind).iter_errors(found)]


def pods() -> dict[str, dict[str, Any]]:
    return {
        "gateway": OBJECTS["Deployment/jts-gateway"]["spec"]["template"],
        "backup": OBJECTS["CronJob/jts-backup"]["spec"]["jobTemplate"]["spec"]["template"],
    }


def containers() -> list[dict[str, Any]]:
    return [
        container
        for pod in pods().values()
        for part in ("initContainers", "containers")
        for container in pod["spec"][part]
    ]


@each_object
def test_it_follows_the_schema(name: str) -> None:
    assert faults(OBJECTS[name]) == []


def test_the_schemas_find_what_is_wrong() -> None:
    """They are strict: an unknown field is none that somebody meant."""
    wrong = json.loads(json.dumps(OBJECTS["Deployment/jts-gateway"]))
    container = wrong["spec"]["template"]["spec"]["containers"][0]
    container["securityContext"]["readOnlyRootFileSystem"] = True  # it is ...Filesystem
    container["ports"][0]["containerPort"] = "7420"
    del wrong["spec"]["selector"]
    assert len(faults(wrong)) == 3
    assert set(SCHEMAS["kinds"]) == set(KINDS)


def test_kustomize_makes_of_it_what_follows_the_schemas() -> None:
    kubectl, kustomize = shutil.which("kubectl"), shutil.which("kustomize")
    if not kubectl and not kustomize:
        pytest.skip("NOT RUN: neither kubectl nor kustomize is here")
    command = [kubectl, "kustomize"] if kubectl else [str(kustomize), "build"]
    done = subprocess.run([*command, str(FOLDER)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    made = _named(_read(done.stdout))
    assert made.keys() == OBJECTS.keys()
    for each in made.values():
        assert faults(each) == []
        assert each["metadata"]["namespace"] == "jts"
    images = set(re.findall(r"image: (\S+)", done.stdout))
    assert images == {f"jts-storage-gateway:{__version__}"}


def test_the_image_has_the_version_of_the_kit() -> None:
    assert KUSTOMIZATION["images"] == [{"name": "jts-storage-gateway", "newTag": __version__}]
    assert {container["image"] for container in containers()} == {"jts-storage-gateway"}
    assert {file.name for file in FOLDER.iterdir()} == {
        "kustomization.yaml",
        *KUSTOMIZATION["resources"],
    }


def test_containers_may_do_next_to_nothing() -> None:
    assert len(containers()) == 5
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
    for pod in pods().values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == "jts-storage"
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001  # that of the image
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
        assert all("hostPath" not in volume for volume in spec["volumes"])


def test_what_is_mounted_is_there() -> None:
    for pod in pods().values():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        used = set()
        for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
            used |= {mount["name"] for mount in container["volumeMounts"]}
        assert used == volumes
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in _volumes("backup")]
    assert [f"PersistentVolumeClaim/{claim}" in OBJECTS for claim in claims] == [True]


def _volumes(pod: str) -> list[dict[str, Any]]:
    return [each for each in pods()[pod]["spec"]["volumes"] if "persistentVolumeClaim" in each]


def test_no_secret_is_written_down_and_the_page_makes_each() -> None:
    text = json.dumps(OBJECTS)
    assert not any(name.startswith("Secret/") for name in OBJECTS)
    secrets = set(re.findall(r'"(?:secretName|secretRef)": (?:\{"name": )?"([\w-]+)"', text))
    assert secrets == {"jts-stores", "jts-gateway-tls", "jts-gateway-tokens"}
    for secret in secrets:
        assert re.search(rf"kubectl .*create secret \w+ {secret} ", PAGE), secret


def test_labels_and_ports_meet() -> None:
    labels = pods()["gateway"]["metadata"]["labels"]
    deployment = OBJECTS["Deployment/jts-gateway"]["spec"]
    assert deployment["selector"]["matchLabels"] == labels
    assert OBJECTS["Service/jts-gateway"]["spec"]["selector"] == labels
    budget = OBJECTS["PodDisruptionBudget/jts-gateway"]["spec"]
    assert budget["selector"]["matchLabels"] == labels
    assert budget["minAvailable"] < deployment["replicas"]  # else no node could ever be emptied
    (container,) = pods()["gateway"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    arguments = dict(argument.split("=") for argument in container["args"] if "=" in argument)
    assert arguments["--listen"] == f"0.0.0.0:{ports['grpc']}"
    assert arguments["--metrics"] == f"0.0.0.0:{ports['metrics']}"
    assert {port["targetPort"] for port in OBJECTS["Service/jts-gateway"]["spec"]["ports"]} == {
        "grpc"
    }
    probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    named = [probe.get("tcpSocket", probe.get("httpGet"))["port"] for probe in probes]
    assert named == ["grpc", "metrics", "grpc"]


def test_nobody_else_is_talked_to() -> None:
    both = OBJECTS["NetworkPolicy/jts-storage"]["spec"]
    (chosen,) = both["podSelector"]["matchExpressions"]
    names = {pod["metadata"]["labels"]["app.kubernetes.io/name"] for pod in pods().values()}
    assert set(chosen["values"]) == names
    assert set(both["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in both  # nobody, but for what the next one allows
    for rule in both["egress"]:
        assert rule["to"]
        assert rule["ports"]
    into = OBJECTS["NetworkPolicy/jts-gateway"]["spec"]
    assert into["podSelector"]["matchLabels"] == pods()["gateway"]["metadata"]["labels"]
    assert all(rule["from"] for rule in into["ingress"])
    assert {port["port"] for rule in into["ingress"] for port in rule["ports"]} == {7420, 9108}


def test_it_has_the_time_that_it_takes_to_stop() -> None:
    pod = pods()["gateway"]["spec"]
    (container,) = pod["containers"]
    pause = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
    # `serve --grace` is 30 s unless set, and closing waits for commits as long.
    assert pod["terminationGracePeriodSeconds"] >= pause + 30 + 15


def test_backups_do_not_meet_and_are_pruned_only_after_one() -> None:
    spec = OBJECTS["CronJob/jts-backup"]["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["timeZone"] == "Etc/UTC"
    pod = pods()["backup"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert [each["args"][1] for each in pod["initContainers"]] == ["create"]
    assert [each["args"][1] for each in pod["containers"]] == ["prune"]


def test_commands_are_those_of_the_kit() -> None:
    """Each is known, with each of its options."""
    run = CliRunner()
    seen = 0
    for container in containers():
        if "command" in container:
            continue  # not of ours
        words = [word for word in container["args"] if not word.startswith("-")]
        options = [word.partition("=")[0] for word in container["args"] if word.startswith("-")]
        done = run.invoke(app, [*words, "--help"], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        assert all(re.search(rf"{option}\b", done.output) for option in options), options
        seen += 1
    assert seen == 4
