"""What ``jts-storage coverage`` says in the terminal, and what it costs to come to that."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from jts_storage.cli.coverage_looks import counted_up, draw
from jts_storage.domain.gaps import Gap
from tests.unit.cli.test_cli_output import one_of


def test_series_are_counted_up_in_a_line() -> None:
    shown = one_of(1)
    whole = replace(shown, coverage=replace(shown.coverage, gaps=(), rows=3))
    assert counted_up([whole]) == "1 series, 3 rows; nothing is missing."
    start = shown.coverage.gaps[0].start
    gaps = (Gap(start, start, 2),)
    lacks = replace(whole, coverage=replace(whole.coverage, gaps=gaps, rows=1))
    assert counted_up([whole, lacks]) == "2 series, 4 rows; 1 of them lacks 2 candles."
    assert counted_up([lacks, lacks]) == "2 series, 2 rows; 2 of them lack 4 candles."


def test_each_series_is_drawn_in_two_lines(capsys: pytest.CaptureFixture[str]) -> None:
    draw([one_of(1, days=60), one_of(2, days=400)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[::2]] == ["KRX:S001/1d", "KRX:S002/1d"]
    assert [line.split()[0] for line in lines[1::2]] == ["2024-01-02", "2024-01-02"]
    assert len(lines) == 4
    draw([])
    assert capsys.readouterr().out == "No candles are stored.\n"


def test_a_command_seldom_looks_for_garbage() -> None:
    script = (
        "import gc, sys\n"
        "looked = []\n"
        "gc.callbacks.append(lambda phase, told: looked.append(phase))\n"
        "from jts_storage.cli import command\n"
        "try:\n    command()\n"
        "except SystemExit:\n    print(len(looked))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "coverage", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.splitlines()[-1]) < 20
