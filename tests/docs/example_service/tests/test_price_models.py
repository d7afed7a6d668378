"""The models of the service keep what the kit promises."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, assert_type

import pytest
from price_models import MODELS, Alert, Alerts, AlertState, Quote, alerts, quotes

from jts_storage import Storage, TableRepository
from jts_storage.ports.models import Model
from jts_storage.sync import Storage as SyncStorage
from jts_storage.testing.contracts import model_contract


@pytest.fixture(scope="session")
def jts_models() -> Iterable[Model[Any]]:
    """In a service of several files it stands in conftest.py."""
    return MODELS


TestQuotes = model_contract(quotes)
TestAlerts = model_contract(alerts)


@pytest.mark.asyncio
async def test_an_alert_is_raised_with_its_quote(jts_storage: Storage) -> None:
    quote = Quote("005930", datetime(2026, 3, 2, tzinfo=UTC), Decimal(71_200), Decimal(71_300))
    async with jts_storage.unit_of_work() as uow:
        alert = await uow.repository(alerts).save(Alert("005930", Decimal(71_000)))
        await uow.commit()
    async with jts_storage.unit_of_work() as uow:
        await uow.repository(quotes).append([quote])
        await uow.repository(alerts).save(replace(alert, state=AlertState.RAISED))
        await uow.commit()
    assert_type(jts_storage.repository(alerts), Alerts)
    assert_type(jts_storage.repository(quotes), TableRepository[Quote])
    assert await jts_storage.repository(alerts).waiting() == []
    assert await jts_storage.repository(quotes).list() == [quote]


def test_blocking_code_has_them_too(jts_sync_storage: SyncStorage) -> None:
    with jts_sync_storage.unit_of_work() as uow:
        saved = uow.repository(alerts).call(lambda mine: mine.save(Alert("A", Decimal(1))))
        uow.commit()
    assert_type(saved, Alert)
    found = jts_sync_storage.repository(alerts).call(lambda mine: mine.waiting())
    assert [alert.id for alert in found] == [saved.id]
