"""What a `Storage` promises of symbols: their pages, and panels of those of a market."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jts_storage.domain.candle import SeriesKey
from jts_storage.domain.enums import Market, Timeframe
from jts_storage.domain.panel import CandlePanel
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.storage import Storage
from jts_storage.testing.contracts.samples import FOREVER
from jts_storage.testing.factories import make_candles, make_formula, make_symbol

D1 = Timeframe.D1


class Markets:
    """Part of the contract of `Storage`."""

    async def test_a_market_given_as_text_finds_staged_symbols(self, storage: Storage) -> None:
        text: Any = Market.KOSDAQ.value
        async with storage.unit_of_work() as uow:
            await uow.symbols.save_many(
                [make_symbol("A", market=Market.KOSDAQ), make_symbol("B", market=Market.ETF)]
            )
            found = await uow.symbols.get_by_market(text)
            assert [symbol.code for symbol in found] == ["A"]

    async def test_pages_of_symbols_mix_stored_and_staged(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            await uow.symbols.save_many([make_symbol(code) for code in "ACEG"])
            await uow.commit()
        async with storage.unit_of_work() as uow:
            await uow.symbols.save_many([make_symbol(code) for code in "BDF"])
            await uow.symbols.save(make_symbol("A", is_active=False))
            seen: list[str] = []
            after: str | None = None
            while page := await uow.symbols.list(limit=2, after=after):
                seen += [symbol.code for symbol in page]
                after = seen[-1]
            assert seen == list("ABCDEFG")
            active = await uow.symbols.get_all_active(limit=3)
            assert [symbol.code for symbol in active] == ["B", "C", "D"]

    async def test_a_panel_of_a_market(self, storage: Storage) -> None:
        markets = {"A": Market.KOSPI, "B": Market.KOSDAQ, "C": Market.KOSPI}
        async with storage.unit_of_work() as uow:
            for name in (*markets, "without a symbol"):
                key = SeriesKey(name, D1)
                await uow.candles.save_many(key, make_candles(key, 3))
            await uow.symbols.save_many(make_symbol(n, market=m) for n, m in markets.items())
            assert await symbols_of(uow, Market.KOSPI) == ["A", "C"]
            await uow.commit()
        assert await symbols_of(storage, Market.KOSPI) == ["A", "C"]
        assert await symbols_of(storage, Market.ETF) == []
        keys = [SeriesKey("A", D1)]
        for market, names in ((Market.ETF, []), (Market.KOSDAQ, []), (Market.KOSPI, ["A"])):
            found = await storage.candles.get_panel(D1, *FOREVER, keys=keys, market=market)
            assert names_of(found) == names
            newest = await storage.candles.get_latest_panel(D1, keys=keys, market=market)
            assert names_of(newest) == names
        elsewhere = await storage.candles.get_panel(D1, *FOREVER, keys=keys, exchange="KRX")
        assert names_of(elsewhere) == []
        weeks = await storage.candles.resample_panel(
            D1, Timeframe.W1, *FOREVER, market=Market.KOSPI
        )
        assert names_of(weeks) == ["A", "C"]
        latest = await storage.candles.get_latest_panel(D1, market=Market.KOSDAQ, fields=["close"])
        assert names_of(latest) == ["B"]
        blocks = storage.candles.stream_panels(D1, *FOREVER, market=Market.KOSPI, block_rows=4)
        assert [names_of(block) async for block in blocks] == [["A"], ["C"]]

    async def test_a_market_of_ones_own_is_a_market(self, storage: Storage) -> None:
        mine = Market.own("SPOT")
        async with storage.unit_of_work() as uow:
            for name in "AB":
                key = SeriesKey(name, D1, "UPBIT")
                await uow.candles.save_many(key, make_candles(key, 3))
            await uow.symbols.save(make_symbol("A", market=mine))
            await uow.formulas.save(make_formula())  # so that the journal carries the symbol
            assert await symbols_of(uow, mine) == ["A"]
            await uow.commit()
        assert await symbols_of(storage, mine) == ["A"]
        found = await storage.symbols.get_by_code("A")
        assert found is not None
        assert found.market is mine

    async def test_every_timeframe_is_stored_listed_and_made(self, storage: Storage) -> None:
        minutes = SeriesKey("A", Timeframe.M1, "X")
        keys = [SeriesKey("A", timeframe, "Y") for timeframe in Timeframe]
        candles = make_candles(minutes, 1_000)
        async with storage.unit_of_work() as uow:
            for key in keys:
                await uow.candles.save_many(key, make_candles(key, 5))
            await uow.candles.save_many(minutes, candles)
            await uow.commit()
        assert set(await storage.candles.list_keys()) == {minutes, *keys}
        for key in keys:
            assert await storage.candles.get_range(key, *FOREVER) == make_candles(key, 5)
            latest = await storage.candles.get_latest_panel(key.timeframe, exchange="Y")
            assert list(latest) == [key]
        for target in list(Timeframe)[1:]:
            made = await storage.candles.resample(minutes, target, *FOREVER)
            assert made == candles.resample(target)
            panel = await storage.candles.resample_panel(
                Timeframe.M1, target, *FOREVER, exchange="X"
            )
            assert list(panel.values()) == [made]

    async def test_a_unit_of_work_sees_its_own_symbols(self, storage: Storage) -> None:
        async with storage.unit_of_work() as uow:
            for name in "AB":
                key = SeriesKey(name, D1)
                await uow.candles.save_many(key, make_candles(key, 3))
            await uow.symbols.save(make_symbol("A", market=Market.KOSPI))
            await uow.commit()
        async with storage.unit_of_work() as uow:
            await uow.symbols.save(make_symbol("A", market=Market.ETF))
            await uow.symbols.save(make_symbol("B", market=Market.KOSPI))
            assert await symbols_of(uow, Market.KOSPI) == ["B"]
            assert await symbols_of(storage, Market.KOSPI) == ["A"]


async def symbols_of(reader: Storage | UnitOfWork, market: Market) -> list[str]:
    return names_of(await reader.candles.get_panel(D1, *FOREVER, market=market))


def names_of(panel: CandlePanel) -> list[str]:
    keys: Iterable[SeriesKey] = panel
    return [key.symbol for key in keys]
