"""Ten million ticks of a declared table: appended in blocks, read by stream, the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
SERVICE = Path(__file__).with_name("ticking_service.py")
SPREAD = 256
"""MiB by which the peak of ten million may lie above that of two; eight million ticks are 366."""


def ticked(folder: Path, millions: int) -> dict[str, Any]:
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, str(SERVICE), str(folder), str(millions)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.slow
def test_ten_million_ticks_come_back_in_constant_memory(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    for engine in ("mongod", "chDB", "SQLite"):
        engine_used(engine)
    few, many = (ticked(tmp_path / str(millions), millions) for millions in (2, 10))
    sys.stdout.write(f"{few['seconds']} {few['peak_mib']}\n{many['seconds']} {many['peak_mib']}\n")
    assert many["given"]["rows"] == 10_000_000
    for told in (few, many):
        assert told["found"] == told["given"]
    assert many["peak_mib"]["read"] < few["peak_mib"]["read"] + SPREAD
