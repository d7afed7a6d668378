"""A broker that counts arrivals never sees more than the limit, whatever happens on the way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.rate_limits.broker import Broker, worst_window
from tests.runs import some_by_day

MakeBroker = Callable[..., Broker]


@pytest.fixture
def broker_over(tmp_path: Path, restarted_redis: Any) -> Iterator[MakeBroker]:
    made: list[Broker] = []

    def make(store: str, **fields: Any) -> Broker:
        if store == "sqlite":
            store = str(tmp_path / "limits.db")
        elif store == "redis":
            store = restarted_redis().url
        broker = Broker(tmp_path / "arrivals", store, **fields)
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.kill()
        for process in broker.processes:
            process.wait(10)


def test_the_broker_counts_windows() -> None:
    assert worst_window([]) == 0
    assert worst_window([0, 999_999_999]) == 2
    assert worst_window([0, 1_000_000_000]) == 1
    assert worst_window([0, 5, 6, 7, 100], window=3) == 3


@pytest.mark.parametrize("store", some_by_day(["sqlite", "memory", "redis"]))
def test_64_clients_of_4_processes_with_answers_that_take_any_time(
    broker_over: MakeBroker, store: str
) -> None:
    broker = broker_over(store, clients=64 if store == "memory" else 16)
    broker.start(seconds=5, count=1 if store == "memory" else 4)
    broker.wait()
    times = broker.times()
    assert len(times) > 15
    assert worst_window(times) <= 15


@pytest.mark.parametrize("store", ["sqlite", pytest.param("redis", marks=pytest.mark.slow)])
def test_holders_that_are_killed(broker_over: MakeBroker, store: str) -> None:
    broker = broker_over(store, longest=0.6)
    broker.start(seconds=60)
    broker.wait_for(15)
    for number in range(3):
        broker.processes[number].kill()
        broker.start(seconds=60, count=1)
        time.sleep(0.4)
    broker.wait_for(len(broker.times()) + 15)  # what they held is given back
    broker.kill()
    assert worst_window(broker.times()) <= 15


@pytest.mark.slow
@pytest.mark.parametrize("keeps", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_redis_that_begins_anew(
    broker_over: MakeBroker, restarted_redis: Any, keeps: bool
) -> None:
    server = restarted_redis(keeps=keeps)
    broker = broker_over(server.url, delay=0.1)
    broker.start(seconds=60)
    broker.wait_for(20)
    server.kill()
    before = time.monotonic_ns()
    server.start()
    broker.wait_for(len(broker.times()) + 30)
    broker.kill()
    times = broker.times()
    assert worst_window(times) <= 15
    assert any(each > before + 1_000_000_000 for each in times)


@pytest.mark.slow
def test_a_redis_that_is_emptied(broker_over: MakeBroker, restarted_redis: Any) -> None:
    server = restarted_redis()
    broker = broker_over(server.url, delay=0.1)
    broker.start(seconds=60)
    broker.wait_for(20)
    with redis.Redis.from_url(server.url) as client:
        client.flushall()
    broker.wait_for(len(broker.times()) + 20)
    broker.kill()
    assert worst_window(broker.times()) <= 15


@pytest.mark.slow
def test_a_redis_that_hangs(broker_over: MakeBroker, restarted_redis: Any) -> None:
    server = restarted_redis()
    broker = broker_over(server.url, longest=3)
    broker.start(seconds=60)
    broker.wait_for(20)
    server.signal(signal.SIGSTOP)
    time.sleep(2.5)
    in_between = len(broker.times())
    server.signal(signal.SIGCONT)
    broker.wait_for(in_between + 20)
    broker.kill()
    assert worst_window(broker.times()) <= 15


@pytest.mark.slow
def test_a_process_that_is_stopped_while_it_holds_slots(broker_over: MakeBroker) -> None:
    broker = broker_over("sqlite", longest=5)
    broker.start(seconds=60)
    broker.wait_for(15)
    stopped = broker.processes[0]
    os.kill(stopped.pid, signal.SIGSTOP)
    time.sleep(0.5)
    os.kill(stopped.pid, signal.SIGCONT)
    broker.wait_for(len(broker.times()) + 15)
    broker.kill()
    assert worst_window(broker.times()) <= 15


@pytest.mark.slow
@pytest.mark.parametrize("store", ["sqlite", "redis"])
def test_half_a_minute_of_everything(broker_over: MakeBroker, store: str) -> None:
    broker = broker_over(store, limits="broker=20/s,300/m", longest=2)
    silence = 62 if store == "redis" else 0  # a new one gives nothing away for a whole window
    broker.start(seconds=silence + 30)
    time.sleep(silence)
    for number in range(8):
        time.sleep(3)
        broker.processes[number].kill()
        broker.start(seconds=27 - 3 * number, count=1)
    broker.wait()
    times = broker.times()
    assert len(times) > 100
    assert worst_window(times) <= 20
    assert worst_window(times, 60_000_000_000) <= 300


def test_a_quota_that_is_asked_at_once_by_all(broker_over: MakeBroker) -> None:
    broker = broker_over("sqlite", limits="broker=40/d@Asia/Seoul", delay=0.0, clients=40)
    broker.start(seconds=2)
    broker.wait()
    # It may be midnight in Seoul meanwhile.
    assert len(broker.times()) in (40, 80)
