"""A row of another program that is nothing the kit knows hides no other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from jts_storage import Market, SeriesKey, StorageSettings, Timeframe, migrate
from jts_storage.clickhouse import candle_mappers, symbol_model
from jts_storage.clickhouse.candles import ClickHouseCandleRepository
from jts_storage.clickhouse.manager import ClickHouseManager
from jts_storage.clickhouse.symbols import ClickHouseSymbolRepository
from jts_storage.domain import checks
from jts_storage.domain.panel_query import PanelQuery
from jts_storage.domain.unreadable import LeftOut
from jts_storage.errors import InvalidData
from jts_storage.migrate.opening import Opening
from jts_storage.sync import Storage
from jts_storage.testing.factories import make_candles, make_symbol

KEYS = [SeriesKey(code, Timeframe.D1, "KRX") for code in ("A", "B", "C", "D")]
ALWAYS = (checks.FIRST_TIMESTAMP, checks.LAST_TIMESTAMP)
CANDLES = (
    "INSERT INTO candles (symbol, exchange, timeframe, timestamp, open, high, low, close, volume,"
    " version) VALUES ({}, 'KRX', {}, '2024-01-02', 1, 1, 1, 1, 1, 1)"
)
SYMBOLS = (
    "INSERT INTO symbols (code, name, market, sector, is_active, updated_at) VALUES"
    " ({}, {}, {}, '', 1, now())"
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> StorageSettings:
    return StorageSettings(data_dir=tmp_path_factory.mktemp("unreadable"))


@pytest.fixture(scope="module")
def manager(
    settings: StorageSettings, engine_used: Callable[[str], None]
) -> Iterator[ClickHouseManager]:
    """A database with four series and symbols, and between them rows of others."""
    engine_used("chDB")
    with ClickHouseManager(settings.clickhouse()) as manager:
        asyncio.run(fill(manager))
        yield manager


async def fill(manager: ClickHouseManager) -> None:
    await migrate.up(migrate.Databases(manager))
    for key in KEYS:
        await ClickHouseCandleRepository(manager).save_many(key, make_candles(key, 3))
    symbols = [make_symbol(key.symbol, name=f"name of {key.symbol}") for key in KEYS]
    await ClickHouseSymbolRepository(manager).save_many(symbols)
    for symbol, timeframe in (("A", "45m"), ("B", "7h"), ("B", "45m"), ("", "1d")):
        manager.execute(CANDLES.format(f"'{symbol}'", f"'{timeframe}'"))
    for code, name, market in (("AA", "name", ""), ("BB", "name", " KOSPI"), ("CC", "", "ETF")):
        manager.execute(SYMBOLS.format(f"'{code}'", f"'{name}'", f"'{market}'"))
    manager.execute(SYMBOLS.format("'E'", "'of a market of its own'", "'KOSPI200'"))


@pytest.fixture(autouse=True)
def nothing_told_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candle_mappers, "_left_out", LeftOut("series"))
    monkeypatch.setattr(symbol_model, "_left_out", LeftOut("symbols"))


@pytest.mark.parametrize("limit", [1, 2, 3, 1_000])
async def test_keys_are_listed_page_by_page(manager: ClickHouseManager, limit: int) -> None:
    reader = ClickHouseCandleRepository(manager)
    assert await pages(lambda after: reader.list_keys(limit=limit, after=after), limit) == KEYS


@pytest.mark.parametrize("fields", [None, ["close"]])
async def test_panels_leave_out_what_is_no_series(
    manager: ClickHouseManager, fields: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    candles = ClickHouseCandleRepository(manager)
    whole = await candles.get_panel(Timeframe.D1, *ALWAYS, fields=fields)
    assert (list(whole), whole.rows) == (KEYS, 3 * len(KEYS))
    assert sum("is left out of lists of series" in text for text in caplog.messages) == 1
    for last in (1, 2):
        latest = await candles.get_latest_panel(Timeframe.D1, last, fields=fields)
        assert latest == whole.tail(last)
        assert await candles.get_panel(Timeframe.D1, *ALWAYS, fields=fields, last=last) == latest
    blocks = candles.stream_panels(Timeframe.D1, *ALWAYS, fields=fields, block_rows=2)
    assert sum([block.rows async for block in blocks]) == whole.rows
    if fields is None:
        coarser = await candles.resample_panel(Timeframe.D1, Timeframe.W1, *ALWAYS)
        assert coarser == whole.resample(Timeframe.W1)
        then = candles.as_of(2**63 - 1)
        assert await then.get_panel(Timeframe.D1, *ALWAYS) == whole
        asked = PanelQuery.of(Timeframe.D1, *ALWAYS, None, None)
        assert list(await then.panel_sizes(asked)) == KEYS


@pytest.mark.parametrize("limit", [1, 2, 3, 1_000])
@pytest.mark.parametrize("asked", ["list", "get_all_active", "search"])
async def test_symbols_are_listed_page_by_page(
    manager: ClickHouseManager, limit: int, asked: str
) -> None:
    repository: Any = ClickHouseSymbolRepository(manager)
    given = ["name"] if asked == "search" else []

    async def page(after: Any) -> Any:
        code = None if after is None else after.code
        return await getattr(repository, asked)(*given, limit=limit, after=code)

    found = [symbol.code for symbol in await pages(page, limit)]
    assert found == ["A", "B", "C", "D"] + ([] if asked == "search" else ["E"])


async def pages(page: Callable[[Any], Any], limit: int) -> list[Any]:
    """All that is listed, until a page that is not full."""
    found: list[Any] = []
    while True:
        rows = await page(found[-1] if found else None)
        found += rows
        if len(rows) < limit:
            return found


async def test_each_is_told_once_and_counted(
    manager: ClickHouseManager, caplog: pytest.LogCaptureFixture
) -> None:
    reader, symbols = ClickHouseCandleRepository(manager), ClickHouseSymbolRepository(manager)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await reader.list_keys()
            await symbols.list()
    told = [each.getMessage() for each in caplog.records]
    assert len(told) == 4 + 3
    assert any("'45m'" in each and "check` counts" in each for each in told)
    assert (candle_mappers._left_out.count, symbol_model._left_out.count) == (4, 3)


async def test_a_market_that_the_kit_does_not_name_is_one_of_its_own(
    manager: ClickHouseManager,
) -> None:
    (found,) = await ClickHouseSymbolRepository(manager).get_by_market(Market.own("KOSPI200"))
    assert (found.code, found.market.value) == ("E", "KOSPI200")


async def test_one_that_is_asked_for_by_its_code_says_what_is_wrong(
    manager: ClickHouseManager,
) -> None:
    with pytest.raises(InvalidData, match=r"symbols AA.*is no market"):
        await ClickHouseSymbolRepository(manager).get_by_code("AA")


@pytest.mark.usefixtures("manager")
def test_threads_see_the_same_and_what_a_unit_of_work_lays_over_it(
    settings: StorageSettings,
) -> None:
    another = SeriesKey("AZ", Timeframe.D1, "KRX")
    with Storage.open(settings) as storage, storage.unit_of_work() as uow:
        assert list(storage.candles.list_keys()) == KEYS
        assert [each.code for each in storage.symbols.search("name of")] == ["A", "B", "C", "D"]
        uow.candles.save_many(another, make_candles(another, 2))
        uow.symbols.save(make_symbol("AZ"))
        assert list(uow.candles.list_keys()) == [KEYS[0], another, *KEYS[1:]]
        found = [
            each.code for page in (None, "AZ") for each in uow.symbols.list(limit=2, after=page)
        ]
        assert found == ["A", "AZ", "B", "C"]


async def test_check_counts_them_and_its_remedy_keeps_them(settings: StorageSettings) -> None:
    with ClickHouseManager(settings.clickhouse(), database="checked") as manager:
        await fill(manager)
        await _check(manager)


async def _check(manager: ClickHouseManager) -> None:
    databases = migrate.Databases(manager)
    found = {each.where: each for each in await migrate.check(databases)}
    assert found.keys() == {"candles", "symbols"}
    assert "2 of timeframe '45m'" in found["candles"].actual
    assert "3 (" in found["symbols"].actual
    await Opening(StorageSettings(check="error", migrate=False), databases).prepare()
    for each in found.values():
        for statement in each.remedy.split("; "):
            manager.execute(statement, settings={"mutations_sync": 2})
    assert await migrate.check(databases) == []
    assert manager.execute("SELECT count() FROM candles_unreadable") == [(4,)]
    assert manager.execute("SELECT count() FROM symbols_unreadable") == [(3,)]
    assert await ClickHouseCandleRepository(manager).list_keys() == KEYS
