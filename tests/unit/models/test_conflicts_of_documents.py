"""What a conflict calls the document that it is about."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from jts_storage import Conflict, Formula, Storage
from jts_storage.mongo.saves import shown_of
from tests.declared import Order, orders


async def test_an_id_is_shown_once() -> None:
    async with Storage.in_memory(models=[orders]) as storage:
        async with storage.unit_of_work() as uow:
            order = await uow.repository(orders).save(Order("005930", Decimal(1)))
            await uow.commit()
        for stale, how in (
            (replace(order, version=7), "was changed by somebody else"),
            (replace(order, id="6" * 24), "cannot be updated"),
        ):
            async with storage.unit_of_work() as uow:
                with pytest.raises(Conflict, match=f"^orders {stale.id} {how}"):
                    await uow.repository(orders).save(stale)


def test_a_name_stands_beside_the_id() -> None:
    formula = Formula(name="breakout", expression="close > 1")
    assert shown_of("formulas", "6b0b", formula) == "formulas 6b0b ('breakout')"
    assert shown_of("orders", "6b0b", Order("005930", Decimal(1))) == "orders 6b0b"
