"""Declared models behind a gateway keep their contract: tables, records and documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import pytest

from jts_storage import Storage
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.ports.models import Model
from jts_storage.testing.contracts import model_contract
from tests.declared import balances, fill_records, fills, fundamentals, orders, quotes, ticks
from tests.remote.gateways import remote


@pytest.fixture
async def jts_storage(jts_models: Iterable[Model[Any]], tmp_path: Path) -> AsyncIterator[Storage]:
    models = list(jts_models)
    backend = InMemoryBackend(models=models)
    async with Storage(backend), remote(backend, tmp_path, models=models) as storage:
        yield storage


TestTicks = model_contract(ticks)
TestFundamentals = model_contract(fundamentals)
TestQuotes = model_contract(quotes)
TestFills = model_contract(fills)
TestFillRecords = model_contract(fill_records)
TestBalances = model_contract(balances)
TestOrders = model_contract(orders)
