"""What is exported and imported again is the same, to the last digit."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jts_storage import CandleSeries, Market, SeriesKey, Storage, Symbol, Timeframe
from jts_storage.domain import checks
from jts_storage.domain.columns import NAMES, Columns
from jts_storage.errors import InvalidData, StorageError
from jts_storage.testing.factories import START, make_candles
from jts_storage.usecases.export_candles import ExportCandles, resampled
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import QualityPolicy
from jts_storage.usecases.writers import Writer
from tests.runs import every_value_by_day

FORMATS = ["csv", "csv.gz", "csv.zst", "jsonl", "jsonl.gz", "parquet", "feather", "arrow"]
KEY = SeriesKey("005930", Timeframe.M1, "KRX")
ALL = checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP
TRUSTING = ImportOptions(policy=QualityPolicy(now=checks.LAST_TIMESTAMP))

prices = st.lists(
    st.integers(-checks.PRICE_LIMIT + 1, checks.PRICE_LIMIT - 1), min_size=4, max_size=4
).map(sorted)
# Whole seconds, too, can be read in one way only: these files tell moments as ISO 8601.
moments = st.integers(checks.to_ms(ALL[0]), checks.to_ms(ALL[1]) - 60_000)
rows = st.lists(
    st.tuples(moments, prices, st.integers(0, checks.VOLUME_LIMIT - 1)),
    min_size=1,
    max_size=20,
    unique_by=lambda row: row[0],
)


def series_of(drawn: list[tuple[int, list[int], int]]) -> CandleSeries:
    drawn = sorted(drawn)
    low, opening, close, high = np.array([p for _, p, _ in drawn], np.int64).T
    return CandleSeries.trusted(
        KEY,
        Columns.of(
            np.array([at for at, _, _ in drawn], np.int64),
            [np.ascontiguousarray(p) for p in (opening, high, low, close)],
            np.array([volume for _, _, volume in drawn], np.uint64),
        ),
    )


@pytest.mark.parametrize("ending", FORMATS)
@settings(max_examples=15)
@given(drawn=rows)
async def test_import_of_an_export_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, ending: str, drawn: list[tuple[int, list[int], int]]
) -> None:
    series = series_of(drawn)
    path = tmp_path_factory.mktemp("round") / f"candles.{ending}"
    async with Storage.in_memory() as source, Storage.in_memory() as target:
        await filled(source, series)
        await filled(target, CandleSeries.empty(KEY))
        written = await ExportCandles(source).run(KEY, path)
        assert (written.rows, written.start, written.end) == (len(series), series.start, series.end)
        await ImportCandles(target).run(
            path, KEY.timeframe, symbol=KEY.symbol, exchange=KEY.exchange, options=TRUSTING
        )
        assert await target.candles.get_range(KEY, *ALL) == series


@pytest.mark.parametrize("ending", FORMATS)
async def test_an_open_file_is_written_as_a_path_is_and_stays_open(
    tmp_path: Path, ending: str
) -> None:
    series = make_candles(KEY, 500)
    into = io.BytesIO(b"")
    async with Storage.in_memory() as storage:
        await filled(storage, series)
        written = await ExportCandles(storage).run(KEY, into, format=ending)
        assert (written.path, written.rows) == (Path("-"), 500)
        path = tmp_path / f"candles.{ending}"
        await ExportCandles(storage).run(KEY, path)
        assert into.getvalue() == path.read_bytes()
        with pytest.raises(InvalidData, match="stands for"):
            await ExportCandles(storage).run(KEY, into, format="docx")


async def test_a_damaged_export_is_not_imported(tmp_path: Path) -> None:
    """A flipped bit may leave another price that looks like any; its page has a checksum."""
    series = make_candles(KEY, 2_000)
    path = tmp_path / "candles.parquet"
    async with Storage.in_memory() as source, Storage.in_memory() as target:
        await filled(source, series)
        await filled(target, CandleSeries.empty(KEY))
        await ExportCandles(source).run(KEY, path)
        column = pq.ParquetFile(path).metadata.row_group(0).column(NAMES.index("volume"))
        content = bytearray(path.read_bytes())
        content[column.data_page_offset + column.total_compressed_size - 9] ^= 1
        path.write_bytes(content)
        with pytest.raises(InvalidData, match=r"candles\.parquet cannot be read"):
            await ImportCandles(target).run(
                path, KEY.timeframe, symbol=KEY.symbol, exchange=KEY.exchange, options=TRUSTING
            )
        assert await target.candles.count(KEY) == 0


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


async def filled(storage: Storage, series: CandleSeries) -> None:
    async with storage.unit_of_work() as uow:
        await uow.symbols.save(Symbol(KEY.symbol, "Samsung Electronics", Market.KOSPI))
        await uow.candles.save_many(KEY, series)
        await uow.commit()


@pytest.fixture
async def storage() -> AsyncIterator[Storage]:
    async with Storage.in_memory() as storage:
        await filled(storage, make_candles(KEY, 2_000))
        yield storage


async def test_a_range_is_exported(storage: Storage, tmp_path: Path) -> None:
    end = START + timedelta(minutes=9)
    result = await ExportCandles(storage).run(KEY, tmp_path / "a.csv", start=START, end=end)
    assert result.rows == 10
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize("ending", FORMATS)
async def test_nothing_is_exported_as_nothing(
    storage: Storage, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"a.{ending}"
    result = await ExportCandles(storage).run(SeriesKey("none", Timeframe.M1), path)
    assert result.rows == 0
    imported = await ImportCandles(storage).run(
        path, KEY.timeframe, symbol=KEY.symbol, exchange=KEY.exchange, options=TRUSTING
    )
    assert imported.read == 0


@pytest.mark.parametrize("block_rows", [pytest.param(1, marks=pytest.mark.slow), 7, 100, 5_000])
@pytest.mark.parametrize(
    ("calendar", "timeframe"),
    every_value_by_day(
        [None, "XKRX"],
        [Timeframe.H1, Timeframe.D1, Timeframe.W1, Timeframe.MN1],
    ),
)
async def test_a_resampled_stream_is_the_resampled_whole(
    block_rows: int, calendar: str | None, timeframe: Timeframe
) -> None:
    series = make_candles(SeriesKey("005930", Timeframe.M15, "KRX"), 1_500)
    assert series.key.timeframe.nests_in(timeframe)

    async def blocks() -> AsyncIterator[CandleSeries]:
        for start in range(0, len(series), block_rows):
            yield series[start : start + block_rows]

    rows = [c async for b in resampled(blocks(), timeframe, calendar, "Asia/Seoul") for c in b]
    assert rows == list(series.resample(timeframe, calendar=calendar, timezone="Asia/Seoul"))


async def test_a_failed_export_leaves_what_was_there(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("before")

    def fail(rows: int) -> None:
        raise RuntimeError(str(rows))

    with pytest.raises(RuntimeError):
        await ExportCandles(storage).run(KEY, path, progress=fail)
    assert path.read_text() == "before"
    assert leftovers(tmp_path) == []


async def test_what_the_system_refuses_is_told(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a.csv"
    folder.mkdir()
    with pytest.raises(StorageError, match=r"a\.csv cannot be written: Is a directory"):
        await ExportCandles(storage).run(KEY, folder)

    async def full(writer: Writer, series: CandleSeries) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Writer, "write", full)
    with pytest.raises(StorageError, match=r"b\.csv cannot be written: No space left on device"):
        await ExportCandles(storage).run(KEY, tmp_path / "b.csv")
    assert leftovers(tmp_path) == []


async def test_impossible_exports_are_refused(storage: Storage, tmp_path: Path) -> None:
    use_case = ExportCandles(storage)
    with pytest.raises(InvalidData, match="stands for no known format"):
        await use_case.run(KEY, tmp_path / "a.doc")
    with pytest.raises(InvalidData, match="cannot be written"):
        await use_case.run(KEY, tmp_path / "none" / "a.csv")
    coarse = SeriesKey("005930", Timeframe.D1)
    with pytest.raises(InvalidData, match="cannot make up"):
        await use_case.run(coarse, tmp_path / "a.csv", timeframe=Timeframe.M1)
    with pytest.raises(InvalidData, match="end"):
        await use_case.run(
            KEY, tmp_path / "a.csv", start=START, end=datetime(2020, 1, 1, tzinfo=UTC)
        )
