"""From `python` to the first range: fresh processes of bare chDB and ours, in turns.

Seconds are of the whole process until the range is there, closing not counted; memory is the most
that the process had. A line of JSON each, medians.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from jts_storage.local_servers.mongod import LocalMongod

ROUNDS = 7
_COMPILES_ALWAYS: Final = "PYTHONDONTWRITEBYTECODE"
_COMPILED: Final = str(Path(tempfile.gettempdir()) / "jts-bench-compiled")
ROOT: Final = Path(__file__).resolve().parents[2]

_SAY: Final = """
import json, resource
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([used.ru_maxrss / 1024, used.ru_utime + used.ru_stime]), flush=True)
"""
_BARE: Final = f"""
import sys
import chdb
connection = chdb.connect(sys.argv[1] + "/bare")
connection.query("SELECT 1", "Native").bytes()
{_SAY}
"""
_OURS: Final = f"""
import asyncio, sys
from datetime import UTC, datetime
from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe

async def main(folder, mongo_url=None):
    settings = StorageSettings(data_dir=folder, mongo_url=mongo_url, migrate=True)
    async with Storage.open(settings) as storage:
        key = SeriesKey("005930", Timeframe.M1, "KRX")
        days = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
        await storage.candles.get_range(key, *days)
        exec({_SAY!r})

asyncio.run(main(*sys.argv[1:]))
"""
_COMMAND: Final = "from jts_storage.cli import command; command()"
_PROGRAMS: Final = {
    "first use: import jts_storage": ["-c", "import jts_storage" + _SAY],
    "first use: jts-storage --help": ["-c", _COMMAND, "--help"],
}


def compiled() -> dict[str, str]:
    """Let modules be compiled once, as pip does when it installs them."""
    wanted = {name: value for name, value in os.environ.items() if name != _COMPILES_ALWAYS}
    return wanted | {"PYTHONPYCACHEPREFIX": _COMPILED}


def run(arguments: list[str], **environment: str) -> tuple[float, float, float]:
    """Seconds until a process has said its piece, its megabytes, and its seconds of CPU."""
    began = perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=compiled() | {"PYTHONPATH": str(ROOT)} | environment,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        seconds = perf_counter() - began
        process.stdout.read()
    assert process.returncode == 0, arguments
    megabytes, cpu = json.loads(first) if first.startswith("[") else (0.0, 0.0)
    return seconds, megabytes, cpu


def compare(name: str, programs: dict[str, list[str]], **environment: str) -> None:
    for arguments in programs.values():
        run(arguments, **environment)
    rounds = [
        {label: run(p, **environment) for label, p in programs.items()} for _ in range(ROUNDS)
    ]
    figures: dict[str, float] = {}
    for label in programs:
        columns = zip(*(each[label] for each in rounds), strict=True)
        for what, column in zip(("seconds", "mb", "cpu"), columns, strict=True):
            figures[f"{label}_{what}"] = float(f"{median(column):.4g}")
    print(json.dumps({"name": name, **figures}), flush=True)


def main() -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        mongod = stack.enter_context(LocalMongod.acquire(folder / "running"))
        bare = ["-c", _BARE, str(folder)]
        with_mongod = ["-c", _OURS, str(folder / "with"), mongod.uri]
        compare("first use: mongod runs", {"floor": bare, "ours": with_mongod})
        starts = ["-c", _OURS, str(folder / "alone")]
        compare("first use: mongod starts", {"floor": bare, "ours": starts})
        health = ["-c", _COMMAND, "health"]
        here = {"JTS_DATA_DIR": str(folder / "with"), "JTS_MONGO_URL": mongod.uri}
        compare("first use: jts-storage health", {"ours": health}, **here)
    for name, arguments in _PROGRAMS.items():
        compare(name, {"ours": arguments})


if __name__ == "__main__":
    main()
