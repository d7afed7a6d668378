"""Every command while another process has the folder and serves it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import pytest

from jts_storage.cli.main import _COMMANDS
from tests import forked
from tests.prepared import Prepared
from tests.remote.others import Other

PRICES: Final = """timestamp,open,high,low,close,volume
2024-01-02T10:00:00+09:00,78500,79000,78000,78600,1234
2024-01-02T10:01:00+09:00,78600,79000,78000,78700,10
2024-01-02T10:05:00+09:00,78700,79000,78000,78800,5
"""
SERIES: Final = ("-s", "005930", "-t", "1m", "-x", "KRX")
KEY: Final = "KRX:005930/1m"

WORK: Final = (
    "symbols add 005930 Samsung KOSPI",
    "import prices.csv --timezone Asia/Seoul " + " ".join(SERIES),
    "export out.csv " + " ".join(SERIES),
    f"show {KEY}",
    f"history {KEY}",
    "query SELECT(count())FROM`candles`",
    "validate",
    "coverage",
    "reconcile -s 005930 -x KRX",
    "health",
    "recover",
    "recover --dry-run",
    "quarantine list",
    "events list",
    "events retry",
    "symbols list",
    "formulas list",
    "strategies list",
    "snapshots create before",
    "snapshots list",
    "backtests list",
    "check",
    "check --store clickhouse",
    "migrate status",
    "migrate up --store mongo",
    "demo --folder demo --json",
    "token somebody",
    "metrics",
    "diagnose",
    "limits",
    "services down",
    "services certs --folder certificates",
)
"""Each with exit code 0, in this order."""

REFUSED: Final = {
    "backup create --repository backups": "stop that process first",
    "migrate up": "Stop that process",
    "serve": "which serves it already",
    "check --folder migrations": "--folder",
}
"""Each with exit code 2, and what it says."""


@pytest.fixture
async def folder(
    tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None]
) -> AsyncIterator[Path]:
    engine_used("chDB")
    engine_used("SQLite")
    prepared.copy(tmp_path / "data")
    (tmp_path / "data").chmod(0o700)
    (tmp_path / "prices.csv").write_text(PRICES)
    service = Other(tmp_path / "data")
    try:
        assert await service.said() == "open direct"
        yield tmp_path
    finally:
        service.kill()


def run(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "JTS_DATA_DIR": str(folder / "data"), "COLUMNS": "200"}
    arguments = ["-m", "jts_storage.cli.main", *command.split(" ")]
    return forked.run(arguments, cwd=folder, env=environment, timeout=120)


def test_every_command_is_among_them() -> None:
    assert {command.split(" ")[0] for command in (*WORK, *REFUSED)} == set(_COMMANDS)


@pytest.mark.slow
async def test_every_command_works_or_says_what_to_stop(folder: Path) -> None:
    said, failed = {}, []
    for command in WORK:
        done = await asyncio.to_thread(run, folder, command)
        if done.returncode != 0:
            failed.append(f"{command}: {done.stdout}{done.stderr}")
        said[command] = done.stdout
    assert failed == [], "\n".join(failed)
    assert said["query SELECT(count())FROM`candles`"].split()[-1] == "3"
    assert len((folder / "out.csv").read_text().splitlines()) == 4
    for command, text in REFUSED.items():
        done = await asyncio.to_thread(run, folder, command)
        assert done.returncode == 2, f"{command}: {done.stdout}{done.stderr}"
        assert text in done.stderr


async def test_questions_are_refused_as_they_are_beside_the_engine(folder: Path) -> None:
    for statement, text in (
        ("INSERT INTO candles SELECT 1", "only reads"),
        ("SELECT 1 FROM candels", "Did you mean candles"),
        ("SELECT 1 INTO OUTFILE 'x'", "only reads"),
    ):
        environment = {**os.environ, "JTS_DATA_DIR": str(folder / "data")}
        arguments = ["-m", "jts_storage.cli.main", "query", statement]
        done = await asyncio.to_thread(forked.run, arguments, cwd=folder, env=environment)
        assert done.returncode == 2
        assert text in done.stderr


async def test_values_are_printed_as_they_are_beside_the_engine(folder: Path) -> None:
    statement = (
        "SELECT toDecimal64('1.5', 4) AS d, [1, 2] AS l, NULL AS n, toDate('2024-01-02') AS t"
    )
    environment = {**os.environ, "JTS_DATA_DIR": str(folder / "data")}
    arguments = ["-m", "jts_storage.cli.main", "query", "--json", statement]
    done = await asyncio.to_thread(forked.run, arguments, cwd=folder, env=environment)
    assert json.loads(done.stdout) == [{"d": "1.5", "l": [1, 2], "n": None, "t": "2024-01-02"}]
