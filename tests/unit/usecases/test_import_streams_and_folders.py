"""Standard input and pipes, folders and patterns; files that an export replaces."""

from __future__ import annotations

import asyncio
import fcntl
import gzip
import io
import os
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData, NotFound
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.export_candles import ExportCandles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.import_files import ImportFiles, symbol_of
from jts_storage.usecases.results import FilesResult, ImportResult

HEADER = "timestamp,open,high,low,close,volume\n"
KEY = SeriesKey("A", Timeframe.M1)
ALWAYS = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
CSV = (HEADER + "".join(f"{1704153600 + 60 * n},1,1,1,1,{n}\n" for n in range(500))).encode()
JSON = b'{"t": 1704153600, "o": 1, "h": 1, "l": 1, "c": 1, "v": 7}\n'


async def run(storage: Storage, data: Any, **more: Any) -> ImportResult:
    progress = more.pop("progress", None)
    options = ImportOptions(create=Market.KOSPI, **more)
    return await ImportCandles(storage).run(
        data, Timeframe.M1, symbol="A", options=options, progress=progress
    )


async def count(storage: Storage) -> int:
    return await storage.candles.count(KEY)


@pytest.fixture(autouse=True)
def spooled_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apart from what other processes spool."""
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))


def spools() -> set[str]:
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("jts-stream-")}  # noqa: PTH208


def arrow_bytes(kind: str) -> bytes:
    sink = io.BytesIO()
    table = make_candles(KEY, 3).to_arrow()
    if kind == "parquet":
        pq.write_table(table, sink)
    else:
        feather.write_feather(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (CSV, 500),
        (CSV.replace(b",", b"\t"), 500),
        (gzip.compress(CSV), 500),
        (JSON, 1),
        (gzip.compress(JSON), 1),
        (arrow_bytes("parquet"), 3),
        (arrow_bytes("feather"), 3),
    ],
    ids=["csv", "tabs", "csv.gz", "json", "json.gz", "parquet", "feather"],
)
async def test_a_stream_is_read_by_what_it_begins_with(
    storage: Storage, data: bytes, rows: int
) -> None:
    result = await run(storage, io.BytesIO(data))
    assert (result.read, result.source, await count(storage)) == (rows, "the stream", rows)
    assert not spools()


async def test_a_pipe_is_read_to_its_end_and_tells_its_bytes(
    storage: Storage, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(CSV,))
    writer.start()
    told: list[ImportProgress] = []
    result = await run(storage, pipe, progress=told.append)
    writer.join()
    assert (result.read, result.source) == (500, str(pipe))
    assert told[0].rows == 0
    assert max(at.read_bytes or 0 for at in told) == len(CSV)
    assert told[-1].rows == 500
    # It cannot be read again, so another import of it does not go on where one stopped.
    assert result.resumed_at is None


async def test_a_stream_is_refused_by_its_name_and_line(storage: Storage) -> None:
    before = spools()
    with pytest.raises(InvalidData, match="the stream, line 502, column 'close'"):
        await run(storage, io.BytesIO(CSV + b"1804153600,1,1,1,x,1\n"))
    with pytest.raises(InvalidData, match="the stream is empty"):
        await run(storage, io.BytesIO())
    with pytest.raises(InvalidData, match="binary mode"):
        await run(storage, io.StringIO("t"))
    assert spools() == before


@pytest.mark.parametrize("least", [0, 1100], ids=["any", "above what select() knows"])
async def test_an_interruption_does_not_wait_for_the_end_of_a_pipe(
    storage: Storage, least: int
) -> None:
    first, write = os.pipe()
    read = fcntl.fcntl(first, fcntl.F_DUPFD, least)
    os.close(first)
    with os.fdopen(read, "rb") as stream, os.fdopen(write, "wb"):
        importing = asyncio.ensure_future(run(storage, stream))
        await until(lambda: bool(spools()))
        importing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await importing
        await until(lambda: not spools())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def brought(folder: Path) -> None:
    (folder / "sub").mkdir()
    for n, name in enumerate(("B.csv", "A.csv", "sub/BRK.B.tsv", "sub/.hidden.csv")):
        mark = "\t" if name.endswith("tsv") else ","
        text = HEADER + "".join(f"{1704153600 + 60 * m},1,1,1,1,{n}\n" for m in range(3))
        (folder / name).write_text(text.replace(",", mark))
    (folder / "read.me").write_text("no candles")


async def run_many(storage: Storage, *paths: Path | str, **more: Any) -> FilesResult:
    options = ImportOptions(create=Market.KOSPI, **more)
    return await ImportFiles(storage).run(
        paths, Timeframe.M1, symbol_from_name=True, options=options
    )


async def test_a_folder_is_one_report(storage: Storage, tmp_path: Path) -> None:
    brought(tmp_path)
    result = await run_many(storage, tmp_path)
    assert [Path(item.source).name for item in result.files] == ["A.csv", "B.csv", "BRK.B.tsv"]
    total = result.total
    assert (total.source, total.read, total.inserted) == ("3 files", 9, 9)
    assert total.created_symbols == ("A", "B", "BRK.B")
    assert total.by_series["BRK.B/1m"] == {"read": 3, "inserted": 3}
    again = await run_many(storage, tmp_path / "*.csv", tmp_path / "A.csv")
    assert (again.total.read, again.total.unchanged) == (6, 6)


async def test_a_file_that_is_refused_stops_or_is_named(storage: Storage, tmp_path: Path) -> None:
    brought(tmp_path)
    (tmp_path / "B.csv").write_text(HEADER + "1704153600,1,1,1,x,1\n")
    stopped = await run_many(storage, tmp_path)
    assert list(stopped.refused) == [str(tmp_path / "B.csv")]
    assert stopped.left == (str(tmp_path / "sub" / "BRK.B.tsv"),)
    assert stopped.total.read == 3
    (tmp_path / "B.csv").write_text("no,columns\n" * 3)
    named = await run_many(storage, tmp_path, on_error="quarantine")
    assert (len(named.files), len(named.refused), named.left) == (2, 1, ())


async def test_nothing_to_import_is_told(storage: Storage, tmp_path: Path) -> None:
    for given in (tmp_path, tmp_path / "*.csv"):
        with pytest.raises(NotFound, match="no file to import"):
            await run_many(storage, given)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [("AAPL.csv", "AAPL"), ("BRK.B.csv.gz", "BRK.B"), ("005930.KS.parquet", "005930.KS")],
)
def test_the_symbol_of_a_name(name: str, symbol: str) -> None:
    assert symbol_of(Path("data") / name) == symbol


async def test_an_export_keeps_the_mode_of_what_it_replaces_and_follows_a_link(
    storage: Storage, tmp_path: Path
) -> None:
    await run(storage, io.BytesIO(CSV))
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "p.csv", tmp_path / "link.csv"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    await ExportCandles(storage).run(KEY, link)
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert len(real.read_text().splitlines()) == 501
    assert [path.name for path in real.parent.iterdir()] == ["p.csv"]
