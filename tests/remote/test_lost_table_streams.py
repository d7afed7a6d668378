"""A stream of rows of a table goes on where it was, whatever became of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from jts_storage import Storage
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.remote.backend import GrpcBackend
from jts_storage.remote.server.gateway import Gateway, Place
from jts_storage.remote.server.limits import Limits
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.testing.fault_proxy import FaultProxy
from tests.declared import Balance, Fundamental, Tick, balances, fundamentals, ticks

MODELS = (ticks, fundamentals, balances)
NOW, ROWS = datetime(2026, 1, 5, tzinfo=UTC), 2_000
BLOCK, KEYS = 20, 7
"""So many rows of ticks have one key, over the ends of blocks."""


@pytest.fixture
async def stored() -> AsyncIterator[InMemoryBackend]:
    backend = InMemoryBackend(models=MODELS)
    async with Storage(backend):
        yield backend


async def fill(backend: InMemoryBackend, model: Any) -> None:
    async with backend.unit_of_work("", None) as uow:
        if model is ticks:
            await uow.repository(ticks).append(
                Tick("A", NOW + timedelta(minutes=n // KEYS), Decimal(n % 3), n)
                for n in range(ROWS)
            )
        elif model is fundamentals:
            await uow.repository(fundamentals).save_many(
                Fundamental(f"S{n % 50}", date(2026, 1, 5) + timedelta(days=n // 50), None)
                for n in range(ROWS)
            )
        else:
            await uow.repository(balances).save_many(
                [Balance(f"{n:05}", Decimal(n), NOW) for n in range(ROWS)]
            )
        await uow.commit()


async def interrupted(
    backend: InMemoryBackend, model: Any, asked: dict[str, Any], breaks: tuple[int, ...]
) -> tuple[list[dict[str, Any]], int]:
    """The rows of a stream that breaks behind these blocks, and how often it was begun."""
    begun, found, blocks = 0, [], 0
    gateway = Gateway(backend, Place("127.0.0.1:0", limits=Limits(grace_seconds=0.2)))
    await gateway.start()
    host, _, port = gateway.address.rpartition(":")
    with FaultProxy(host, int(port)) as proxy:
        config = GatewayConfig(
            addresses=(f"{proxy.host}:{proxy.port}",), tls=False, retry_base_delay=0.02
        )
        async with Storage(GrpcBackend(config, models=MODELS)) as client:
            repository: Any = client.repository(model)
            stored = repository._source.stream.__self__
            stream = stored._stored.stream

            def counted(*given: Any) -> Any:
                nonlocal begun
                begun += 1
                return stream(*given)

            stored._stored.stream = counted
            async for block in repository.stream(block_rows=BLOCK, **asked):
                assert 0 < block.num_rows <= BLOCK
                found += block.to_pylist()
                blocks += 1
                if blocks in breaks:
                    proxy.faults.refuse()
                    await asyncio.sleep(0.05)
                    proxy.faults.clear()
    await gateway.stop()
    return found, begun


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
async def test_it_goes_on(stored: InMemoryBackend, model: Any) -> None:
    await fill(stored, model)
    expected = await stored.readable.repository(model).read()
    found, begun = await interrupted(stored, model, {}, (1, 2, 5, 9))
    assert begun > 2
    assert sorted(map(str, found)) == sorted(map(str, expected.to_pylist()))


async def test_what_was_asked_for_is_still_asked_for(stored: InMemoryBackend) -> None:
    def where(c: Any) -> Any:
        return c.size >= ROWS // 3

    await fill(stored, ticks)
    expected = await stored.readable.repository(ticks).read(where=where)
    found, begun = await interrupted(stored, ticks, {"where": where}, (1, 3))
    assert begun > 1
    assert 0 < len(found) < ROWS
    assert sorted(map(str, found)) == sorted(map(str, expected.to_pylist()))


async def test_one_without_breaks_gives_all_at_the_end(stored: InMemoryBackend) -> None:
    await fill(stored, ticks)
    found, begun = await interrupted(stored, ticks, {}, ())
    assert (len(found), begun) == (ROWS, 1)
