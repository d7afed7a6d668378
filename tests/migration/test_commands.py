"""``jts-storage migrate`` and ``check`` as people and pipelines run them: as processes."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jts_storage import migrate
from jts_storage.cli.main import app
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.migrate import files
from jts_storage.relational.manager import DatabaseManager
from tests import forked

SHELL = Path(__file__).parents[1] / "integration" / "cli" / "shell.py"
COMMAND = ["-m", "jts_storage.cli.main"]
SILENT = {
    "clickhouse": {"JTS_CLICKHOUSE_URL": "clickhouse://u:secret@127.0.0.1:9/jts"},
    "mongo": {"JTS_MONGO_URL": "mongodb://u:secret@127.0.0.1:9/?serverSelectionTimeoutMS=500"},
    "relational": {"JTS_DATABASE_URL": "postgresql://u:secret@127.0.0.1:9/jts"},
}
FILL = """
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.settings import StorageSettings
with ClickHouseManager(StorageSettings.load().clickhouse()) as manager:
    manager.execute(
        "CREATE TABLE candles (symbol String, exchange String, timeframe String,"
        " timestamp DateTime64(3), open Decimal64(4), high Decimal64(4), low Decimal64(4),"
        " close Decimal64(4), volume UInt64) ENGINE = MergeTree"
        " ORDER BY (symbol, timeframe, timestamp)"
    )
    manager.execute(
        "INSERT INTO candles SELECT 'S', 'KRX', '1m', fromUnixTimestamp64Milli(toInt64(number)),"
        " 1, 2, 1, 2, 5 FROM numbers(2100)"
    )
"""


@pytest.fixture
def environment(tmp_path: Path, mongod: LocalMongod) -> dict[str, str]:
    """Embedded stores below a new folder, but for MongoDB, which takes long to start."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("JTS_")}
    return bare | {
        "JTS_DATA_DIR": str(tmp_path / "data"),
        "JTS_MONGO_URL": mongod.uri,
        "JTS_MONGO_DATABASE": f"migrated_{uuid.uuid4().hex[:10]}",
        "COLUMNS": "200",
    }


def run(
    environment: Mapping[str, str], *arguments: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    done = forked.run([*COMMAND, *arguments], env=environment, warnings=forked.STRICT, timeout=60)
    assert done.returncode == code, f"{arguments}: {done}"
    return done


async def test_each_exit_code_once(environment: dict[str, str], tmp_path: Path) -> None:
    """The short form of what follows."""
    differs = run(environment, "check", "--format", "github", "--store", "clickhouse", code=1)
    assert differs.stdout.startswith("::error title=clickhouse ")
    silent = environment | SILENT["mongo"]
    blind = run(silent, "check", "--store", "mongo", code=2)
    assert _says_error(blind.stderr)
    assert "secret" not in blind.stderr
    (tmp_path / "data").mkdir(exist_ok=True)
    async with DatabaseManager(tmp_path / "data" / "bookkeeping.db") as database:
        await migrate.up(migrate.Databases(database=database))
    agrees = run(environment, "check", "--json", "--store", "relational")
    assert json.loads(agrees.stdout) == {"agrees": True, "differences": []}


@pytest.mark.slow
@pytest.mark.parametrize("store", files.STORES)
def test_exit_codes(environment: dict[str, str], store: str) -> None:
    """1 differs, 0 agrees, 2 could not look; in every way of printing."""
    only = ("--store", store)
    differs = run(environment, "check", "--format", "github", *only, code=1)
    for line in differs.stdout.splitlines():
        assert re.fullmatch(rf"::error title={store} [^:,]+::{store} .+ mend it with.+", line)
    assert len(differs.stdout.splitlines()) >= len(files.discover(store))  # type: ignore[arg-type]

    run(environment, "migrate", "up", "--json", *only)
    agrees = run(environment, "check", "--json", *only)
    assert json.loads(agrees.stdout) == {"agrees": True, "differences": []}

    blind = run(environment | SILENT[store], "check", "--json", *only, code=2)
    assert blind.stdout == ""
    assert _says_error(blind.stderr)
    assert "127.0.0.1:9" in blind.stderr
    assert "secret" not in blind.stderr
    assert "Traceback" not in blind.stderr


class Shell:
    """A process that runs commands: each would take most of its time to import."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._process = forked.Process(
            [SHELL],
            env=environment,
            stdin=forked.PIPE,
            stdout=forked.PIPE,
            warnings=forked.STRICT,
        )

    def __call__(self, *arguments: str, code: int = 0, told: str = "out") -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert answer["code"] == code, f"{arguments}: {answer}"
        return str(answer[told])

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture
def shell(environment: dict[str, str]) -> Iterator[Shell]:
    opened = Shell(environment)
    yield opened
    opened.close()


def test_an_embedded_clickhouse_is_led_up_and_down(
    environment: dict[str, str], shell: Shell, tmp_path: Path
) -> None:
    only = ("--store", "clickhouse")
    forked.run(["-c", FILL], env=environment, check=True, timeout=60)

    def states() -> list[str]:
        listed = json.loads(shell("migrate", "status", "--json", *only))
        assert [line["revision"] for line in listed] == [f"{number:04}" for number in range(1, 9)]
        return [line["state"] for line in listed]

    assert states() == ["pending"] * 8
    plan = [
        "plan: clickhouse up 0001 jts schema",
        "plan: clickhouse up 0002 candles are upserts",
        "plan: clickhouse up 0003 symbols to the millisecond",
        "plan: clickhouse up 0004 codecs that read quicker",
        "plan: clickhouse up 0005 symbols have versions",
        "plan: clickhouse up 0006 candles lie by timeframe",
        "plan: clickhouse up 0007 candles have a history",
        "plan: clickhouse up 0008 versions take less room",
    ]
    assert shell("migrate", "up", "--dry-run", *only).splitlines() == plan
    dry = json.loads(shell("migrate", "up", "--dry-run", "--json", *only))
    assert (dry["done"], len(dry["steps"])) == (False, 8)
    for script in (shell("migrate", "sql", *only), shell("migrate", "up", "--sql", *only)):
        assert script.count("EXCHANGE TABLES") == 4
    as_json = json.loads(shell("migrate", "sql", "--json", *only))
    assert as_json["sql"].count("EXCHANGE TABLES") == 4
    assert states() == ["pending"] * 8, "nothing was done yet"

    done = shell("migrate", "up", *only)
    assert done.splitlines()[:8] == plan
    assert len(re.findall(r"^clickhouse up \d{4} .* done in \d+\.\d\d s$", done, re.M)) == 8
    assert "rows" not in done, "progress is for terminals"
    assert states() == ["applied"] * 8
    assert re.search(r"0002 +pre +applied +\d{4}-\d\d-\d\d", shell("migrate", "status", *only))

    assert "EXCHANGE TABLES candles" in shell("migrate", "down", "--to", "1", "--sql", *only)
    shell("migrate", "down", *only, code=1)  # it asks, and nobody answers
    down = json.loads(shell("migrate", "down", "--to", "5", "--yes", "--json", *only))
    assert [step["revision"] for step in down["steps"]] == ["0008", "0007", "0006"]
    assert states() == ["applied"] * 5 + ["pending"] * 3
    shell("check", *only, code=1)
    shell("migrate", "up", "--to", "8", *only)

    shell("migrate", "stamp", "1", *only)
    assert states() == ["applied"] + ["pending"] * 7
    stamped = json.loads(shell("migrate", "stamp", "head", "--json", *only))
    assert stamped == {"revision": "head", "stores": ["clickhouse"], "chains": ["kit"]}
    shell("check", *only)
    folder = tmp_path / "migrations"
    (folder / "clickhouse" / "versions").mkdir(parents=True)
    template = files.root() / "clickhouse" / "script.py.mako"
    (folder / "clickhouse" / template.name).write_text(template.read_text())
    written = shell("migrate", "new", "A note", "--folder", str(folder), *only).strip()
    assert written == str(folder / "clickhouse" / "versions" / "0001_a_note.py")

    compared = json.loads(shell("migrate", "drop-legacy", "--dry-run", "--json"))
    counts = {"in_its_place": "candles", "rows": 2100, "keys": 2100, "missing": 0}
    # Each way up has copied them once more.
    kept = ["candles_legacy", "candles_legacy_2", "candles_legacy_3"]
    assert compared["tables"] == [{"table": name, **counts} for name in kept]
    shell("migrate", "drop-legacy", code=1)  # it asks, and nobody answers
    dropped = shell("migrate", "drop-legacy", "--yes")
    assert "2,100" in dropped
    assert dropped.endswith(f"Dropped: {', '.join(kept)}.\n")
    assert shell("migrate", "drop-legacy", "--yes") == "Nothing is kept.\n"


def test_a_traceback_is_shown_to_those_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JTS_DATABASE_URL", SILENT["relational"]["JTS_DATABASE_URL"])
    for command in (["check"], ["migrate", "status"], ["migrate", "up"]):
        for debug in (["--debug"], []):
            told = CliRunner().invoke(app, [*debug, *command, "--store", "relational"])
            assert told.exit_code == 2
            assert ("Traceback" in told.stderr) == bool(debug)
            assert _says_error(told.stderr)


def test_progress_is_shown_on_a_terminal(environment: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    command = f"{FILL}\nfrom jts_storage.cli.main import main\nmain()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "migrate", "up", "--store", "clickhouse"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    )
    out, _ = process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert process.returncode == 0, shown
    parts: list[Any] = [part for part in shown.split("\r\x1b[2K") if part]
    assert parts[0] == "candles to candles_new: 0 of 2,100 rows, 0/s"
    assert re.fullmatch(
        r"candles to candles_new: 2,100 of 2,100 rows, [\d,]+/s, 0 s left", parts[1]
    )
    assert shown.endswith("\r\x1b[2K"), "the line is gone when the steps are"
    assert "candles_new" not in out


def _says_error(text: str) -> bool:
    """Not always on the last line: Python may tell of a socket that the driver left open."""
    return any(line.startswith("Error: ") for line in text.splitlines())
