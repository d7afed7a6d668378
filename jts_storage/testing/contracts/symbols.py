"""The contract of `SymbolRepository`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from jts_storage.domain.enums import Market
from jts_storage.domain.symbol import Symbol
from jts_storage.errors import InvalidData
from jts_storage.ports.symbols import SymbolRepository
from jts_storage.testing.factories import make_symbol


def codes(symbols: object) -> list[str]:
    return [symbol.code for symbol in symbols]  # type: ignore[attr-defined]


@pytest.mark.asyncio
class SymbolRepositoryContract:
    """Give it a fixture `symbol_repository`: a `SymbolRepository` of which nothing is stored."""

    async def test_what_was_saved_is_read(self, symbol_repository: SymbolRepository) -> None:
        symbol = make_symbol("005930", name="삼성전자", sector=None, is_active=False)
        saved = await symbol_repository.save(symbol)
        assert replace(saved, updated_at=None) == symbol
        assert saved.updated_at is not None
        assert await symbol_repository.get_by_code("005930") == saved

    async def test_an_unknown_code_is_none(self, symbol_repository: SymbolRepository) -> None:
        assert await symbol_repository.get_by_code("nothing") is None

    async def test_saving_a_code_again_replaces_it(
        self, symbol_repository: SymbolRepository
    ) -> None:
        await symbol_repository.save(make_symbol("A", name="old", market=Market.KOSPI))
        await symbol_repository.save(make_symbol("A", name="new", market=Market.KOSDAQ))
        found = await symbol_repository.get_by_code("A")
        assert found is not None
        assert (found.name, found.market) == ("new", Market.KOSDAQ)
        assert codes(await symbol_repository.get_by_market(Market.KOSPI)) == []
        assert codes(await symbol_repository.list()) == ["A"]

    async def test_many_saves_at_once_leave_the_last(
        self, symbol_repository: SymbolRepository
    ) -> None:
        batch = [make_symbol("A", name="first"), make_symbol("B"), make_symbol("A", name="last")]
        assert codes(await symbol_repository.save_many(batch)) == ["A", "B", "A"]
        found = await symbol_repository.get_by_code("A")
        assert found is not None
        assert found.name == "last"
        assert list(await symbol_repository.save_many([])) == []

    async def test_every_market_is_kept(self, symbol_repository: SymbolRepository) -> None:
        markets = [*Market, Market.own("SPOT"), Market.own("코스닥 글로벌")]
        await symbol_repository.save_many(make_symbol(m.value, market=m) for m in markets)
        for market in markets:
            found = await symbol_repository.get_by_code(market.value)
            assert found is not None
            assert found.market is market
            assert codes(await symbol_repository.get_by_market(market)) == [market.value]
        assert codes(await symbol_repository.get_by_market(Market.own("another"))) == []
        with pytest.raises(InvalidData, match="must be one of"):
            await symbol_repository.get_by_market("misspelled")  # type: ignore[arg-type]

    async def test_markets_and_activity_select(self, symbol_repository: SymbolRepository) -> None:
        await symbol_repository.save_many(
            [
                make_symbol("3", market=Market.KOSPI),
                make_symbol("1", market=Market.KOSDAQ, is_active=False),
                make_symbol("2", market=Market.KOSDAQ),
            ]
        )
        assert codes(await symbol_repository.get_by_market(Market.KOSDAQ)) == ["1", "2"]
        assert codes(await symbol_repository.get_by_market(Market.ETF)) == []
        assert codes(await symbol_repository.get_all_active()) == ["2", "3"]
        assert codes(await symbol_repository.list()) == ["1", "2", "3"]

    async def test_a_limit_below_nothing_is_refused(
        self, symbol_repository: SymbolRepository
    ) -> None:
        with pytest.raises(InvalidData, match="limit"):
            await symbol_repository.list(limit=-1)

    async def test_what_is_no_symbol_and_no_code_is_refused(
        self, symbol_repository: SymbolRepository
    ) -> None:
        repository: Any = symbol_repository
        for refused in (
            repository.save("005930"),
            repository.save_many(make_symbol("1")),
            repository.get_by_code(5930),
            repository.get_by_code(None),
        ):
            with pytest.raises(InvalidData):
                await refused

    async def test_lists_come_in_pages(self, symbol_repository: SymbolRepository) -> None:
        await symbol_repository.save_many([make_symbol(code) for code in "DACBE"])
        for page in (
            symbol_repository.list,
            symbol_repository.get_all_active,
        ):
            assert codes(await page(limit=2)) == ["A", "B"]
            assert codes(await page(limit=2, after="B")) == ["C", "D"]
            assert codes(await page(limit=2, after="D")) == ["E"]
            assert codes(await page(limit=2, after="E")) == []
        in_market = await symbol_repository.get_by_market(Market.KOSPI, limit=3, after="C")
        assert codes(in_market) == ["D", "E"]
        assert codes(await symbol_repository.search("company", limit=2, after="A")) == ["B", "C"]

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ("samsung", ["005930"]),
            ("SUNG e", ["005930"]),
            ("0059", ["005930"]),
            ("전자", ["066570"]),
            ("%", ["PCT"]),
            ("_", ["UND"]),
            ("\\", ["BSL"]),
            ("'", ["QUO"]),
            ("*", []),
            ("", []),
            ("nothing of the kind", []),
        ],
    )
    async def test_search_takes_every_character_literally(
        self, symbol_repository: SymbolRepository, query: str, found: list[str]
    ) -> None:
        names = {
            "005930": "Samsung Electronics",
            "066570": "LG전자",
            "PCT": "100% Corp",
            "UND": "Under_Score",
            "BSL": "Back\\Slash",
            "QUO": "O'Brien",
        }
        await symbol_repository.save_many(
            [Symbol(code, name, Market.KOSPI) for code, name in names.items()]
        )
        assert codes(await symbol_repository.search(query)) == found

    @pytest.mark.parametrize("hostile", ["x' OR '1'='1", "%(code)s", "{code:String}", '"', "--"])
    async def test_hostile_strings_are_plain_text(
        self, symbol_repository: SymbolRepository, hostile: str
    ) -> None:
        await symbol_repository.save(make_symbol("A"))
        assert await symbol_repository.get_by_code(hostile) is None
        saved = await symbol_repository.save(Symbol(hostile, hostile, Market.ETF, hostile))
        assert await symbol_repository.get_by_code(hostile) == saved
        assert codes(await symbol_repository.search(hostile)) == [hostile]
