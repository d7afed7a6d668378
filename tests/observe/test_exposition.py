"""Metrics by HTTP: as an ASGI application, and from a server of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from jts_storage import Storage, StorageError
from jts_storage.backup import BackupRuns, Verified
from jts_storage.observe import Exposition, Metrics, MetricsServer
from jts_storage.observe.catalogue import OF_STATE
from jts_storage.observe.state import StorageState

PROVEN = Verified(backup_id="a", objects=1, bytes=1, seconds=1, was_restored=True)


async def test_it_is_an_asgi_application() -> None:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> Any:
        raise AssertionError("nothing is read of a request")

    metrics = Metrics()
    async with Storage.in_memory(observer=metrics) as storage:
        exposition = Exposition(storage, metrics)
        await exposition({"type": "http"}, receive, send)
        await exposition({"type": "lifespan"}, receive, send)
    start, body = sent
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert b'jts_storage_up{store="memory"} 1.0' in body["body"]
    assert b"jts_storage_call_seconds_count" in body["body"]


async def _asked(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_server_answers_what_it_knows_and_refuses_the_rest() -> None:
    async with Storage.in_memory() as storage:

        async def health() -> tuple[bool, dict[str, bool]]:
            return False, {"mongo": False}

        server = await MetricsServer(Exposition(storage), health).start("127.0.0.1", 0)
        answers = {
            request: await _asked(server.port, request)
            for request in (
                b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n",
                b"GET /metrics?a=b HTTP/1.0\r\n\r\n",
                b"GET /health HTTP/1.1\r\n\r\n",
                b"GET / HTTP/1.1\r\n\r\n",
                b"POST /metrics HTTP/1.1\r\n\r\n",
                b"\x16\x03\x01\r\n\r\n",
                b"x" * 100_000,
            )
        }
        await server.stop()
    first = [answer.partition(b"\r\n")[0] for answer in answers.values()]
    assert first == [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 503 Service Unavailable",
        b"HTTP/1.1 404 Not Found",
        b"HTTP/1.1 405 Method Not Allowed",
        b"HTTP/1.1 405 Method Not Allowed",
        b"",
    ]


class _Slow:
    """A storage whose stores do not answer."""

    async def health(self) -> Any:
        await asyncio.sleep(60)


async def test_what_does_not_answer_in_time_leaves_the_figures_of_before() -> None:
    async with Storage.in_memory() as storage:
        state = StorageState(storage, within=1)
        before = {sample.metric.name: sample.value for sample in await state.read()}
        state._storage, state._within = _Slow(), 0.01  # type: ignore[assignment]
        after = {sample.metric.name: sample.value for sample in await state.read()}
    assert before["state_is_fresh"] == 1
    assert after["state_is_fresh"] == 0
    assert after["up"] == before["up"] == 1


def test_no_metric_of_the_state_is_a_histogram() -> None:
    assert {each.kind for each in OF_STATE} == {"gauge", "counter"}


_WORKER = """
import asyncio, os, signal, sys
from pathlib import Path
from jts_storage import Storage
from jts_storage.observe import Exposition, Metrics

async def main(metrics, is_last):
    async with Storage.in_memory(observer=metrics) as storage:
        for _ in range(3):
            await storage.formulas.list()
        if not is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        folder = Path(sys.argv[1])
        print(await Exposition(storage, metrics, multiprocess=folder).text())

shared = Metrics()
for metrics in (shared, None, None):
    child = os.fork()
    if not child:
        asyncio.run(main(metrics or Metrics(), is_last=False))
    os.waitpid(child, 0)
asyncio.run(main(shared, is_last=True))
"""


def test_several_processes_count_together_though_some_were_killed(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(textwrap.dedent(_WORKER))
    shared = tmp_path / "shared"
    shared.mkdir()
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    run = subprocess.run(
        [sys.executable, str(worker), str(shared)], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    lines = [line for line in run.stdout.splitlines() if not line.startswith("#")]
    (line,) = [
        line
        for line in lines
        if line.startswith("jts_storage_call_seconds_count") and 'operation="list"' in line
    ]
    assert float(line.rpartition(" ")[2]) == 4 * 3
    # No process has series of its own: each restart of a worker would leave some for ever.
    assert [line for line in lines if "pid=" in line] == []


async def test_a_repository_of_backups_that_cannot_be_read_hides_nothing_else() -> None:
    def unreadable() -> list[datetime | None]:
        raise StorageError("There is no repository there.")

    def damaged() -> list[datetime | None]:
        return [None, datetime.now(UTC) - timedelta(hours=2), datetime.now(UTC) - timedelta(days=3)]

    found: list[dict[str, float]] = []
    async with Storage.in_memory() as storage:
        for backups in (unreadable, damaged, list):
            state = StorageState(storage, within=10, backups=backups)
            found.append({sample.metric.name: sample.value for sample in await state.read()})
    assert [each["up"] for each in found] == [1, 1, 1]
    assert all("backup_failed" not in each for each in found)
    assert [each["backups_readable"] for each in found] == [0, 2, 0]
    assert found[1]["backups_damaged"] == 1
    assert 2 * 3_600 <= found[1]["backup_age_seconds"] < 3 * 3_600


async def test_what_takes_long_is_looked_at_again_when_it_is_time() -> None:
    looks: list[float] = []

    def backups() -> list[datetime | None]:
        looks.append(monotonic())
        return []

    async with Storage.in_memory() as storage:
        for every, most in ((0.0, 3), (600.0, 4)):
            state = StorageState(storage, within=10, every=every, backups=backups)
            for _ in range(3):
                await state.read()
            assert len(looks) == most


async def test_what_came_of_the_last_backup_is_told() -> None:
    runs = BackupRuns()
    found: list[dict[str, float]] = []
    async with Storage.in_memory() as storage:
        state = StorageState(storage, within=10, backup_runs=runs)
        for outcome in (None, StorageError("The disk is full."), PROVEN):
            if outcome is not None:
                runs(outcome)
            found.append({sample.metric.name: sample.value for sample in await state.read()})
    assert [each.get("backup_failed") for each in found] == [None, 1, 0]
    ages = [each.get("backup_verified_age_seconds") for each in found]
    assert ages[:2] == [None, None]
    assert ages[2] is not None
    assert 0 <= ages[2] < 3_600
