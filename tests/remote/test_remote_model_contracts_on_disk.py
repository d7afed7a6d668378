"""The same over the embedded stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage, StorageSettings
from jts_storage.backend import StoreBackend
from jts_storage.ports.models import Model
from jts_storage.testing.backends import Stack, open_stack
from jts_storage.testing.contracts import model_contract
from tests.declared import balances, fill_records, fills, fundamentals, orders, quotes, ticks
from tests.remote.gateways import remote

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory, engine_used: Callable[[str], None]
) -> Iterator[Stack]:
    for engine in ("mongod", "chDB", "SQLite"):
        engine_used(engine)
    stack = open_stack("embedded", None, tmp_path_factory.mktemp("models"))
    yield stack
    stack.close()


@pytest.fixture
def clean_stores(stack: Stack) -> StorageSettings:
    stack.clean(stack.needed(frozenset()))
    return stack.settings(frozenset()).model_copy(update={"migrate": True})


@pytest.fixture
async def jts_storage(
    clean_stores: StorageSettings, jts_models: Iterable[Model[Any]], tmp_path: Path
) -> AsyncIterator[Storage]:
    models = list(jts_models)
    backend = StoreBackend(clean_stores, models=models)
    async with Storage(backend), remote(backend, tmp_path, models=models) as storage:
        yield storage


TestTicks = model_contract(ticks)
TestFundamentals = model_contract(fundamentals)
TestQuotes = model_contract(quotes)
TestFills = model_contract(fills)
TestFillRecords = model_contract(fill_records)
TestBalances = model_contract(balances)
TestOrders = model_contract(orders)
