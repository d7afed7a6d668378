"""Runs commands in one process, as many as are asked for: a line of JSON each, and one in answer.

A process a command would spend nearly all of its time on importing. With the argument ``holds``
the embedded engine goes on from one command to the next, as it does in a service: starting it takes
longer than a command.
"""

from __future__ import annotations

import json
import sys

from typer.testing import CliRunner

from jts_storage import StorageSettings
from jts_storage.cli.main import app
from jts_storage.clickhouse.embedded import engine
from jts_storage.clickhouse.manager import ClickHouseManager


def main() -> None:
    engine.WARN_EVERY = 1_000_000  # a command of its own process opens it once
    if "holds" in sys.argv:
        ClickHouseManager(StorageSettings().clickhouse(), pool_size=1).connect()
    runner = CliRunner()
    for line in sys.stdin:
        result = runner.invoke(app, json.loads(line))
        answer = {"code": result.exit_code, "out": result.stdout, "err": result.stderr}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
