"""A worker ends at SIGTERM, and has stored what it acknowledged: whole, and nothing by halves.

With real processes and embedded stores, so by night.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "how-to" / "operations.md"
LANES = 50


def stopped_worker(folder: Path, number: signal.Signals, after: int) -> list[str]:
    """Run ``worker.py``, stop it once it has acknowledged so much, and return all of that."""
    worker = subprocess.Popen(
        [sys.executable, "worker.py"],
        cwd=folder,
        env=os.environ | {"JTS_DATA_DIR": str(folder / "jts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    acknowledged: list[str] = []
    while len(acknowledged) < after:
        acknowledged.append(worker.stdout.readline().strip())
        assert worker.poll() is None
    worker.send_signal(number)
    output, errors = worker.communicate(timeout=300)
    assert (worker.returncode, errors) == (0, "")
    return [*acknowledged, *output.split("\n")[:-1]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_worker_of_the_page_ends_by_itself(
    tmp_path: Path, number: signal.Signals
) -> None:
    found = re.search(r'```python title="worker.py"\n(.*?)```', PAGE.read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "worker.py").write_text(found[1])
    printed = await asyncio.to_thread(stopped_worker, tmp_path, number, 20)
    settings = StorageSettings(data_dir=tmp_path / "jts", env_file=None)
    async with Storage.open(settings) as storage:
        assert await storage.recover() == 0
        checkpoint = await storage.ingestion.checkpoints.get("worker")
    assert checkpoint is not None
    assert checkpoint.data["step"] == int(printed[-1])


_WORKER = f"""
import asyncio, signal
from datetime import timedelta
from jts_storage import SeriesKey, Storage, StorageError, Timeframe
from jts_storage.testing.factories import make_candles, make_formula

async def lane(storage, number):
    key = SeriesKey(f"{{number:06}}", Timeframe.M1, "KRX")
    bars = make_candles(key, 500)
    for step, bar in enumerate(bars, start=1):
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(key, [bar])
            await uow.formulas.save(make_formula(name=f"{{number}} {{step}}"))
            await uow.ingestion.checkpoints.save(f"lane {{number}}", {{"step": step}})
            await uow.commit()
        print(number, step, flush=True)

async def main():
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with Storage.open() as storage:
        lanes = [asyncio.create_task(lane(storage, number)) for number in range({LANES})]
        await stopping.wait()
    ended = await asyncio.gather(*lanes, return_exceptions=True)
    # Those who were between two commits are told that the storage is closed.
    assert all(isinstance(each, StorageError) for each in ended), ended

asyncio.run(main())
"""


async def test_what_is_closed_under_fifty_commits_has_each_of_them_whole_or_not_at_all(
    tmp_path: Path,
) -> None:
    """Nobody waits for the tasks that commit: closing itself does."""
    (tmp_path / "worker.py").write_text(_WORKER)
    printed = await asyncio.to_thread(stopped_worker, tmp_path, signal.SIGTERM, 3 * LANES)
    acknowledged: dict[int, int] = {}
    for line in printed:
        lane, step = map(int, line.split())
        acknowledged[lane] = step
    settings = StorageSettings(data_dir=tmp_path / "jts", env_file=None)
    formulas: defaultdict[int, set[int]] = defaultdict(set)
    async with Storage.open(settings) as storage:
        assert await storage.recover() == 0
        for each in await storage.formulas.list(limit=10_000):
            lane, step = map(int, each.name.split())
            formulas[lane].add(step)
        for lane in range(LANES):
            checkpoint = await storage.ingestion.checkpoints.get(f"lane {lane}")
            stored = 0 if checkpoint is None else checkpoint.data["step"]
            bars = await storage.candles.get_latest(
                SeriesKey(f"{lane:06}", Timeframe.M1, "KRX"), 500
            )
            assert stored >= acknowledged.get(lane, 0)
            assert formulas[lane] == set(range(1, stored + 1))
            assert len(bars) == stored
    assert len(acknowledged) > LANES / 2
