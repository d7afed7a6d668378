"""Ours against a floor: both in one process, alternating, medians, a line of JSON each.

`python tests/benchmarks/harness.py` runs `main()` of every `bench_*.py` beside it.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

HERE = Path(__file__).resolve().parent


def compare(
    name: str, ours: Callable[[], object], floor: Callable[[], object], runs: int = 9
) -> float:
    """Print the median seconds of both and how many times the floor ours takes; give the ratio."""
    timed(floor)
    timed(ours)
    pairs = [(timed(floor), timed(ours)) for _ in range(runs)]
    floor_seconds = median(pair[0] for pair in pairs)
    seconds = median(pair[1] for pair in pairs)
    ratio = seconds / floor_seconds
    report(name, seconds=seconds, floor_seconds=floor_seconds, ratio=ratio)
    return ratio


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes; what it returned is let go after the clock has stopped."""
    gc.collect()
    started = perf_counter()
    result = work()
    seconds = perf_counter() - started
    del result
    return seconds


def report(name: str, **figures: float) -> None:
    rounded = {key: float(f"{value:.4g}") for key, value in figures.items()}
    print(json.dumps({"name": name, **rounded}), flush=True)


def main() -> None:
    for path in sorted(HERE.glob("bench_*.py")):
        importlib.import_module(path.stem).main()


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parents[1])]
    main()
