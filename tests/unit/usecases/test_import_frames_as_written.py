"""Files as pandas and spreadsheets write them: an index without a name, tabs, moments as floats."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jts_storage import Candle, Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.readers.file_source import Layout
from jts_storage.readers.timestamps import TimestampReader
from jts_storage.usecases.export_candles import ExportCandles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from jts_storage.usecases.quality import QualityPolicy

ALWAYS = datetime(1970, 1, 1, tzinfo=UTC), datetime(2299, 1, 1, tzinfo=UTC)
NINE = datetime(2024, 1, 2, 9, tzinfo=UTC)
KEY = SeriesKey("A", Timeframe.M1)


async def imported(storage: Storage, data: Any, **options: Any) -> list[Candle]:
    chosen = ImportOptions(create=Market.KOSPI, policy=QualityPolicy(now=ALWAYS[1]), **options)
    await ImportCandles(storage).run(data, Timeframe.M1, symbol="A", options=chosen)
    return list(await storage.candles.get_range(KEY, *ALWAYS))


def frame(rows: int = 2) -> pd.DataFrame:
    index = pd.date_range(NINE, periods=rows, freq="min")
    return pd.DataFrame({"Open": 1, "High": 2, "Low": 1, "Close": 2, "Volume": 5}, index=index)


async def test_an_index_of_moments_without_a_name_is_the_time(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    frame().to_csv(path)
    assert path.read_text().startswith(",Open,")
    expected = await imported(storage, path)
    assert [candle.timestamp.minute for candle in expected] == [0, 1]
    assert expected[0].timestamp == NINE
    frame().rename_axis("Unnamed: 0").to_csv(path)
    assert await imported(storage, path) == expected
    parquet = tmp_path / "p.parquet"
    frame().reset_index(names="__index_level_0__").to_parquet(parquet)
    assert await imported(storage, parquet, floats="exact") == expected


@pytest.mark.parametrize("header", ["", "Unnamed: 0"])
async def test_an_index_that_counts_is_ignored(
    storage: Storage, tmp_path: Path, header: str
) -> None:
    path = tmp_path / "p.csv"
    frame().reset_index(names="Date").rename_axis(header or None).to_csv(path)
    assert path.read_text().startswith(f"{header},Date,")
    assert (await imported(storage, path))[0].timestamp == NINE
    assert (await imported(storage, pd.read_csv(path)))[0].timestamp == NINE


async def test_a_count_is_no_time(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    frame().reset_index(drop=True).to_csv(path)
    with pytest.raises(InvalidData, match="no column for timestamp"):
        await imported(storage, path)
    with pytest.raises(InvalidData, match="no column for timestamp"):
        await imported(storage, pd.read_csv(path))


async def test_tabs_separate_fields_by_the_suffix(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_text(
        "a, time, of, the, bar's, start, UTC\tOpen\tHigh\tLow\tClose\tVolume\n"
        "2024-01-02T09:00Z\t1\t2\t1\t2\t5\n"
    )
    columns = {"timestamp": "a, time, of, the, bar's, start, UTC"}
    (candle,) = await imported(storage, path, layout=Layout(columns=columns))
    assert candle == Candle(NINE, Decimal(1), Decimal(2), Decimal(1), Decimal(2), 5)


@pytest.mark.parametrize("suffix", ["tsv", "tsv.gz", "csv"])
async def test_an_export_by_that_suffix_is_written_with_tabs(
    storage: Storage, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "p.csv"
    frame().to_csv(path)
    expected = await imported(storage, path)
    target = tmp_path / f"out.{suffix}"
    await ExportCandles(storage).run(KEY, target)
    read = pd.read_csv(target, sep="," if suffix == "csv" else "\t")
    assert list(read.columns) == ["timestamp", "open", "high", "low", "close", "volume"]
    async with Storage.in_memory() as other:
        assert await imported(other, target) == expected


MOMENTS = {
    "milliseconds of 12 digits": ["946684800000", "946684860000"],
    "with a point": ["946684800000.0", "946684860000.0"],
    "some with a point": ["946684800000", "946684860000.0"],
    "seconds with a point": ["946684800.0", "946684860.0"],
    "microseconds": ["946684800000000", "946684860000000"],
    "nanoseconds": ["946684800000000000", "946684860000000000"],
}


@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("as_floats", [False, True])
async def test_moments_as_numbers_are_of_the_unit_that_makes_a_year(
    storage: Storage, tmp_path: Path, name: str, as_floats: bool
) -> None:
    data: Any = tmp_path / "p.csv"
    data.write_text("t,o,h,l,c,v\n" + "".join(f"{m},1,1,1,1,1\n" for m in MOMENTS[name]))
    if as_floats:
        data = pd.read_csv(data).astype({"t": float})
    found = await imported(storage, data)
    assert [c.timestamp.isoformat() for c in found] == [
        "2000-01-01T00:00:00+00:00",
        "2000-01-01T00:01:00+00:00",
    ]


async def test_something_else_among_milliseconds_is_refused_as_itself(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "p.csv"
    path.write_text("t,o,h,l,c,v\n946684800000,1,1,1,1,1\nlater,1,1,1,1,1\n")
    with pytest.raises(InvalidData, match=r"line 3, column 't': .*got 'later'"):
        await imported(storage, path)


@given(
    st.integers(2**28, 4_100_000_000),
    st.sampled_from([("s", 1), ("ms", 1_000), ("us", 10**6), ("ns", 10**9)]),
)
def test_a_moment_is_never_of_a_year_that_nobody_meant(second: int, unit: tuple[str, int]) -> None:
    import pyarrow as pa

    column = np.arange(second, second + 60 * 500, 60) * unit[1]
    for values in (pa.array(column), pa.array([str(value) for value in column])):
        try:
            found = TimestampReader(Timeframe.M1, "UTC").read(values)
        except InvalidData:
            continue  # digits that make dates for one in ten
        assert found.tolist() == [1_000 * (second + 60 * n) for n in range(500)]
