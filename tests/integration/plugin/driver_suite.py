"""Runs clickhouse-driver's own tests against the endpoint; `docs/reference/clickhouse-endpoint.md`
holds what came of it.

    python tests/integration/plugin/driver_suite.py CHECKOUT [options of pytest]

CHECKOUT is a copy of clickhouse-driver's repository; it is read, never written.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.embedded.engine import MEMORY
from jts_storage.testing.clickhouse_server import ClickHouseServer

DATABASE = "test"
# The tests expect these. The engine reads its zone once, when it starts.
SERVER_ZONE, CLIENT_ZONE = "Europe/Moscow", "UTC"
_connection: Any = None


def emit_cli(
    _case: type[Any],
    /,
    statement: str,
    database: str = DATABASE,
    encoding: str = "utf-8",
    **settings: Any,
) -> str:
    """What the tests ask of ClickHouse's command-line client: the engine itself answers.

    Its client of the same version would do as well, and needs a download of its own.
    """
    if settings.pop("use_client_time_zone", 0):
        settings["session_timezone"] = os.environ["TZ"]
    _connection.query(f"USE {database}")
    for name, value in settings.items():
        _connection.query(f"SET {name} = '{value}'")
    try:
        return str(_connection.query(str(statement), "TabSeparated").bytes().decode(encoding))
    finally:
        for name in settings:
            _connection.query(f"SET {name} = DEFAULT")


@pytest.fixture(autouse=True, scope="session")
def endpoint() -> Iterator[ClickHouseServer]:
    global _connection
    with ClickHouseServer(MEMORY, database=DATABASE, credentials={"default": ""}) as server:
        os.environ["TZ"] = CLIENT_ZONE
        time.tzset()
        testcase = importlib.import_module("tests.testcase")
        _connection = engine.acquire(MEMORY)
        testcase.BaseTestCase.host = server.host
        testcase.BaseTestCase.port = server.port
        testcase.BaseTestCase.emit_cli = classmethod(emit_cli)
        yield server
        engine.release(_connection)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path)
    known, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        # Without the package itself: the installed one, with its compiled parts, is under test.
        shutil.copytree(known.checkout / "tests", Path(scratch, "tests"))
        shutil.copy(known.checkout / "setup.cfg", scratch)
        paths = [scratch, str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        command = [sys.executable, "-m", "pytest", "-p", "driver_suite", "-p", "no:randomly"]
        return subprocess.run(
            [*command, *options, "tests"],
            cwd=scratch,
            env={**os.environ, "TZ": SERVER_ZONE, "PYTHONPATH": os.pathsep.join(paths)},
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main())
