"""What a commit needs with its staged candles does not grow with them, from a million on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.testing.clickhouse_server import ServerProcess

SERVICE = Path(__file__).with_name("weighing_service.py")
FEW, MANY = 1_000_000, 5_000_000
SPREAD = 96
"""MiB by which two weighings may differ: pieces of a million rows are read from files, two beside
each other. The columns of all that MANY has more are 183.
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="weighs by /proc")
def test_many_rows_weigh_no_more_than_few(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    with (
        LocalMongod.acquire(tmp_path / "mongo") as mongod,
        ServerProcess(tmp_path / "clickhouse", fsync=False) as clickhouse,
    ):
        for engine in ("mongod", "SQLite", "ClickHouse endpoint over chDB"):
            engine_used(engine)
        environment = os.environ | {
            "JTS_DATA_DIR": str(tmp_path),
            "JTS_MONGO_URL": mongod.uri,
            "JTS_CLICKHOUSE_URL": f"clickhouse://127.0.0.1:{clickhouse.port}/default",
            "JTS_MIGRATE": "1",
        }
        few, many = (weighed(rows, environment) for rows in (FEW, MANY))
    sys.stdout.write(f"{few}\n{many}\n")
    # A million rows stay in memory where they are few; of many, as much is read from files.
    assert many["staged"] + many["commit"] < few["staged"] + few["commit"] + SPREAD
    assert many["recovery"] < few["recovery"] + SPREAD
    assert many["commit"] < 256


def weighed(rows: int, environment: dict[str, str]) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, str(SERVICE), str(rows)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout)
    return told
