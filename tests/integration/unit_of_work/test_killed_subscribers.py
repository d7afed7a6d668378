"""Writers and consumers are killed, whenever: no event is lost, and none comes out of order."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.testing.clickhouse_server import ServerProcess
from tests import forked
from tests.prepared import Prepared

SERVICE = Path(__file__).with_name("subscribing_service.py")
MOST_AGAIN = 101
"""As many as are acknowledged and not stored yet, with the one that is being dealt with."""


@dataclass
class Trial:
    """Runs a writer and a consumer again and again on the same stores, and keeps the account."""

    environment: dict[str, str]
    acknowledged: set[int] = field(default_factory=set)
    next_number: int = 0
    kills: int = 0

    def start(self, *arguments: str) -> forked.Process:
        return forked.Process([SERVICE, *arguments], stdout=forked.PIPE, env=self.environment)

    def writer(self, *arguments: str) -> forked.Process:
        return self.start("write", str(self.next_number), *arguments)

    def consumer(self) -> forked.Process:
        process = self.start("hear")
        assert process.stdout is not None
        assert process.stdout.readline() == "entered\n"
        return process

    def account(self, output: str) -> None:
        told = [int(line) for line in output.split()]
        self.acknowledged.update(told)
        self.next_number = max([self.next_number, *told]) + 2
        self.kills += 1

    def kill(self, consumer: forked.Process) -> None:
        consumer.kill()
        consumer.communicate(timeout=60)
        self.kills += 1

    def check(self) -> None:
        done = forked.run([SERVICE, "drain"], env=self.environment, timeout=200)
        assert done.returncode == 0, done.stderr
        lines = Path(self.environment["JTS_TEST_EVENTS"]).read_text().splitlines()
        assert "not stored" not in lines, "an event came before its commit was in every store"
        heard = [int(line) for line in lines if line.isdecimal()]
        first = [*dict.fromkeys(heard)]
        sys.stdout.write(
            f"kills={self.kills} commits={len(self.acknowledged)} events={len(first)} "
            f"again={len(heard) - len(first)}\n"
        )
        assert self.acknowledged
        assert self.acknowledged <= set(first), "acknowledged commits of which no event came"
        assert first == sorted(first), "out of order"
        check_repetitions(lines)


def check_repetitions(lines: list[str]) -> None:
    """Each consumer hears what comes next, or begins again with what was not acknowledged."""
    safe: set[int] = set()
    last: set[int] = set()
    since: list[int] = []
    for begun, line in pairwise(["", *lines]):
        if line == "acknowledged":
            safe.update(since)
        elif line == "entered":
            last, since = set(since[-MOST_AGAIN:]), []
        else:
            number = int(line)
            assert number not in safe, f"{number} came again after {begun}, and was acknowledged"
            assert number not in since, "the same consumer had it twice"
            assert number in last or number > max(last, default=-1)
            since.append(number)


@pytest.fixture
def trial(
    tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None]
) -> Iterator[Trial]:
    prepared.copy(tmp_path / "jts")
    with (
        LocalMongod.acquire(tmp_path / "jts" / "mongo") as mongod,
        ServerProcess(tmp_path / "clickhouse", fsync=False) as clickhouse,
    ):
        for engine in ("mongod", "SQLite", "ClickHouse endpoint over chDB"):
            engine_used(engine)
        yield Trial(
            os.environ
            | {
                "JTS_DATA_DIR": str(tmp_path / "jts"),
                "JTS_TEST_EVENTS": str(tmp_path / "events"),
                "JTS_MONGO_URL": mongod.uri,
                "JTS_CLICKHOUSE_URL": f"clickhouse://127.0.0.1:{clickhouse.port}/default",
                "JTS_MIGRATE": "1",
            }
        )


def die_at(trial: Trial, point: str) -> None:
    process = trial.writer(point, "3")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, (point, output)
    trial.account(output)


def kill_at_random(trial: Trial, times: int, seed: int) -> None:
    moments = random.Random(seed)
    for _ in range(times):
        consumer, writer = trial.consumer(), trial.writer()
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(moments.uniform(0, 0.3))
        if moments.random() < 0.7:
            trial.kill(consumer)
            consumer = trial.consumer()
            time.sleep(moments.uniform(0, 0.3))
        writer.kill()
        rest, _ = writer.communicate(timeout=60)
        trial.account(first + rest)
        trial.kill(consumer)


@pytest.mark.slow
def test_killed_around_the_decision(trial: Trial) -> None:
    consumer = trial.consumer()
    die_at(trial, "entry written")
    trial.kill(consumer)
    consumer = trial.consumer()
    die_at(trial, "decided")
    trial.kill(consumer)
    trial.check()


@pytest.mark.slow
@pytest.mark.timeout(1_200)
def test_killed_at_random(trial: Trial) -> None:
    kill_at_random(trial, 25, seed=1)
    trial.check()
    assert trial.kills >= 50
