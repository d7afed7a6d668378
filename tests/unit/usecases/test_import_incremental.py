"""`--incremental` stores every row that is not stored yet, in whatever order a file has them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jts_storage import CandleSeries, Market, SeriesKey, Storage, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.testing.factories import make_candles
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.results import COUNTS, ImportResult

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
ALL = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
START = 1_704_153_600
HEADER = "timestamp,open,high,low,close,volume\n"


class Killed(BaseException):
    pass


def newest_first(rows: int, bad: int | None = None) -> str:
    """Minutes, the latest at the top; `bad` is a row without a price."""
    lines = [
        f"{START + 60 * n},{'x' if row == bad else 100 + n},{100 + n},{100 + n},{100 + n},7\n"
        for row, n in enumerate(reversed(range(rows)))
    ]
    return HEADER + "".join(lines)


async def run(storage: Storage, data: Any, **more: Any) -> ImportResult:
    options: dict[str, Any] = {"mode": "incremental", "create": Market.KOSPI, "block_rows": 10}
    progress = more.pop("progress", None)
    result = await ImportCandles(storage).run(
        data,
        Timeframe.M1,
        symbol=KEY.symbol,
        exchange=KEY.exchange,
        options=ImportOptions(**(options | more)),
        progress=progress,
    )
    others = sum(getattr(result, name) for name in COUNTS if name != "read")
    assert others == result.read, "a row was lost or counted twice"
    return result


async def stored(storage: Storage) -> CandleSeries:
    return await storage.candles.get_range(KEY, *ALL)


async def test_what_was_refused_is_mended_and_repeated(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(newest_first(30, bad=25))
    with pytest.raises(InvalidData, match="line 27"):
        await run(storage, path)
    before = len(await stored(storage))
    assert 0 < before < 30
    path.write_text(newest_first(30))
    result = await run(storage, path)
    assert (result.skipped, result.inserted) == (before, 30 - before)
    assert [candle.close for candle in await stored(storage)] == list(range(100, 130))


async def test_what_was_interrupted_is_followed_by_the_next_days_file(
    storage: Storage, tmp_path: Path
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(newest_first(30))

    def die(progress: ImportProgress) -> None:
        raise Killed

    with pytest.raises(Killed):
        await run(storage, path, progress=die)
    path.write_text(newest_first(31))
    result = await run(storage, path)
    assert (result.skipped, result.inserted) == (10, 21)
    assert [candle.close for candle in await stored(storage)] == list(range(100, 131))


async def test_gaps_are_filled_and_corrections_are_told_and_left(
    storage: Storage, tmp_path: Path
) -> None:
    whole = make_candles(KEY, 100)
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, whole[:40])
        await uow.candles.save_many(KEY, whole[60:90])
        await uow.commit()
    path = tmp_path / "prices.csv"
    lines = [
        f"{candle.timestamp.isoformat()},{candle.open},{candle.high},{candle.low},{candle.close},"
        f"{candle.volume + (row in (3, 65))}\n"
        for row, candle in enumerate(whole)
    ]
    path.write_text(HEADER + "".join(lines))
    result = await run(storage, path)
    assert (result.skipped, result.inserted, result.differing) == (70, 30, 2)
    assert await stored(storage) == whole, "stored rows are as they were"
    corrected = await run(storage, path, mode="full")
    assert (corrected.replaced, corrected.unchanged, corrected.differing) == (2, 98, 0)


@pytest.mark.parametrize("blocks", [1, 2, 4])
async def test_an_interrupted_run_goes_on_with_the_same_counts(
    storage: Storage, tmp_path: Path, blocks: int
) -> None:
    """The block that was stored and not noted is no row that was there before."""
    seeded = make_candles(KEY, 15, start=datetime(2024, 1, 2, 0, 10, tzinfo=UTC))
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, seeded)
        await uow.commit()
    path = tmp_path / "prices.csv"
    path.write_text(newest_first(50))

    def die(progress: ImportProgress) -> None:
        if progress.rows == blocks * 10:
            raise Killed

    with pytest.raises(Killed):
        await run(storage, path, progress=die)
    result = await run(storage, path)
    assert result.resumed_at is not None
    assert (result.skipped, result.inserted, result.differing) == (15, 35, 15)
    assert len(await stored(storage)) == 50


async def test_a_row_that_comes_again_wins_over_the_one_before_it(
    storage: Storage, tmp_path: Path
) -> None:
    """In what was not stored before the import began, as in a full one."""
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 5))
        await uow.commit()
    path = tmp_path / "prices.csv"
    minutes = [10, 11, 12, 11, 13]
    path.write_text(
        HEADER + "".join(f"{START + 60 * m},9,9,9,9,{v}\n" for v, m in enumerate(minutes))
    )
    result = await run(storage, path, block_rows=2)
    assert (result.inserted, result.duplicates, result.replaced) == (4, 1, 0)
    assert [candle.volume for candle in (await stored(storage))[5:]] == [0, 3, 2, 4]


@pytest.mark.parametrize("blocks", [0, 1, 2])
async def test_a_row_that_comes_again_after_an_interruption_wins_all_the_same(
    storage: Storage, tmp_path: Path, blocks: int
) -> None:
    """What the run itself has stored before it was interrupted is not what it began with."""
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, make_candles(KEY, 5))
        await uow.commit()
    path = tmp_path / "prices.csv"
    minutes = [10, 13, 12, 10, 11, 12]
    path.write_text(
        HEADER + "".join(f"{START + 60 * m},9,9,9,9,{v}\n" for v, m in enumerate(minutes))
    )

    def die(progress: ImportProgress) -> None:
        if progress.rows == blocks * 2:
            raise Killed

    if blocks:
        with pytest.raises(Killed):
            await run(storage, path, block_rows=2, progress=die)
    result = await run(storage, path, block_rows=2)
    assert (result.resumed_at is not None) is bool(blocks)
    assert (result.inserted, result.duplicates, result.skipped, result.differing) == (4, 2, 0, 0)
    assert [candle.volume for candle in (await stored(storage))[5:]] == [3, 4, 5, 1]
