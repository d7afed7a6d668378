"""Declared models behind a gateway keep their contract, and ask what they ask beside the stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import nullcontext
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import bson
import pytest

from jts_storage import Storage
from jts_storage.errors import InvalidData, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.models.conditions import has_text
from jts_storage.mongo.stored import CODEC
from jts_storage.ports.models import Model
from jts_storage.remote.backend import GrpcBackend
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.testing.contracts import (
    DocumentHistoryContract,
    DocumentsInUnitsOfWorkContract,
    model_contract,
)
from tests.declared import Fundamental, Order, Tick, balances, fundamentals, orders, ticks
from tests.remote.gateways import remote, served

MODELS = (ticks, fundamentals, orders)


class _Remote:
    """One storage in place of the two that the contract asks in turn."""

    @pytest.fixture
    async def any_storage(
        self, jts_models: Iterable[Model[Any]], tmp_path: Path
    ) -> AsyncIterator[Storage]:
        async with remote(InMemoryBackend(models=jts_models), tmp_path, models=jts_models) as found:
            yield found


TestTicks = type("TestTicks", (_Remote, model_contract(ticks)), {})
TestFundamentals = type("TestFundamentals", (_Remote, model_contract(fundamentals)), {})
TestBalances = type("TestBalances", (_Remote, model_contract(balances)), {})
TestOrders = type("TestOrders", (_Remote, model_contract(orders)), {})


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[Storage]:
    async with remote(InMemoryBackend(models=MODELS), tmp_path, models=MODELS) as found:
        yield found


class TestDocumentHistory(DocumentHistoryContract):
    """That of revisions."""


class TestDocuments(DocumentsInUnitsOfWorkContract):
    """Those of units of work."""


START = datetime(2026, 1, 5, tzinfo=UTC)


def tick(number: int) -> Tick:
    return Tick("AaBb"[number], START + timedelta(minutes=number), Decimal(number), 2)


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        (lambda c: c.price == 2, [2]),
        (lambda c: c.price != 2, [0, 1, 3]),
        (lambda c: c.price < 2, [0, 1]),
        (lambda c: c.price <= 2, [0, 1, 2]),
        (lambda c: c.price > 2, [3]),
        (lambda c: c.price >= 2, [2, 3]),
        (lambda c: c.price.in_([1, 3]), [1, 3]),
        (lambda c: c.price.not_in([1, 3]), [0, 2]),
        (lambda c: c.price.between(1, 2), [1, 2]),
        (lambda c: ~c.price.between(1, 2), [0, 3]),
        (lambda c: has_text(c.symbol, "B"), [2, 3]),
        (lambda c: (c.price == 1) | (c.price == 3), [1, 3]),
        (lambda c: (c.price >= 1) & (c.price < 3), [1, 2]),
        (lambda c: ~(c.symbol == "A"), [1, 2, 3]),
    ],
)
async def test_conditions_on_rows(
    storage: Storage, where: Callable[[Any], Any], numbers: list[int]
) -> None:
    async with storage.unit_of_work() as uow:
        await uow.repository(ticks).append([tick(number) for number in range(4)])
        await uow.commit()
    found = await storage.repository(ticks).read(where=where)
    assert sorted(map(int, found["price"].to_pylist())) == numbers


async def test_conditions_on_what_is_not_there(storage: Storage) -> None:
    known, unknown = (Fundamental(name, date(2026, 1, 5), eps) for name, eps in
                      (("A", Decimal("1.5")), ("B", None)))  # fmt: skip
    async with storage.unit_of_work() as uow:
        await uow.repository(fundamentals).save_many([known, unknown])
        await uow.commit()
    repository = storage.repository(fundamentals)
    assert await repository.list(where=lambda c: c.eps.is_(None)) == [unknown]
    assert await repository.list(where=lambda c: c.eps.is_not(None)) == [known]


async def test_conditions_on_documents(storage: Storage) -> None:
    async with storage.unit_of_work() as uow:
        saved = await uow.repository(orders).save(Order("A", Decimal(5)))
        await uow.repository(orders).save(Order("B", Decimal(1)))
        await uow.commit()
    found = await storage.repository(orders).list(where=lambda c: c.symbol == "A")
    assert found == [saved]


async def test_a_condition_asks_for_comparisons_only(storage: Storage) -> None:
    page: Any = storage._backend.readable._documents.page  # type: ignore[attr-defined]
    refused: list[dict[str, Any]] = [
        {"$where": "1"},
        {"$or": [{"symbol": {"$function": {}}}]},
        {"$expr": {}},
    ]
    for where in refused:
        condition = bson.encode({"where": where}, codec_options=CODEC)
        with pytest.raises(InvalidData, match="is not taken from a client"):
            await page("orders", condition, 5, None, True)


async def test_a_pattern_is_short(storage: Storage) -> None:
    page: Any = storage._backend.readable._documents.page  # type: ignore[attr-defined]
    long = "(a+)+" * 101
    for wanted in ({"$regex": long}, {"$regex": bson.Regex(long)}, bson.Regex(long), {"$regex": 5}):
        for where in ({"symbol": wanted}, {"$nor": [{"symbol": {"$in": [wanted]}}]}):
            condition = bson.encode({"where": where}, codec_options=CODEC)
            with pytest.raises(InvalidData, match="no pattern of at most 500"):
                await page("orders", condition, 5, None, True)


async def test_a_search_for_documents_ends(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take a hostile pattern as long as MongoDB lets it."""
    bounds: list[float] = []

    def noted(seconds: float) -> Any:
        bounds.append(seconds)
        return nullcontext()

    monkeypatch.setattr("jts_storage.remote.server.served.at_most", noted)
    await storage.repository(orders).list()
    assert bounds == [20.0]


async def test_a_model_that_the_gateway_lacks_is_told_at_once(tmp_path: Path) -> None:
    async with served(InMemoryBackend(), tmp_path) as gateway:
        config = GatewayConfig(addresses=(gateway.address,), tls=False)
        with pytest.raises(StorageError, match=r"declared models ticks.*Install the package"):
            await Storage(GrpcBackend(config, models=[ticks])).__aenter__()
