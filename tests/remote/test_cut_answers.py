"""Answers of a gateway are cut at every byte: a commit finds out by itself what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe, new_unit_id
from jts_storage.errors import ConnectionFailed, OutcomeUnknown, StorageError
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.ports.unit_of_work import UnitOfWork
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.testing.contracts.samples import FOREVER, candle
from jts_storage.testing.factories import make_formula
from jts_storage.testing.fault_proxy import FaultProxy

KEY = SeriesKey("CUT", Timeframe.M1, "KRX")
_MOST_BYTES = 5_000


@dataclass
class Wire:
    """A gateway, and a proxy before it."""

    storage: Storage
    address: str
    proxy: FaultProxy

    def settings(self, *, has_other: bool, more: str = "") -> StorageSettings:
        ways = [f"{self.proxy.host}:{self.proxy.port}", *([self.address] if has_other else [])]
        return StorageSettings(url=f"grpc://{','.join(ways)}?retry_base_delay=0.01{more}")


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    backend = InMemoryBackend()
    async with Storage(backend) as storage:
        gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=0.5)))
        await gateway.start()
        host, _, port = gateway.address.rpartition(":")
        with FaultProxy(host, int(port)) as proxy:
            yield Wire(storage, gateway.address, proxy)
        await gateway.stop()


async def committed(wire: Wire, number: int, after: int, *, documents: bool) -> bool | None:
    """Whether a commit says that it is stored, its answers cut; None if it cannot know."""
    identity = new_unit_id()
    try:
        async with Storage.open(wire.settings(has_other=True)) as client:
            async with client.unit_of_work(id=identity) as uow:
                if documents:
                    await uow.formulas.save(make_formula(f"f{number}"))
                await uow.candles.save_many(KEY, [candle(number)])
                wire.proxy.faults.cut(after)
                await uow.commit()
            return True
    except OutcomeUnknown as exc:
        assert identity in str(exc)
        return None
    except StorageError as exc:
        assert exc.transient, exc
        return False
    finally:
        wire.proxy.faults.clear()


@pytest.mark.parametrize(
    ("documents", "step"),
    [
        (False, 11),
        (True, 13),
        pytest.param(False, 1, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]),
        pytest.param(True, 1, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)]),
    ],
)
async def test_cut_at_every_byte(wire: Wire, documents: bool, step: int) -> None:
    told: dict[int, bool | None] = {}
    for number, after in enumerate(range(0, _MOST_BYTES, step)):
        told[number] = await committed(wire, number, after, documents=documents)
        stored = list(await wire.storage.candles.get_range(KEY, *FOREVER))
        assert stored == [candle(each) for each in told if told[each]]
        if after > 400:
            break
    if documents:
        names = {each.name for each in await wire.storage.formulas.list(limit=1_000)}
        assert names == {f"f{number}" for number in told if told[number]}
    assert None not in told.values()  # the other way to the gateway is open
    print(f"cuts={len(told)} stored={sum(map(bool, told.values()))}")
    assert any(told.values())


async def test_while_nobody_answers_it_is_unknown_and_can_be_asked(wire: Wire) -> None:
    identity = new_unit_id()
    async with Storage.open(
        wire.settings(has_other=False, more="&timeout=1&commit_timeout=1")
    ) as client:
        with pytest.raises(OutcomeUnknown, match=f"outcome.'{identity}'"):
            async with client.unit_of_work(id=identity) as uow:
                await uow.candles.save_many(KEY, [candle(1)])
                wire.proxy.faults.hang()
                await uow.commit()
        wire.proxy.faults.clear()
        outcome = await client.outcome(identity)
        stored = await client.candles.get_range(KEY, *FOREVER)
    assert outcome.is_committed == bool(len(stored))


async def test_a_unit_of_work_that_waited_too_long_is_over(wire: Wire) -> None:
    settings = wire.settings(has_other=False, more="&timeout=1")
    async with Storage.open(settings) as client:
        async with client.unit_of_work() as uow:
            await uow.formulas.list()
            wire.proxy.faults.hang()
            for says in ("sent nothing for 1 s", "waited for too long before"):
                with pytest.raises(ConnectionFailed, match=says):
                    await uow.formulas.list()
            wire.proxy.faults.clear()
        assert not await client.formulas.list()


@pytest.mark.parametrize("documents", [False, True])
async def test_run_stores_once_though_the_gateway_goes_away(wire: Wire, documents: bool) -> None:
    async with Storage.open(wire.settings(has_other=True)) as client:
        attempts = 0

        async def count(uow: UnitOfWork) -> None:
            nonlocal attempts
            attempts += 1
            found = await uow.ingestion.checkpoints.get("n")
            before = cast("int", found.data["n"]) if found else 0
            await uow.ingestion.checkpoints.save("n", {"n": before + 1})
            if documents:  # their transaction is at the gateway that goes away
                await uow.formulas.save(make_formula("counted"))
            if attempts == 1:
                wire.proxy.faults.refuse()

        await client.run(count)
        stored = await client.ingestion.checkpoints.get("n")
    # Without a transaction the other gateway may take the commit as it is.
    assert attempts == 2 if documents else attempts in (1, 2)
    assert stored is not None
    assert stored.data == {"n": 1}
