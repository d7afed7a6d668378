"""`has_text` finds the same rows stored, staged and in memory; a key is read alike by each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.errors import InvalidData
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.models import has_text
from tests.declared import MODELS, Balance, Fundamental, balances, fundamentals

DAY = date(2026, 3, 2)
NAMES = {"Samsung", "삼성전자", "100%", "Under_score", "Back\\slash", "O'Brien", "ÄRGER"}
FOUND = {
    "SAM": {"Samsung"},
    "성전": {"삼성전자"},
    "%": {"100%"},
    "_": {"Under_score"},
    "\\": {"Back\\slash"},
    "'": {"O'Brien"},
    "ärger": {"ÄRGER"},
    "*": set(),
    "": NAMES,
}


@pytest.fixture(params=["stored", "staged", "in memory"])
async def ask(
    request: pytest.FixtureRequest, settings: StorageSettings
) -> AsyncIterator[Callable[[Any], Any]]:
    in_memory = request.param == "in memory"
    made = InMemoryBackend(models=MODELS) if in_memory else StoreBackend(settings, models=MODELS)
    async with Storage(made) as storage, storage.unit_of_work() as uow:
        figures = uow.repository(fundamentals)
        await figures.save_many(Fundamental(name, DAY, Decimal(1)) for name in NAMES)
        # The same keys again: of two writes the later counts.
        await figures.save_many(Fundamental(name, DAY, Decimal("2.5")) for name in NAMES)
        if request.param == "staged":
            yield uow.repository
            return
        await uow.commit()
        yield storage.repository


async def test_a_text_is_found_in_capitals_or_not(ask: Callable[[Any], Any]) -> None:
    for text, expected in FOUND.items():
        found = await ask(fundamentals).list(where=lambda c, text=text: has_text(c.symbol, text))
        assert {each.symbol for each in found} == expected, text
        others = await ask(fundamentals).list(where=lambda c, text=text: ~has_text(c.symbol, text))
        assert {each.symbol for each in others} == NAMES - expected, text
        narrower = await ask(fundamentals).list(
            where=lambda c, text=text: has_text(c.symbol, text) & (c.eps > 2) & (c.symbol != "100%")
        )
        assert {each.symbol for each in narrower} == expected - {"100%"}, text


async def test_what_is_no_text_is_refused(ask: Callable[[Any], Any]) -> None:
    number: Any = 1
    for where in (lambda c: has_text(c.eps, "1"), lambda c: has_text(c.symbol, number)):
        with pytest.raises(InvalidData, match="text"):
            await ask(fundamentals).list(where=where)


async def test_records_are_not_searched(ask: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidData, match="has_text"):
        await ask(balances).list(where=lambda c: ~has_text(c.account, "a"))


async def test_a_key_is_read_whatever_is_in_it(ask: Callable[[Any], Any]) -> None:
    for name in NAMES:
        assert await ask(fundamentals).get(name, DAY) == Fundamental(name, DAY, Decimal("2.5"))
        assert await ask(fundamentals).get(name, date(2026, 3, 3)) is None
    assert await ask(balances).get("nobody") is None


async def test_of_rows_written_and_deleted_by_turns_the_last_counts(
    settings: StorageSettings,
) -> None:
    moment = datetime(2026, 3, 2, tzinfo=UTC)
    for made in (InMemoryBackend(models=MODELS), StoreBackend(settings, models=MODELS)):
        async with Storage(made) as storage:
            async with storage.unit_of_work() as uow:
                figures = uow.repository(fundamentals)
                await figures.save(Fundamental("A", DAY, Decimal(1)))
                assert await figures.delete("A", DAY)
                await figures.save_many(Fundamental(n, DAY, Decimal(2)) for n in "AB")
                assert await figures.delete("B", DAY)
                await figures.save(Fundamental("C", DAY, None))
                await uow.repository(balances).save(Balance("x", Decimal(1), moment))
                await uow.commit()
            found = await storage.repository(fundamentals).list()
            assert found == [Fundamental("A", DAY, Decimal(2)), Fundamental("C", DAY, None)]
