"""The checker of histories looks at workers whose gateways are killed and cut off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from jts_storage.testing.fault_proxy import FaultProxy
from tests.histories import faults
from tests.histories.run import Plan, run_round, shown
from tests.histories.servers import Network, Servers
from tests.remote.gateway_processes import COMMIT_POINTS, GatewayProcess

SEED = os.environ.get("HISTORIES_SEED") or str(time.time_ns())
rounds = count()


class Gateways(Servers):
    """The same servers, reached through two gateways; each worker has a way of its own to both."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.processes: list[GatewayProcess] = []
        self._ways = ExitStack()

    def start(self) -> None:
        self.processes = [GatewayProcess(self.urls, self.folder) for _ in range(2)]
        for each in self.processes:
            each.begin()
        for each in self.processes:
            each.wait_until_served()

    def network(self) -> Network:
        proxies = {
            f"gateway {number}": self._ways.enter_context(FaultProxy("127.0.0.1", each.port))
            for number, each in enumerate(self.processes)
        }
        addresses = ",".join(f"{each.host}:{each.port}" for each in proxies.values())
        url = f"grpc://{addresses}?timeout=5&commit_timeout=5"
        return Network({"url": url}, proxies)

    def stop(self) -> None:
        self._ways.close()
        for each in self.processes:
            each.kill()


@pytest.fixture
def gateways(tmp_path: Path, engine_used: Callable[[str], None]) -> Iterator[Gateways]:
    for engine in ("mongod", "ClickHouse endpoint over chDB", "SQLite"):
        engine_used(engine)
    with Gateways(tmp_path) as found:
        found.start()
        yield found
        found.stop()


@pytest.fixture
def gateways_die(gateways: Gateways, monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the points of a commit that a worker would die at: its gateway does."""
    choice = Random(SEED)

    def die(self: Any, _worker: Any) -> None:
        dies = choice.choice(gateways.processes)
        if choice.random() < 0.5:
            dies.die_at(choice.choice(COMMIT_POINTS))
            dies.has_died(within=2)
        dies.kill()
        dies.start()

    monkeypatch.setattr(faults.Nemesis, "_die", die)


KINDS = ("pause", "kill", "partition", "cancel", "die", "die", "die")


def judged(gateways: Gateways, plan: Plan) -> None:
    outcome = run_round(gateways, plan, f"G{next(rounds)}")
    print(f"HISTORIES_SEED={plan.seed}: {dict(outcome.answers)}, faults {dict(outcome.faults)}")
    assert outcome.answers["ok"]
    assert not outcome.violations, f"HISTORIES_SEED={plan.seed}\n{shown(outcome.violations)}"


@pytest.mark.usefixtures("gateways_die")
def test_gateways_killed(gateways: Gateways) -> None:
    judged(gateways, Plan(SEED, seconds=6, faults=KINDS, lease=None))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("gateways_die")
def test_gateways_killed_for_minutes(gateways: Gateways) -> None:
    judged(gateways, Plan(SEED, processes=4, seconds=180, faults=KINDS, lease=None))
