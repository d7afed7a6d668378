"""An interrupted import goes on only where the source is read as it was before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jts_storage import Market, SeriesKey, Storage, Timeframe
from jts_storage.readers.file_source import Layout
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress


class Killed(BaseException):
    pass


def die(progress: ImportProgress) -> None:
    if progress.rows == 4:
        raise Killed


async def runs(path: Path, *layouts: dict[str, Any]) -> tuple[int | None, dict[str, int]]:
    """Where the second of two imports went on, and the rows stored of each symbol."""
    async with Storage.in_memory() as storage:
        use_case = ImportCandles(storage)
        first, second = (
            ImportOptions(create=Market.KOSPI, block_rows=2, layout=Layout(**layout))
            for layout in layouts
        )
        with pytest.raises(Killed):
            await use_case.run(path, Timeframe.M1, options=first, progress=die)
        result = await use_case.run(path, Timeframe.M1, options=second)
        keys = await storage.candles.list_keys()
        return result.resumed_at, {
            key.symbol: await storage.candles.count(SeriesKey(key.symbol, Timeframe.M1))
            for key in keys
        }


def rows(symbol: str) -> str:
    return "".join(f"{1_704_153_600 + 60 * n},{symbol},1,1,1,1,{n}\n" for n in range(6))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"encoding": "latin-1"}, {"encoding": "cp949"}),
        ({"encoding": "latin-1"}, {}),
        ({"delimiter": ",", "encoding": "cp949"}, {"encoding": "cp949"}),
    ],
)
async def test_another_layout_begins_anew(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(("t,symbol,o,h,l,c,v\n" + rows("가나")).encode("cp949"))
    resumed_at, counts = await runs(path, first, second)
    assert (resumed_at, counts["가나"]) == (None, 6)


def test_a_source_without_a_header_is_another_task() -> None:
    options = [ImportOptions(layout=Layout(header=header)) for header in (True, False)]
    assert options[0].described() != options[1].described()


@pytest.mark.parametrize("layout", [{}, {"encoding": "cp949"}, {"delimiter": ","}])
async def test_the_same_layout_goes_on(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tmp_path / "p.csv"
    path.write_bytes(("t,symbol,o,h,l,c,v\n" + rows("가나")).encode("cp949"))
    assert await runs(path, layout, layout) == (2, {"가나": 6})


def test_what_is_not_given_leaves_the_names_of_earlier_states() -> None:
    assert set(ImportOptions().described()) == {
        "mode",
        "columns",
        "reading",
        "policy",
        "bounds",
        "block_rows",
    }
