"""Whatever is killed, and whenever: acknowledged commits are whole, others whole or absent."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jts_storage.local_servers.mongod import LocalMongod
from jts_storage.local_servers.postgres import LocalPostgres
from jts_storage.testing.clickhouse_server import ServerProcess
from tests import forked
from tests.prepared import Prepared

sys.path.insert(0, str(Path(__file__).parent))
try:
    import crashing_service as service  # type: ignore[import-not-found]
finally:
    sys.path.pop(0)

SERVICE = Path(__file__).with_name("crashing_service.py")
Contents = dict[str, list[str]]
POINTS = [
    "before the journal",
    "chunks written",
    "database ready",
    "entry written",
    "decided",
    "series stored",
    "database committed",
    "journal done",
]


@dataclass
class Trial:
    """Runs the service again and again on the same stores, and keeps the account."""

    environment: dict[str, str]
    acknowledged: set[int] = field(default_factory=set)
    next_number: int = 0
    kills: int = 0

    def start(self, *arguments: str) -> forked.Process:
        command = [str(SERVICE), "run", str(self.next_number), *arguments]
        return forked.Process(command, stdout=forked.PIPE, env=self.environment)

    def die_at(self, point: str, nth: int = 2) -> None:
        process = self.start(point, str(nth))
        output, _ = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, (point, output)
        self.account(output)

    def account(self, output: str) -> None:
        told = [int(line) for line in output.split()]
        self.acknowledged.update(told)
        # The one that was under way has used a number too.
        self.next_number = max([self.next_number, *told]) + 2
        self.kills += 1

    def check(self) -> None:
        done = forked.run([SERVICE, "check"], env=self.environment, timeout=300)
        assert done.returncode == 0, done.stderr
        stored: dict[str, Contents] = json.loads(done.stdout)
        shared = stored.pop(service.SHARED, {})
        found = {int(number): contents for number, contents in stored.items()}
        sys.stdout.write(
            f"kills={self.kills} commits={len(self.acknowledged)} "
            f"recovered={len(found.keys() - self.acknowledged)}\n"
        )
        assert self.acknowledged
        assert self.acknowledged <= found.keys(), "acknowledged, and nothing of it is there"
        for number, contents in found.items():
            assert contents == service.contents(number), f"commit {number} is not whole"
        assert shared == service.shared_contents([*found]), "what every commit changes"
        self.check_events(sorted(found))

    def check_events(self, stored: list[int]) -> None:
        """Each at least once, as it was added, first in the order of the commits; no others."""
        told = Path(self.environment["JTS_TEST_EVENTS"]).read_text().splitlines()
        arrived = [tuple(json.loads(line)) for line in told]
        assert list(dict.fromkeys(arrived)) == [(n, service.note(n)) for n in stored]


@pytest.fixture
def mongod(
    tmp_path: Path, prepared: Prepared, engine_used: Callable[[str], None]
) -> Iterator[LocalMongod]:
    prepared.copy(tmp_path / "jts")
    with LocalMongod.acquire(tmp_path / "jts" / "mongo") as mongod:
        engine_used("mongod")
        yield mongod


@pytest.fixture
def trial(tmp_path: Path, mongod: LocalMongod, engine_used: Callable[[str], None]) -> Trial:
    engine_used("chDB")
    engine_used("SQLite")
    return Trial(
        os.environ
        | {
            "JTS_DATA_DIR": str(tmp_path / "jts"),
            "JTS_TEST_EVENTS": str(tmp_path / "events"),
            "JTS_MONGO_URL": mongod.uri,
            "JTS_MIGRATE": "1",
        }
    )


def test_killed_around_the_decision(trial: Trial) -> None:
    # At every point, but on servers, `test_why_table` does it: there it takes a tenth of the time.
    for point in ("entry written", "decided", "series stored"):
        trial.die_at(point)
    trial.check()


@pytest.mark.slow
def test_killed_at_every_point_of_a_commit(trial: Trial) -> None:
    for point in POINTS:
        trial.die_at(point)
    trial.check()
    assert trial.kills == len(POINTS)


def killed_at_random(trial: Trial, times: int, seed: int) -> None:
    moments = random.Random(seed)
    for _ in range(times):
        process = trial.start()
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(moments.uniform(0, 0.15))
        process.kill()
        output, _ = process.communicate(timeout=60)
        trial.account(first + output)


@pytest.mark.slow
def test_killed_at_random_times(trial: Trial) -> None:
    killed_at_random(trial, times=2, seed=1)
    trial.check()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_killed_at_two_hundred_random_times(trial: Trial, seed: int) -> None:
    killed_at_random(trial, times=50, seed=seed)
    trial.check()


class Servers:
    """The stores as servers that can be killed and come back."""

    def __init__(self, mongod: LocalMongod, folder: Path) -> None:
        self.mongod = mongod
        self.clickhouse = ServerProcess(folder / "clickhouse").start()
        self.postgres = LocalPostgres.start(fsync=True)
        self._folder = folder

    def kill(self, name: str) -> None:
        if name == "mongod":
            os.kill(self.mongod.pid, signal.SIGKILL)
            self.mongod.ensure_running()
        elif name == "postgres":
            self.postgres.kill()
            self.postgres.restart()
        else:
            port = self.clickhouse.port
            self.clickhouse.kill()
            self.clickhouse = ServerProcess(self._folder / "clickhouse", port=port).start()

    def stop(self) -> None:
        self.clickhouse.kill()
        self.postgres.stop()


@pytest.fixture
def servers(
    mongod: LocalMongod, tmp_path: Path, engine_used: Callable[[str], None]
) -> Iterator[Servers]:
    servers = Servers(mongod, tmp_path)
    engine_used("PostgreSQL")
    engine_used("ClickHouse endpoint over chDB")
    yield servers
    servers.stop()


def servers_killed_in_turn(trial: Trial, servers: Servers, rounds: int) -> None:
    trial.environment |= {
        "JTS_CLICKHOUSE_URL": f"clickhouse://127.0.0.1:{servers.clickhouse.port}/default",
        "JTS_DATABASE_URL": servers.postgres.dsn,
    }
    for _ in range(rounds):
        for name in ("mongod", "clickhouse", "postgres"):
            process = trial.start()
            assert process.stdout is not None
            first = process.stdout.readline()
            servers.kill(name)
            time.sleep(0.5)
            process.kill()
            output, _ = process.communicate(timeout=60)
            trial.account(first + output)
    trial.check()


@pytest.mark.slow
def test_every_server_killed_in_turn(trial: Trial, servers: Servers) -> None:
    servers_killed_in_turn(trial, servers, rounds=1)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_server_killed_in_turn_many_times(trial: Trial, servers: Servers, part: int) -> None:
    servers_killed_in_turn(trial, servers, rounds=5)
