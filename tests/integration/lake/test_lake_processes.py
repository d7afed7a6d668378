"""The Parquet store among processes, some of which are killed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.domain.series import CandleSeries
from jts_storage.errors import Conflict
from jts_storage.lake import ParquetStorageEngine
from jts_storage.lake.layout import Partition
from jts_storage.lake.locks import PartitionLocks
from jts_storage.testing.factories import make_candles
from tests import forked

KEY = SeriesKey("AAPL", Timeframe.M1)
DAY = date(2024, 1, 2)
ROWS = 1_440

_PRELUDE = """
import sys
from datetime import date
from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Timeframe
from jts_storage.errors import Conflict
from jts_storage.lake import ParquetStorageEngine
from jts_storage.testing.factories import make_candles
KEY, DAY = SeriesKey("AAPL", Timeframe.M1), date(2024, 1, 2)
engine = ParquetStorageEngine(sys.argv[1])
def say(word):
    sys.stdout.write(word + "\\n"); sys.stdout.flush()
def write(job, seed=0, overwrite=False, rows=1440):
    engine.write(make_candles(KEY, 1440, seed=seed)[:rows], frame="1m", symbol="AAPL",
                 trading_day=DAY, job_id=job, overwrite=overwrite)
say("ready")
sys.stdin.readline()
"""

_ONE_OF_EIGHT = """
n = int(sys.argv[2])
for round in range(5):
    write(f"own{n}-{round}", seed=n)
    write("shared", seed=n, overwrite=True)
    try:
        write(f"first{round}", seed=n)
        say(f"won {round}")
    except Conflict:
        pass
"""

_WRITES_FOREVER = """
n = 0
while True:
    write(f"new{n}", seed=n)
    write("same", seed=n, overwrite=True)
    say(f"{n}")
    n += 1
"""

_COMPACTS_FOREVER = """
n = int(sys.argv[2])
while True:
    engine.compact("1m", "AAPL", DAY)
    write(f"late{n}", seed=n, rows=100 + n % 100)
    say(f"{n}")
    n += 1
"""


def some_candles(n: int) -> CandleSeries:
    """What the compacting process writes in its round `n`."""
    return make_candles(KEY, ROWS, seed=n)[: 100 + n % 100]


def start(script: str, *arguments: object) -> forked.Process:
    return forked.Process(
        ["-c", _PRELUDE + script, *map(str, arguments)], stdin=forked.PIPE, stdout=forked.PIPE
    )


def resume(process: forked.Process) -> None:
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("\n")
    process.stdin.flush()


def run_and_kill(script: str, seconds: float, *arguments: object) -> list[int]:
    """What the process acknowledged until it was killed."""
    process = start(script, *arguments)
    with process:
        resume(process)
        time.sleep(seconds)
        process.kill()
        output, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    return [int(line) for line in output.split()]


def test_eight_processes_write_one_partition(tmp_path: Path) -> None:
    processes = [start(_ONE_OF_EIGHT, tmp_path, n) for n in range(8)]
    for process in processes:
        resume(process)
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    engine = ParquetStorageEngine(tmp_path)
    report = engine.verify()
    assert report.is_sound and report.leftovers == ()
    assert report.files == 8 * 5 + 1 + 5
    won = sorted(line for output in outputs for line in output.splitlines())
    assert won == [f"won {round}" for round in range(5)]
    for n in range(8):
        assert engine.load_job_bars(f"own{n}-0")["AAPL"] == make_candles(KEY, ROWS, seed=n)


def check_kills_in_write(root: Path, times: int) -> None:
    random_seconds = random.Random(7)
    for n in range(times):
        folder = root / f"{n}"
        done = run_and_kill(_WRITES_FOREVER, random_seconds.uniform(0.005, 0.08), folder)
        engine = ParquetStorageEngine(folder, lock_timeout=5)
        assert engine.verify().is_sound
        for job in done:
            assert engine.load_job_bars(f"new{job}")["AAPL"] == make_candles(KEY, ROWS, seed=job)
        if done:
            same = engine.load_job_bars("same")["AAPL"]
            assert same in [make_candles(KEY, ROWS, seed=done[-1] + more) for more in (0, 1)]
        engine.write(
            make_candles(KEY, 5), frame="1m", symbol="AAPL", trading_day=DAY, job_id="after"
        )
        assert engine.verify().leftovers == ()


def check_kills_in_compact(root: Path, times: int) -> None:
    random_seconds = random.Random(8)
    engine = ParquetStorageEngine(root, lock_timeout=5)
    expected = make_candles(KEY, ROWS, seed=999)
    engine.write(expected, frame="1m", symbol="AAPL", trading_day=DAY, job_id="base")
    n = 0
    for _ in range(times):
        done = run_and_kill(_COMPACTS_FOREVER, random_seconds.uniform(0.005, 0.08), root, n)
        assert engine.verify().is_sound
        # The one after the last acknowledged may have been written as well.
        loaded = engine.load_symbol_data("AAPL", "1m")
        for job in done:
            expected = expected.merge(some_candles(job))
        n = done[-1] + 1 if done else n
        if loaded != expected:
            expected = expected.merge(some_candles(n))
            n += 1
        assert loaded == expected
    engine.compact("1m", "AAPL", DAY)
    assert engine.load_symbol_data("AAPL", "1m") == expected
    assert engine.list_jobs() == ["compacted"]


@pytest.mark.parametrize("check", [check_kills_in_write, check_kills_in_compact])
def test_a_killed_process_loses_nothing(check: Callable[[Path, int], None], tmp_path: Path) -> None:
    check(tmp_path, 5)


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_kills_in_write, check_kills_in_compact])
def test_a_hundred_killed_processes_lose_nothing(
    check: Callable[[Path, int], None], tmp_path: Path
) -> None:
    check(tmp_path, 100)


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    holder = start(
        """
from jts_storage.lake.layout import Partition
with engine._locks.held(Partition("1m", "AAPL", DAY)):
    say("held")
    sys.stdin.readline()
""",
        tmp_path,
    )
    with holder:
        resume(holder)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        locks = PartitionLocks(tmp_path, timeout=0.05)
        partition = Partition("1m", "AAPL", DAY)
        with pytest.raises(Conflict, match="held"), locks.held(partition):
            pass
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(30)
        with PartitionLocks(tmp_path, timeout=5).held(partition):
            pass
        holder.communicate(timeout=30)


def test_a_compaction_meanwhile_disturbs_no_reader(tmp_path: Path) -> None:
    engine = ParquetStorageEngine(tmp_path)
    expected = make_candles(KEY, ROWS)
    engine.write(expected, frame="1m", symbol="AAPL", trading_day=DAY, job_id="base")
    compacting = start(
        """
for n in range(40):
    write("again", rows=100)
    engine.compact("1m", "AAPL", DAY)
say("done")
""",
        tmp_path,
    )
    with compacting:
        resume(compacting)
        reads = 0
        while compacting.poll() is None and reads < 100_000:
            assert engine.load_symbol_data("AAPL", "1m") == expected
            reads += 1
        assert compacting.communicate(timeout=30)[0] == "done\n"
    assert reads > 0
