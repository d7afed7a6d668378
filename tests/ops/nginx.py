"""A real nginx on loopback with the configuration of `ops/nginx`, before a gateway or whatever."""

from __future__ import annotations

import os
import re
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Final

import pytest

from jts_storage.local_servers.folder import free_port
from tests import forked

ROOT: Final = Path(__file__).parents[2]
TEMPLATE: Final = ROOT / "ops" / "nginx" / "nginx.conf.template"
_PATIENCE: Final = 60.0


def installed() -> str:
    found = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if found is None:
        pytest.skip("NOT RUN: nginx is not installed: apt-get install nginx")
    return found


def variables(text: str) -> set[str]:
    return set(re.findall(r"\$\{(\w+)\}", text))


def rendered(text: str, values: Mapping[str, str]) -> str:
    """As envsubst does with the names of `values`."""
    return re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], text)


@dataclass
class Edge:
    """An nginx in a folder; `certificates` are as `services certs` makes them."""

    folder: Path
    certificates: Path
    behind: Mapping[str, str]
    text: str = ""
    """The template, if not that of the repository."""

    def __post_init__(self) -> None:
        self.program = installed()
        self.http, self.https = free_port(), free_port()
        values = {
            "EDGE_STATE": str(self.folder),
            "EDGE_SERVER_FILES": str(self.certificates / "server"),
            "EDGE_CLIENT_FILES": str(self.certificates / "client"),
            "EDGE_RESOLVER": "127.0.0.1",
            "EDGE_HTTP_LISTEN": f"127.0.0.1:{self.http}",
            "EDGE_HTTPS_LISTEN": f"127.0.0.1:{self.https}",
            "EDGE_HTTPS_PORT": str(self.https),
            "EDGE_GATEWAY_NAME": "gateway",
            **self.behind,
        }
        self.file = self.folder / "nginx.conf"
        self.file.write_text(rendered(self.text or TEMPLATE.read_text(), values))
        self.log = self.folder / "nginx.log"

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.program, "-e", "stderr", "-c", str(self.file), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def start(self) -> None:
        command = [self.program, "-e", "stderr", "-c", str(self.file), "-g", "daemon off;"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(int(_PATIENCE / 0.05)):
            try:
                if self.get("/-/alive", tls=False).status == 200:
                    return
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"nginx does not answer: {self.log.read_text()}")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:  # a stream is open
            self.process.terminate()
            self.process.wait(30)

    def workers(self) -> set[int]:
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return {int(pid) for pid in found.split()}

    def reload(self) -> None:
        """Return when new workers are there."""
        before = self.workers()
        done = self.run("-s", "reload")
        assert done.returncode == 0, done.stderr
        for _ in range(int(_PATIENCE / 0.05)):
            if self.workers() - before:
                return
            time.sleep(0.05)
        raise AssertionError("there are no new workers")

    def context(self, **options: object) -> ssl.SSLContext:
        made = ssl.create_default_context(cafile=self.certificates / "client" / "ca.pem")
        for name, value in options.items():
            setattr(made, name, value)
        return made

    def get(self, path: str, *, tls: bool = True, source: str = "127.0.0.1") -> HTTPResponse:
        """What it answers; nothing is followed."""
        connection: HTTPConnection
        if tls:
            connection = HTTPSConnection(
                "127.0.0.1",
                self.https,
                timeout=30,
                source_address=(source, 0),
                context=self.context(),
            )
        else:
            connection = HTTPConnection("127.0.0.1", self.http, timeout=30)
        connection.request("GET", path, headers={"Host": "storage.example.com"})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    def requests(self, path: str) -> list[int]:
        """The status of each request for a path that has ended."""
        return [
            int(status)
            for status in re.findall(rf'"POST {re.escape(path)}" (\d+)', self.log.read_text())
        ]


@contextmanager
def served(
    arguments: list[str], environment: Mapping[str, str], folder: Path
) -> Iterator[forked.Process]:
    """`jts-storage serve`, while the block lasts."""
    log = folder / "gateway.log"
    with log.open("w") as told:
        process = forked.Process(
            ["-m", "jts_storage.cli.main", "serve", "--json", *arguments],
            env=environment,
            cwd=folder,
            stdout=forked.PIPE,
            stderr=told.fileno(),
        )
    assert process.stdout is not None
    try:
        for _ in range(3):  # its metrics, its folder, and itself
            assert "serving" in process.stdout.readline(), log.read_text()
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
