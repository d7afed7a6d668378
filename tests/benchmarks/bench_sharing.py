"""One folder by its own process and through its socket, in turns; and how long a take-over takes.

A line of JSON each, medians. `python tests/benchmarks/bench_sharing.py`
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from harness import report

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.testing.factories import START, make_candles

KEY: Final = SeriesKey("005930", Timeframe.M1, "KRX")
CALLS: Final = 200
KILLS: Final = 7
ROOT: Final = Path(__file__).resolve().parents[2]

_OTHER: Final = """
import asyncio, sys
sys.path[:0] = sys.argv[1:2]
from bench_sharing import other
asyncio.run(other(*sys.argv[2:]))
"""


async def other(folder: str, pid: str, kills: str) -> None:
    """Measure through the socket, or wait for the death of the process that has the stores."""
    async with Storage.open(StorageSettings(data_dir=Path(folder), share=True)) as storage:
        if not kills:
            await measured(storage, "through its socket")
            return
        await asyncio.sleep(3)  # what it takes over with is loaded by then
        os.kill(int(pid), signal.SIGKILL)
        began = perf_counter()
        await storage.ingestion.checkpoints.get("005930")
        print(perf_counter() - began, flush=True)


async def measured(storage: Storage, how: str) -> None:
    reads, commits = [], []
    for _ in range(CALLS):
        began = perf_counter()
        await storage.ingestion.checkpoints.get("005930")
        reads.append(perf_counter() - began)
    first = random.randrange(10_000)
    for number in range(first, first + CALLS // 4):
        began = perf_counter()
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(
                KEY, make_candles(KEY, 390, start=START + timedelta(days=number))
            )
            await uow.ingestion.checkpoints.save("005930", {"bars": number})
            await uow.commit()
        commits.append(perf_counter() - began)
    report(f"shared folder, {how}: a checkpoint read", ms=1_000 * median(reads))
    report(f"shared folder, {how}: 390 candles committed", ms=1_000 * median(commits))


async def both(folder: Path) -> None:
    async with Storage.open(StorageSettings(data_dir=folder, share=True)) as storage:
        for _ in range(3):
            await measured(storage, "directly")
            process = await asyncio.create_subprocess_exec(*_command(folder, 0, ""))
            await process.wait()


def _command(folder: Path, pid: int, kills: str) -> list[str]:
    return [sys.executable, "-c", _OTHER, str(Path(__file__).parent), str(folder), str(pid), kills]


def _take_over(folder: Path) -> float:
    code = (
        "import asyncio, sys\nfrom jts_storage import Storage, StorageSettings\n"
        "async def main():\n"
        "    async with Storage.open(StorageSettings(data_dir=sys.argv[1], share=True)):\n"
        "        print('open', flush=True)\n        await asyncio.sleep(1_000)\n"
        "asyncio.run(main())"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"open\n"
    command = _command(folder, owner.pid, "kills")
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=ROOT)
    owner.wait()
    return float(done.stdout)


def main() -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "data"
        asyncio.run(both(folder))
        seconds = [_take_over(folder) for _ in range(KILLS)]
        name = "shared folder: a read after kill -9 of the process that has it"
        report(name, p50=median(seconds), most=max(seconds))


if __name__ == "__main__":
    main()
