"""A `docker` that is driven by a table: a small program, called as the real one is.

`Docker` writes the table and reads what was asked; below `PROGRAM` is the program itself, which
knows nothing of the kit.
"""

from __future__ import annotations

import fcntl
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

MISSING_VARIABLE: Final = (
    "error while interpolating services.redis.environment.REDISCLI_AUTH: required variable"
    " REDIS_PASSWORD is missing a value: set it in .env, see .env.example"
)
NO_ENGINE: Final = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon"
    " running?"
)

PROGRAM: Final = r"""#!{python} -IS
import fcntl, json, sys, datetime
folder = {folder!r}
def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")
def fail(text):
    sys.stderr.write(text + "\n")
    sys.exit(1)
def engine():
    if table["engine"]:
        fail(table["engine"])
def container(name, state):
    kept = table["containers"].get(name, {{}})
    log = [{{"Output": state.get("said", "")}}]
    healthy = {{"Status": state.get("health", "healthy"), "Log": log}}
    ports = {{"1/tcp": [{{"HostIp": "127.0.0.1", "HostPort": "{port}"}}]}}
    status = state.get("status", "running")
    table["containers"][name] = {{
        "State": {{
            "Status": status,
            "Running": status in ("running", "paused", "restarting"),
            "Paused": status == "paused",
            "Restarting": status == "restarting",
            "OOMKilled": state.get("oom", False),
            "ExitCode": state.get("code", 0),
            "Error": state.get("error", ""),
            "Pid": 4711 if status == "running" else 0,
            "StartedAt": now(),
            **({{"Health": healthy}} if state.get("health", "") is not None else {{}}),
        }},
        "RestartCount": state.get("restarts", 0),
        "Config": {{"Labels": {{"com.docker.compose.service": name}}}},
        "NetworkSettings": {{"Ports": ports}},
        "volume": kept.get("volume", "data of " + name),
        "next": state.get("next"),
    }}
def answer(words):
    if words == ["compose", "version", "--short"]:
        if not table["compose"]:
            fail("unknown flag: --short\n\nUsage:  docker [OPTIONS] COMMAND [ARG...]")
        return table["compose"]
    if words[:2] == ["version", "--format"]:
        engine()
        return "28.2.2"
    if words[0] == "inspect":
        engine()
        found = [table["containers"][each[3:]] for each in words[1:]]
        for name, each in zip(words[1:], found):
            if each.get("next") is not None:
                container(name[3:], each["next"])
        return json.dumps(found)
    assert words[:2] == ["compose", "--file"] and words[3:5] == ["--profile", "*"], words
    what = words[5:]
    if what == ["config", "--format", "json"]:
        if table["invalid"]:
            fail(table["invalid"])
        return json.dumps({{"name": "jts-storage", "services": table["services"]}})
    engine()
    if what == ["ps", "--all", "--quiet"]:
        return "\n".join("id-" + name for name in table["containers"])
    if what[:3] == ["up", "--detach", "--no-deps"]:
        name, = what[3:]
        outcomes = table["up"].get(name) or [{{}}]
        state = outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]
        if "refused" in state:
            fail(state["refused"])
        container(name, state)
        return ""
    if what[:2] == ["stop", "--timeout"]:
        name, = what[3:]
        if name in table["containers"]:
            code = 137 if name in table["stubborn"] else 0
            container(name, {{"status": "exited", "code": code}})
        return ""
    if what[0] == "logs":
        return "\n".join(name + "-1  | a line of " + name for name in what[4:]
            if name != "--follow")
    fail("unknown command: " + " ".join(words))
with open(folder + "/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with open(folder + "/calls", "a") as calls:
        calls.write(json.dumps(sys.argv[1:]) + "\n")
    with open(folder + "/table.json") as file:
        table = json.load(file)
    try:
        said = answer(sys.argv[1:])
    finally:
        with open(folder + "/table.json", "w") as file:
            json.dump(table, file)
sys.stdout.write(said + ("\n" if said else ""))
"""


class Docker:
    """The table of a fake `docker`, and what it was asked.

    A state of a container has, where they matter: `status`, `health`, `said`, `code`, `oom`,
    `error`, `restarts`, and `next`, the state after one look.
    """

    def __init__(self, folder: Path, services: dict[str, dict[str, Any]]) -> None:
        self.folder = folder
        self.program = str(folder / "docker")
        text = PROGRAM.format(python=sys.executable, folder=str(folder), port=6379)
        (folder / "docker").write_text(text)
        (folder / "docker").chmod(0o755)
        self.compose_file = folder / "docker-compose.yml"
        self.compose_file.write_text("services: {}\n")
        table: dict[str, Any] = {
            "compose": "2.39.1",
            "engine": "",
            "invalid": "",
            "services": services,
            "containers": {},
            "up": {},
            "stubborn": [],
        }
        (folder / "table.json").write_text(json.dumps(table))

    @contextmanager
    def table(self) -> Iterator[dict[str, Any]]:
        """Change it in the block."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            table = json.loads((self.folder / "table.json").read_text())
            yield table
            (self.folder / "table.json").write_text(json.dumps(table))

    def becomes(self, name: str, **state: Any) -> None:
        """Let a container that is there be otherwise, without anybody asking for it."""
        with self.table() as table:
            told = table["containers"][name]
            status = state.get("status", "exited")
            told["State"].update(
                Status=status,
                Running=status in ("running", "paused", "restarting"),
                Paused=status == "paused",
                Restarting=status == "restarting",
                OOMKilled=state.get("oom", False),
                ExitCode=state.get("code", 0),
                StartedAt=datetime.now(UTC).isoformat(),
            )
            if "health" in state:
                log = [{"Output": state.get("said", "")}]
                told["State"]["Health"] = {"Status": state["health"], "Log": log}
            told["RestartCount"] = state.get("restarts", told["RestartCount"])

    def calls(self) -> list[list[str]]:
        """Every command line, without the program and the names of files."""
        file = self.folder / "calls"
        if not file.exists():
            return []
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        return [[each for each in line if each != str(self.compose_file)] for line in lines]

    def changes(self) -> list[str]:
        """What was asked that changes something, such as ``up redis``."""
        asked = [call[4:] for call in self.calls() if call[:2] == ["compose", "--file"]]
        return [f"{each[0]} {each[-1]}" for each in asked if each[0] not in ("config", "ps")]
