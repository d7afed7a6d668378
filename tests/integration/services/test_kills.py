"""The whole stack on this machine: started, killed again and again under load, and counted.

What it measures goes to the log of the run; no time is asserted.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from jts_storage import SeriesKey, Storage, StorageSettings, Timeframe, new_unit_id
from jts_storage.errors import StorageError
from jts_storage.services.local import LocalManager
from jts_storage.services.stack import STORES
from jts_storage.services.variables import of_processes
from jts_storage.testing.factories import make_candles, make_formula
from tests.integration.services.rigs import LocalRig, watched_until

KILLS = 50
SECONDS = 60.0

log = logging.getLogger(__name__)


@pytest.fixture
def rig(engine_used: Callable[[str], None]) -> Iterator[LocalRig]:
    made = LocalRig(*STORES)
    if problems := made.manager.units.problems(made.manager.names):
        pytest.skip(f"NOT RUN: {problems[0]}")
    engine_used("MongoDB, PostgreSQL, Redis and the ClickHouse endpoint as services")
    yield made
    made.close()


def settings_of(rig: LocalRig) -> StorageSettings:
    urls = of_processes(rig.manager.names, rig.ports)
    fields = {name.removeprefix("JTS_").lower(): url for name, url in urls.items()}
    data = rig.folder.parent / "data"
    return StorageSettings(data_dir=data, migrate=True, env_file=None, **fields)


KEY = SeriesKey("005930", Timeframe.M1, exchange="KRX")


def minute(number: int) -> datetime:
    return datetime(2024, 1, 2, tzinfo=UTC) + timedelta(minutes=number)


@dataclass
class Workload:
    """Commits of one candle of one series and a formula, each with an id that tells its outcome.

    :param longest: seconds that the slowest of them took, its outcome included.
    """

    settings: StorageSettings
    ends: threading.Event = field(default_factory=threading.Event)
    committed: set[int] = field(default_factory=set)
    tried: int = 0
    refused: int = 0
    unsettled: int = 0
    longest: float = 0.0

    async def run(self) -> None:
        async with Storage.open(self.settings) as storage:
            while not self.ends.is_set():
                self.tried += 1
                begun = time.monotonic()
                await self._one(storage, self.tried)
                self.longest = max(self.longest, time.monotonic() - begun)

    async def stored(self) -> tuple[set[int], set[int]]:
        """The numbers of the commits whose candle is stored, and of those whose formula is."""
        async with Storage.open(self.settings) as storage:
            await storage.recover()
            names: list[str] = []
            after: str | None = None
            while page := await storage.formulas.list(after=after):
                names += [each.name for each in page]
                after = page[-1].id
            assert len(set(names)) == len(names)
            stored = await storage.candles.get_range(KEY, minute(0), minute(self.tried + 1))
            numbers = {minute(n): n for n in range(self.tried + 1)}
            candles = [numbers[each.timestamp] for each in stored]
            assert len(set(candles)) == len(candles)
            return set(candles), {int(name.split()[1]) for name in names}

    async def _one(self, storage: Storage, number: int) -> None:
        identity = new_unit_id()
        try:
            async with storage.unit_of_work(id=identity) as uow:
                await uow.candles.save_many(KEY, make_candles(KEY, 1, start=minute(number)))
                await uow.formulas.save(make_formula(f"formula {number}"))
                await uow.commit()
        except StorageError:
            if not await self._is_committed(storage, identity):
                self.refused += 1
                return
        self.committed.add(number)

    async def _is_committed(self, storage: Storage, identity: str) -> bool:
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            with suppress(StorageError):
                return (await storage.outcome(identity)).is_committed
            await asyncio.sleep(0.1)
        self.unsettled += 1
        return False


def test_from_nothing_to_healthy_and_each_back_again(rig: LocalRig) -> None:
    """IT-INFRA-01: started in order, each killed and restarted, stopped; what it took is logged."""
    begun = time.monotonic()
    started = rig.manager.start_services()
    took = {"start": time.monotonic() - begun}
    assert all(each.is_well for each in started), started
    for name in STORES:
        rig.kill(name)
        begun = time.monotonic()
        watched_until(rig.manager, name, lambda each: not each.is_well)
        watched_until(rig.manager, name, lambda each: each.is_well)
        took[f"{name} back"] = time.monotonic() - begun
    begun = time.monotonic()
    stopped = rig.manager.stop_services()
    took["stop"] = time.monotonic() - begun
    assert {each.status for each in stopped} == {"stopped"}
    begun = time.monotonic()
    assert all(each.is_well for each in rig.manager.start_services())
    took["second start"] = time.monotonic() - begun
    log.warning("seconds: %s", {name: round(each, 2) for name, each in took.items()})


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_kills_under_load_lose_nothing(rig: LocalRig) -> None:
    """PT-INFRA-01.1: the candles and formulas of all that was committed and of nothing else."""
    assert all(each.is_well for each in rig.manager.start_services())
    load = Workload(settings_of(rig))
    thread = threading.Thread(target=lambda: asyncio.run(load.run()))
    thread.start()
    pick = random.Random(24)
    back: list[float] = []
    try:
        for _ in range(KILLS):
            _forgive(rig.manager)
            _wait_for_more(load, 2)
            name = pick.choice(STORES)
            time.sleep(pick.uniform(0, 0.3))
            rig.kill(name)
            begun = time.monotonic()
            watched_until(rig.manager, name, lambda each: not each.is_well)
            watched_until(rig.manager, name, lambda each: each.is_well)
            back.append(time.monotonic() - begun)
    finally:
        load.ends.set()
        thread.join(SECONDS * 2)
    assert not thread.is_alive()
    assert load.unsettled == 0
    candles, formulas = asyncio.run(load.stored())
    log.warning(
        "%d kills, %d commits, %d refused, %.1f s the longest; back in %.2f s, %.2f at most",
        KILLS,
        len(load.committed),
        load.refused,
        load.longest,
        sorted(back)[len(back) // 2],
        max(back),
    )
    assert (candles, formulas) == (load.committed, load.committed)


def _forgive(manager: LocalManager) -> None:
    """As a minute of health does, which nobody waits for here."""
    for watched in manager._watched.values():
        watched.restarts.forget()


def _wait_for_more(load: Workload, count: int) -> None:
    wanted = len(load.committed) + count
    deadline = time.monotonic() + SECONDS
    while len(load.committed) < wanted:
        assert time.monotonic() < deadline, "nothing is committed any more"
        time.sleep(0.02)
