"""`metrics`, `diagnose` and `serve --metrics` on real stores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.cli.main import main
from jts_storage.cli.watching import Watch
from jts_storage.memory.backend import InMemoryBackend
from tests.remote.gateways import remote


@contextmanager
def command(folder: Path, *arguments: str) -> Iterator[tuple[list[str], subprocess.Popen[str]]]:
    """A command that serves, and the addresses that it tells."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jts_storage.cli.main", *arguments, "--json"],
        env=os.environ | {"JTS_DATA_DIR": str(folder / "jts")},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        told = [json.loads(process.stdout.readline())["serving"]]
        if arguments[0] == "serve":
            told.append(json.loads(process.stdout.readline())["serving"])
        yield told, process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "")
    finally:
        process.kill()
        process.wait()


def read(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def counted(text: str) -> str:
    """The line that says how often formulas were listed."""
    (line,) = [
        line
        for line in text.splitlines()
        if line.startswith("jts_storage_call_seconds_count") and 'operation="list"' in line
    ]
    return line


async def test_what_a_gateway_serves_counts_the_calls_of_its_clients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = Watch(("127.0.0.1", 0))
    backend = watch.observed(InMemoryBackend())
    async with Storage(backend) as stores, watch.of(stores, as_json=True):
        async with remote(backend, tmp_path) as storage:
            for _ in range(3):
                await storage.formulas.list()
        served = json.loads(capsys.readouterr().out)["serving"]
        text = await asyncio.to_thread(read, served)
    assert counted(text).endswith(" 3.0")
    assert 'jts_storage_up{store="memory"} 1.0' in text


@pytest.mark.slow
async def test_a_gateway_counts_the_calls_of_its_clients(tmp_path: Path) -> None:
    with command(tmp_path, "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0") as (
        (metrics, *_),
        process,
    ):
        assert process.stdout is not None
        gateway = json.loads(await asyncio.to_thread(process.stdout.readline))["serving"]
        settings = StorageSettings(url=f"grpc://{gateway}", env_file=None)
        async with Storage.open(settings) as storage:
            for _ in range(3):
                await storage.formulas.list()
        text = await asyncio.to_thread(read, metrics)
    assert 'store="mongo"' in counted(text)
    assert counted(text).endswith(" 3.0")
    assert 'jts_storage_up{store="clickhouse"} 1.0' in text


def run(folder: Path, *arguments: str) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "jts_storage.cli.main", *arguments],
        env=os.environ | {"JTS_DATA_DIR": str(folder / "jts")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.slow
def test_they_print_what_is_known(tmp_path: Path) -> None:
    printed = run(tmp_path, "metrics")
    assert printed.returncode == 0
    assert 'jts_storage_up{store="mongo"} 1.0' in printed.stdout
    samples = json.loads(run(tmp_path, "metrics", "--json").stdout)
    assert {
        "name": "jts_storage_migrations_pending",
        "labels": {"store": "mongo"},
        "value": 0.0,
    } in samples
    page = run(tmp_path, "diagnose")
    assert "Stores\n" in page.stdout
    assert json.loads(run(tmp_path, "diagnose", "--json").stdout)["stores"]["mongo"] is True


def test_a_wrong_address_is_told_before_anything_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JTS_DATA_DIR", str(tmp_path / "jts"))
    for option in (["metrics", "--listen", "9108"], ["serve", "--metrics", "here:x"]):
        monkeypatch.setattr(sys, "argv", ["jts-storage", *option])
        with pytest.raises(SystemExit) as refused:
            main()
        assert refused.value.code == 2
        assert f"{option[1]} is" in capsys.readouterr().err
        assert not (tmp_path / "jts").exists()
