"""What ``recover`` deletes of the history, and says of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage.cli.main import app
from jts_storage.errors import StorageError
from jts_storage.testing.contracts.samples import candle
from jts_storage.unit_of_work import moments
from tests.integration.cli.conftest import environment_of

KEY = SeriesKey("005930", Timeframe.M1, "KRX")


async def corrected(settings: StorageSettings, *closes: str) -> None:
    async with Storage.open(settings) as storage:
        for close in closes:
            async with storage.unit_of_work() as uow:
                await uow.candles.save_many(KEY, [candle(0, close)])
                await uow.commit()


def recover(*options: str, code: int = 0) -> tuple[str, str]:
    result = CliRunner().invoke(app, ["recover", *options])
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def test_what_is_deleted_is_told(
    settings: StorageSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(corrected(settings, "101", "102", "103"))
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JTS_DATA_DIR", str(settings.data_dir))
    monkeypatch.setattr(moments, "_NANOSECONDS_OF_A_DAY", 0)
    assert recover() == ("Nothing was left unfinished.\n", "")
    monkeypatch.setenv("JTS_HISTORY_DAYS", "1")
    with monkeypatch.context() as refusing:
        refusing.setattr(moments.Moments, "forget", refused)
        assert recover(code=2) == ("", "Error: the disk is full\n")
    told = "2 former candles and revisions deleted, replaced over 1 day ago.\n"
    assert recover() == (told, "")
    assert recover() == ("Nothing was left unfinished.\n", "")

    asyncio.run(corrected(settings, "104"))
    assert recover() == ("1 former candle or revision deleted, replaced over 1 day ago.\n", "")
    asyncio.run(corrected(settings, "105"))
    assert json.loads(recover("--json")[0]) == {"finished": 0, "forgotten": 1}


async def refused(*_: object) -> int:
    raise StorageError("the disk is full")
