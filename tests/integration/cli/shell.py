"""Runs commands in one process, as many as are asked for: a line of JSON each, and one in answer.

A process a command would spend nearly all of its time on importing.
"""

from __future__ import annotations

import json
import sys

from typer.testing import CliRunner

from jts_storage.cli.main import app
from jts_storage.clickhouse.embedded import engine


def main() -> None:
    engine.WARN_EVERY = 1_000_000  # a command of its own process opens it once
    runner = CliRunner()
    for line in sys.stdin:
        result = runner.invoke(app, json.loads(line))
        answer = {"code": result.exit_code, "out": result.stdout, "err": result.stderr}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
