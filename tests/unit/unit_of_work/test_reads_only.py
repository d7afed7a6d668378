"""What a storage gives reads; a call that would write is told where that is done."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

import jts_storage.sync
from jts_storage import Market, Storage, Symbol
from jts_storage.errors import StorageError

WRITERS = [
    ("candles", "save_many"),
    ("candles", "save_panel"),
    ("candles", "delete_range"),
    ("formulas", "save"),
    ("strategies", "delete"),
    ("backtests", "save"),
    ("ingestion.checkpoints", "save"),
    ("ingestion.checkpoints", "update"),
    ("ingestion.symbol_bars", "save"),
    ("ingestion.bars", "save_many"),
]


def at(storage: Any, place: str) -> Any:
    for name in place.split("."):
        storage = getattr(storage, name)
    return storage


def told(reader: Any, place: str, name: str) -> None:
    assert not hasattr(reader, name)
    with pytest.raises(AttributeError) as caught:
        getattr(reader, name)
    assert str(caught.value) == (
        f"storage.{place} reads what is committed, and has no {name!r}."
        f" Write in a unit of work, through uow.{place}, and commit it."
    )


@pytest.mark.parametrize("observer", [None, Mock()])
async def test_who_writes_without_a_unit_of_work_is_told_to_use_one(observer: Any) -> None:
    async with Storage.in_memory(observer=observer) as storage:
        for place, name in WRITERS:
            told(at(storage, place), place, name)
        with pytest.raises(AttributeError, match=r"no attribute 'get_rnage'"):
            storage.candles.get_rnage  # type: ignore[attr-defined]  # noqa: B018


def test_so_is_blocking_code() -> None:
    with jts_storage.sync.Storage.in_memory() as storage:
        for place, name in WRITERS:
            told(at(storage, place), place, name)
        with pytest.raises(AttributeError, match=r"no attribute 'get_rnage'"):
            storage.candles.get_rnage  # type: ignore[attr-defined]  # noqa: B018
        with storage.unit_of_work() as uow:
            with pytest.raises(AttributeError, match=r"has no attribute 'save'"):
                uow.candles.save  # type: ignore[attr-defined]  # noqa: B018
            for place, name in WRITERS:
                assert callable(getattr(at(uow, place), name))


async def test_symbols_are_not_written_either() -> None:
    async with Storage.in_memory() as storage:
        symbols: Any = storage.symbols
        with pytest.raises(StorageError, match=r"Write in a unit of work: .* uow\.symbols"):
            await symbols.save(Symbol("005930", "Samsung Electronics", Market.KOSPI))
        assert await storage.symbols.get_by_code("005930") is None
