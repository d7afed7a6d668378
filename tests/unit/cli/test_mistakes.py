"""Mistakes on the command line are told before anything that takes long."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jts_storage.cli.imports import _BLOCK_ROWS, _FLOATS
from jts_storage.cli.show import _FIELDS
from jts_storage.domain.columns import FIELDS
from jts_storage.usecases.any_storage import BLOCK_ROWS

HEAVY = {"numpy", "pyarrow", "rich.console", "chdb", "pymongo", "sqlalchemy", "pandas"} | {
    "jts_storage.settings"
}
Answers = tuple[dict[tuple[str, ...], str], set[str]]
DAILY = ("-s", "005930", "-t", "1d")

MISTAKES = {
    ("show", "KRX:005930/7m"): "7m",
    ("show", "005930/1d", "--start", "31/12/2020"): "--start",
    ("show", "005930/1d", "--end", "today"): "--end",
    ("show", "005930/1d", "--timezone", "Asia/Soul"): "--timezone",
    ("show", "005930/1d", "--last", "0"): "--last",
    ("coverage", "--sort", "size"): "--sort",
    ("coverage", "-t", "7m"): "--timeframe",
    ("coverage", *DAILY, "--backfill", "2024", "2025"): "--backfill",
    ("coverage", "--timezone", "Soul"): "--timezone",
    ("export", "a.csv", "-s", "005930", "-t", "7m"): "--timeframe",
    ("export", "a.csv", *DAILY, "--resample", "2d"): "--resample",
    ("export", "a.csv", *DAILY, "--start", "then"): "--start",
    ("validate", "--jump", "much"): "--jump",
    ("validate", "--tick", "krw"): "--tick",
    ("validate", "--end", "then"): "--end",
    ("reconcile", "-t", "7m"): "--timeframe",
    ("import", "nowhere.csv", *DAILY): "There is no file nowhere.csv",
    ("import", "-", "-s", "A", "-t", "7m"): "--timeframe",
    ("import", "-", *DAILY, "--floats", "yes"): "--floats",
    ("import", "-", *DAILY, "--on-error", "skip"): "--on-error",
    ("import", "-", *DAILY, "--time-unit", "m"): "--time-unit",
    ("import", "-", *DAILY, "--skip-lines", "-1"): "--skip-lines",
    ("import", "-", *DAILY, "--skip-lines", "2000"): "--skip-lines",
    ("import", "-", *DAILY, "--column", "close"): "--column",
    ("import", "-", *DAILY, "--create", "KOSPPI"): "--create",
    ("import", "-", *DAILY, "--timezone", "Soul"): "--timezone",
    ("symbols", "list", "--limit", "0"): "--limit",
    ("symbols", "add", "A", "Name", "KOSPPI"): "KOSPPI",
    ("backtests", "search", "--best", "luck"): "luck",
    ("check", "--store", "redis"): "--store",
    ("check", "--format", "xml"): "--format",
    ("query", "SELECT 1 FORMAT CSV"): "--csv or --json",
    ("query", "SELECT 1 FORMAT CSV -- all"): "--csv or --json",
    ("query", "SELECT 1 FORMAT CSV SETTINGS max_threads = 1"): "--csv or --json",
    ("query", "SELECT $$'$$ FORMAT CSV"): "--csv or --json",
    ("query", "SELECT 1 INTO /* a */ OUTFILE 'a'"): "only reads",
}

RUN = """
import json, sys
from typer.testing import CliRunner
from jts_storage.cli.main import app
runner = CliRunner()
told = []
for line in json.load(sys.stdin):
    result = runner.invoke(app, line)
    error = result.exception
    named = "" if isinstance(error, SystemExit) else f"Error: {error}"
    told.append([result.exit_code, result.stderr + named])
json.dump([told, list(sys.modules)], sys.stdout)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """What each mistake was answered with, in one process, and which modules that imported."""
    folder = tmp_path_factory.mktemp("empty")
    run = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(list(MISTAKES)),
        capture_output=True,
        text=True,
        cwd=folder,
        check=True,
    )
    told, modules = json.loads(run.stdout)
    assert not list(folder.iterdir()), "stores were opened"
    return dict(zip(MISTAKES, (text for _, text in told), strict=True)), set(modules)


@pytest.mark.parametrize("line", MISTAKES, ids=" ".join)
def test_it_is_named(line: tuple[str, ...], answers: Answers) -> None:
    assert MISTAKES[line] in answers[0][line]


def test_nothing_heavy_is_imported(answers: Answers) -> None:
    assert HEAVY & answers[1] == set()


def test_what_is_repeated_here_is_what_the_use_case_has() -> None:
    from typing import get_args

    from jts_storage.readers.values import FloatRule

    assert _BLOCK_ROWS == BLOCK_ROWS
    assert _FIELDS == FIELDS
    assert set(_FLOATS) == set(get_args(FloatRule))


def test_a_file_that_is_there_is_no_mistake(tmp_path: Path) -> None:
    from jts_storage.cli.imports import _alone

    there = tmp_path / "a.csv"
    there.touch()
    for sources in ([there], [Path("-")], [Path("*.csv")], [Path("a"), Path("b")], [tmp_path]):
        assert _alone(sources) == sources
