"""A real Prometheus and Alertmanager on loopback, and what the latter tells."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jts_storage.local_servers.folder import free_port

OPS = Path(__file__).parent.parent.parent / "ops"


def queries() -> dict[str, list[str]]:
    """The queries of each dashboard, by its name."""
    return {
        file.stem: [
            target["expr"]
            for panel in json.loads(file.read_text())["panels"]
            for target in panel["targets"]
        ]
        for file in sorted((OPS / "grafana").glob("*.json"))
    }


@dataclass
class Told:
    """What arrived at the webhook: when, whether it fires, the alert's labels and annotations."""

    posts: list[tuple[float, str, dict[str, str], dict[str, str]]] = field(default_factory=list)

    def of(self, alert: str, **labels: str) -> list[tuple[float, str]]:
        wanted = {"alertname": alert, **labels}.items()
        return [(at, state) for at, state, its, _ in self.posts if wanted <= its.items()]

    def last(self, alert: str, **labels: str) -> str:
        """What was last told of an alert: ``firing``, ``resolved``, or nothing."""
        told = self.of(alert, **labels)
        return told[-1][1] if told else ""


@dataclass
class Stack:
    """Both servers while they run."""

    prometheus: str
    told: Told

    def query(self, expression: str) -> list[Any]:
        """The series that a query returns now."""
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/query?{asked}", timeout=10) as got:
            answer = json.load(got)
        assert answer["status"] == "success", answer
        return list(answer["data"]["result"])


@contextmanager
def running(
    folder: Path, target: str, *, every: int = 5, changed: tuple[str, str] = ("", "")
) -> Iterator[Stack]:
    """Both of them as `ops` configures them, with this target.

    Skips where Debian's packages are not installed.

    :param every: seconds between scrapes, and how long one may take.
    :param changed: an expression of the rules, and the one in its place.
    """
    programs = [shutil.which(name) for name in ("prometheus", "prometheus-alertmanager")]
    if None in programs:
        pytest.skip("apt-get install prometheus prometheus-alertmanager")
    told = Told()
    with _webhook(told) as webhook:
        alertmanager, prometheus = free_port(), free_port()
        configured = (OPS / "alertmanager" / "alertmanager.yml").read_text()
        # What lasts is not told again meanwhile, however slow the machine is.
        configured = configured.replace("repeat_interval: 5m", "repeat_interval: 12h")
        (folder / "alertmanager.yml").write_text(
            configured.replace("http://127.0.0.1:9094/", webhook)
        )
        configured = (OPS / "prometheus" / "prometheus.yml").read_text()
        configured = configured.replace("127.0.0.1:9093", f"127.0.0.1:{alertmanager}")
        configured = configured.replace(
            "scrape_interval: 5s", f"scrape_interval: {every}s\n  scrape_timeout: {every}s"
        )
        (folder / "prometheus.yml").write_text(configured.replace("127.0.0.1:9108", target))
        rules = (OPS / "prometheus" / "rules.yml").read_text()
        assert changed[0] in rules
        (folder / "rules.yml").write_text(rules.replace(*changed) if changed[0] else rules)
        commands = [
            [
                str(programs[1]),
                f"--config.file={folder}/alertmanager.yml",
                f"--storage.path={folder}/alertmanager",
                f"--web.listen-address=127.0.0.1:{alertmanager}",
                "--cluster.listen-address=",
            ],
            [
                str(programs[0]),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/prometheus",
                f"--web.listen-address=127.0.0.1:{prometheus}",
                "--rules.alert.resend-delay=10s",
            ],
        ]
        servers = [_started(command, folder) for command in commands]
        try:
            for port in (alertmanager, prometheus):
                _wait_until_ready(f"http://127.0.0.1:{port}/-/ready")
            yield Stack(f"http://127.0.0.1:{prometheus}", told)
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.wait(20)


def _started(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)


def _wait_until_ready(url: str) -> None:
    for _ in range(300):
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{url} does not answer")


@contextmanager
def _webhook(told: Told) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                told.posts.append(
                    (time.time(), alert["status"], alert["labels"], alert["annotations"])
                )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
