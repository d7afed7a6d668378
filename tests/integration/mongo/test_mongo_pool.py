"""What the pool of MongoDB says of itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from jts_storage._runtime.pools import PoolStatus
from jts_storage._runtime.steps import WAITED, listener
from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.mongo.manager import MongoDBManager


class Steps:
    def __init__(self) -> None:
        self.reached_steps: list[str] = []

    def reached(self, step: str) -> None:
        self.reached_steps.append(step)


async def busy(manager: MongoDBManager, milliseconds: int) -> None:
    """Hold a connection for so long: the server answers once something has changed."""
    seen = await manager.client.admin.command("hello")
    await manager.client.admin.command(
        "hello", topologyVersion=seen["topologyVersion"], maxAwaitTimeMS=milliseconds
    )


async def until(manager: MongoDBManager, **figures: int) -> PoolStatus:
    async with asyncio.timeout(30):
        while True:
            status = manager.pool_status()
            if all(getattr(status, name) == value for name, value in figures.items()):
                return status
            await asyncio.sleep(0.01)


async def test_connections_waits_and_timeouts_are_counted(shared_mongod: LocalMongod) -> None:
    manager = MongoDBManager(shared_mongod.uri, max_pool_size=1, pool_timeout=0.2, max_retries=0)
    assert manager.pool_status() == PoolStatus(0, 0, 0)
    steps = Steps()
    async with manager:
        await manager.ping()
        assert await until(manager, in_use=0) == PoolStatus(1, 1, 0)
        token = listener.set(steps)
        holding = asyncio.create_task(busy(manager, 60_000))
        await until(manager, in_use=1, waiting=0)
        refused = asyncio.create_task(manager.health_check())
        await until(manager, in_use=1, waiting=1)
        assert not await refused
        await until(manager, waiting=0, timeouts=1)
        # Of those who are cancelled as they wait the driver tells nothing.
        leaving = asyncio.create_task(manager.ping())
        await until(manager, waiting=1)
        leaving.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        await until(manager, waiting=0)
        holding.cancel()
        with suppress(asyncio.CancelledError):
            await holding
        await until(manager, in_use=0)
        listener.reset(token)
        assert WAITED in steps.reached_steps
    assert manager.pool_status() == PoolStatus(0, 0, 0, timeouts=1)


@pytest.mark.parametrize("count", [1, 3])
async def test_each_connection_is_counted_while_somebody_holds_it(
    shared_mongod: LocalMongod, count: int
) -> None:
    async with MongoDBManager(shared_mongod.uri, max_pool_size=3) as manager:
        holding = [asyncio.create_task(busy(manager, 5_000)) for _ in range(count)]
        assert (await until(manager, in_use=count)).open == count
        for each in holding:
            each.cancel()
        await asyncio.gather(*holding, return_exceptions=True)
        await until(manager, in_use=0, waiting=0)
