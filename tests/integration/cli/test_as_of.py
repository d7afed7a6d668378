"""A series as it was: shown and exported, as of a time, a commit or a snapshot."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from jts_storage import Commit, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.testing.contracts.samples import candle, minute

KEY = SeriesKey("005930", Timeframe.M1, "KRX")
SERIES = ("-s", "005930", "-t", "1m", "-x", "KRX")


async def commit(storage: Storage, *closes: str) -> Commit:
    async with storage.unit_of_work() as uow:
        await uow.candles.save_many(KEY, [candle(at, close) for at, close in enumerate(closes)])
        result = await uow.commit()
    assert result.commit is not None
    return result.commit


@pytest.fixture
async def first(settings: StorageSettings) -> Commit:
    """Three candles, a snapshot of them, and then one that is corrected and one deleted."""
    async with Storage.open(settings) as storage:
        found = await commit(storage, "101", "102", "103")
        await storage.snapshots.create("scan")
        await commit(storage, "101.5")
        async with storage.unit_of_work() as uow:
            await uow.candles.delete_range(KEY, minute(2), minute(2))
            await uow.commit()
    return found


def test_what_was_is_shown_and_exported(first: Commit, run: Any, folder: Path) -> None:
    def shown(*asked: str) -> list[Decimal]:
        rows = json.loads(run("show", "KRX:005930/1m", "--json", *asked).out)
        return [Decimal(row["close"]) for row in rows]

    def exported(*asked: str) -> list[Decimal]:
        run("export", "out.csv", *SERIES, *asked)
        with (folder / "out.csv").open() as file:
            return [Decimal(row["close"]) for row in csv.DictReader(file)]

    now, before = [Decimal("101.5"), Decimal(102)], [Decimal(101), Decimal(102), Decimal(103)]
    assert shown() == exported() == now
    for moment in ("scan", str(first.version), first.moment.isoformat()):
        assert shown("--as-of", moment) == exported("--as-of", moment) == before, moment
    then = ("--as-of", "scan")
    assert shown(*then, "--start", minute(1).isoformat()) == before[1:]
    assert shown(*then, "--end", minute(1).isoformat(), "--last", "1") == before[1:2]
    assert exported(*then, "--start", minute(1).isoformat()) == before[1:]
    local = first.moment.astimezone(ZoneInfo("Asia/Seoul")).replace(tzinfo=None).isoformat()
    assert shown("--as-of", local, "--timezone", "Asia/Seoul") == before
    piped = run("export", "-", *SERIES, *then)
    assert len(piped.out.splitlines()) == 1 + len(before)


def test_what_was_not_there_is_told(first: Commit, run: Any) -> None:
    assert "No candles of" in run("show", "KRX:1/1m", "--as-of", "scan", code=2).err
    earlier = run("show", "KRX:005930/1m", "--as-of", "2001-01-01").out
    assert earlier == "No candles of KRX:005930/1m there.\n"
    future = run("show", "KRX:005930/1m", "--as-of", "2250-01-01", code=2).err
    assert "lies in the future" in future


async def test_a_series_that_was_deleted_is_read_as_it_was(
    first: Commit, run: Any, settings: StorageSettings
) -> None:
    async with Storage.open(settings) as storage, storage.unit_of_work() as uow:
        await uow.candles.delete_range(KEY, minute(0), minute(9))
        await uow.commit()
    rows = json.loads(run("show", "KRX:005930/1m", "--as-of", "scan", "--json").out)
    assert len(rows) == 3
    assert "3 candles" in run("export", "out.csv", *SERIES, "--as-of", "scan").out
    assert "No candles of" in run("export", "out.csv", *SERIES, code=2).err
    late = ("--as-of", "scan", "--start", minute(9).isoformat())
    assert run("show", "KRX:005930/1m", *late).out == "No candles of KRX:005930/1m there.\n"


def test_what_is_no_moment_is_told_with_the_snapshots(first: Commit, run: Any) -> None:
    for asked in (
        ("history", "KRX:005930/1m", "--since", "2026-11-31"),
        ("show", "KRX:005930/1m", "--as-of", "2026-11-31"),
        ("export", "out.csv", *SERIES, "--as-of", "2026-11-31"),
    ):
        assert run(*asked, code=2).err == (
            "Error: '2026-11-31' is neither a moment in ISO 8601"
            " (2026-11-29, 2026-11-29T09:00+09:00) nor a snapshot; there are: scan."
            " `jts-storage snapshots list` shows what each of them stands for.\n"
        )
