"""Declared models keep their contract on real stores and in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.ports.models import Model
from jts_storage.testing.backends import Stack, open_stack
from jts_storage.testing.contracts import model_contract
from tests.declared import balances, fill_records, fills, fundamentals, orders, quotes, ticks


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[Stack]:
    """The plugin's embedded stores, but for this file alone: other files use other engines."""
    for engine in ("mongod", "chDB", "SQLite"):
        engine_used(engine)
    stack = open_stack("embedded", None, tmp_path_factory.mktemp("models"))
    yield stack
    stack.close()


@pytest.fixture
def clean_stores(stack: Stack) -> StorageSettings:
    """Emptied and not made anew each time, which takes far longer than a test."""
    stack.clean(stack.needed(frozenset()))
    return stack.settings(frozenset()).model_copy(update={"migrate": True})


@pytest.fixture
async def jts_storage(
    clean_stores: StorageSettings, jts_models: Iterable[Model[Any]]
) -> AsyncIterator[Storage]:
    """Opened as a service opens it."""
    async with Storage(StoreBackend(clean_stores, models=jts_models)) as storage:
        yield storage


TestTicks = model_contract(ticks)
TestFundamentals = model_contract(fundamentals)
TestFills = model_contract(fills)
TestBalances = model_contract(balances)
TestOrders = model_contract(orders)

# By day one model of each kind, and one with fields that may be missing; behind a gateway come all.
TestQuotes = pytest.mark.slow(model_contract(quotes))
TestFillRecords = pytest.mark.slow(model_contract(fill_records))
