"""Symbols that are staged, and what all that is staged has in common with its port."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from jts_storage._runtime.lifetime import Lifetime
from jts_storage.clickhouse.symbol_model import SYMBOLS, DeclaredSymbols
from jts_storage.domain.changes import stamp
from jts_storage.domain.enums import Market
from jts_storage.errors import InvalidData, StorageError
from jts_storage.memory.declared import InMemoryTable
from jts_storage.memory.tables import MemoryDatabase
from jts_storage.ports import (
    CandleRepository,
    CheckpointRepository,
    SymbolBarsRepository,
    SymbolRepository,
)
from jts_storage.testing.factories import make_symbol
from jts_storage.unit_of_work.staged import (
    StagedCandles,
    StagedCheckpoints,
    StagedSymbolBars,
)
from jts_storage.unit_of_work.staged.tables import StagedTable


@pytest.mark.parametrize(
    ("staged", "port"),
    [
        (DeclaredSymbols, SymbolRepository),
        (StagedCandles, CandleRepository),
        (StagedCheckpoints, CheckpointRepository),
        (StagedSymbolBars, SymbolBarsRepository),
    ],
)
def test_what_may_be_left_out_is_what_the_port_says(staged: type, port: type) -> None:
    checked = 0
    for name, promised in inspect.getmembers(port, inspect.isfunction):
        if name.startswith("_"):
            continue
        kept = inspect.signature(getattr(staged, name)).parameters
        for parameter in inspect.signature(promised).parameters.values():
            if parameter.default is not parameter.empty:
                assert kept[parameter.name].default == parameter.default, (name, parameter)
                checked += 1
    assert checked


def table(*, lifetime: Lifetime | None = None, over: InMemoryTable | None = None) -> StagedTable:
    return StagedTable(SYMBOLS, over or InMemoryTable(MemoryDatabase(), SYMBOLS), lifetime)


async def test_what_is_no_symbol_is_named() -> None:
    rows = table()
    staged = SYMBOLS.repository(rows)
    nothing: Any = object()
    with pytest.raises(InvalidData, match=r"\bsymbols\b"):
        await staged.save_many([nothing])
    with pytest.raises(InvalidData, match=r"\bsymbol\b"):
        stamp(nothing)
    unhashable: Any = ["005930"]
    with pytest.raises(InvalidData, match=r"\bcode\b"):
        await staged.get_by_code(unhashable)
    assert rows.change is None


async def test_what_is_staged_hides_what_is_stored() -> None:
    stored = InMemoryTable(MemoryDatabase(), SYMBOLS)
    earlier = table(over=stored)
    before = SYMBOLS.repository(earlier)
    await before.save(make_symbol("A", market=Market.KOSPI, is_active=True))
    await before.save(make_symbol("B", market=Market.KOSPI, is_active=True))
    assert earlier.change is not None
    stored.apply(earlier.change)
    rows = table(over=stored)
    staged = SYMBOLS.repository(rows)
    moved = await staged.save(make_symbol("A", market=Market.KOSDAQ, is_active=False))
    assert rows.change is not None
    assert SYMBOLS.from_columns(rows.change.rows) == [moved]
    assert await staged.get_by_code("A") == moved
    assert [s.code for s in await staged.get_by_market(Market.KOSPI)] == ["B"]
    assert [s.code for s in await staged.get_by_market(Market.KOSDAQ)] == ["A"]
    assert [s.code for s in await staged.get_all_active()] == ["B"]
    assert [s.code for s in await staged.list()] == ["A", "B"]
    assert [s.code for s in await staged.list(limit=1, after="A")] == ["B"]


async def test_what_is_over_takes_no_symbol() -> None:
    lifetime = Lifetime()
    rows = table(lifetime=lifetime)
    lifetime.end("is over")
    with pytest.raises(StorageError, match="is over"):
        await SYMBOLS.repository(rows).save(make_symbol("A"))
    assert rows.change is None
