"""The worker of the page on operations ends at SIGTERM, and has stored what it printed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jts_storage import Storage, StorageSettings

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "how-to" / "operations.md"


def stopped_worker(folder: Path, number: signal.Signals) -> int:
    """Run the worker, stop it after twenty steps, and return the last number that it printed."""
    worker = subprocess.Popen(
        [sys.executable, "worker.py"],
        cwd=folder,
        env=os.environ | {"JTS_DATA_DIR": str(folder / "jts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    while worker.stdout.readline() != "20\n":
        assert worker.poll() is None
    worker.send_signal(number)
    output, errors = worker.communicate(timeout=60)
    assert (worker.returncode, errors) == (0, "")
    return int(output.split()[-1]) if output.split() else 20


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
async def test_it_ends_by_itself_under_load(tmp_path: Path, number: signal.Signals) -> None:
    found = re.search(r'```python title="worker.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "worker.py").write_text(found[1])
    printed = await asyncio.to_thread(stopped_worker, tmp_path, number)
    settings = StorageSettings(data_dir=tmp_path / "jts", env_file=None)
    async with Storage.open(settings) as storage:
        assert await storage.recover() == 0
        checkpoint = await storage.ingestion.checkpoints.get("worker")
    assert checkpoint is not None
    assert checkpoint.data["step"] == printed
