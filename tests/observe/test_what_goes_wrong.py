"""Watching goes on whatever it meets: hung stores, handlers that fail, many clients, odd names."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from jts_storage import InvalidData, Storage, StorageError
from jts_storage.domain.calendar import exchange_calendar
from jts_storage.errors import InvalidConfiguration
from jts_storage.observe import (
    Alert,
    Exposition,
    Judge,
    Metrics,
    MetricsServer,
    MonitoringService,
    Notice,
    json_formatter,
)
from jts_storage.observe.catalogue import COMMITS, UP, Sample
from jts_storage.observe.state import StorageState, _lateness
from jts_storage.ports.health import Health
from jts_storage.ports.observation import Call

LIST = Call("memory", "formulas", "list")
ALWAYS = Alert(name="Up", metric=UP, above=0, summary="{store} is up.", section="s")


class Hung:
    """A storage whose stores do not answer, and do not even notice that nobody waits any more."""

    def __init__(self) -> None:
        self.asked = 0
        self.goes_on = asyncio.Event()

    async def health(self) -> Health:
        self.asked += 1
        while not self.goes_on.is_set():
            try:
                await self.goes_on.wait()
            except asyncio.CancelledError:
                continue
        return Health(mongo=True)

    def __getattr__(self, name: str) -> Any:
        raise StorageError(f"there is no {name}")


async def test_a_store_that_hangs_holds_nobody_up_and_is_asked_once() -> None:
    hung = Hung()
    state = StorageState(hung, within=0.01)
    begun = monotonic()
    looks = [await state.read() for _ in range(3)]
    assert monotonic() - begun < 30
    assert hung.asked == 1
    for look in looks:
        assert {each.metric.name: each.value for each in look}["state_is_fresh"] == 0
    hung.goes_on.set()
    await state.close()


async def test_whatever_a_look_raises_the_figures_of_before_are_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """ET-INFRA-04.1: `state_is_fresh` is what the alert StateStale looks at."""
    async with Storage.in_memory() as storage:
        state = StorageState(storage, within=10)
        await state.read()

        async def health() -> Health:
            raise OSError("the disk is gone")

        storage.health = health  # type: ignore[method-assign]
        found = {each.metric.name: each.value for each in await state.read()}
    assert (found["up"], found["state_is_fresh"]) == (1, 0)
    assert "the disk is gone" in caplog.text


async def asked(port: int, request: bytes) -> tuple[bytes, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request + b" HTTP/1.1\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return head, body


async def test_many_clients_at_once_are_one_look() -> None:
    looks = 0
    async with Storage.in_memory() as storage:
        real = storage.health

        async def health() -> Health:
            nonlocal looks
            looks += 1
            await asyncio.sleep(0.2)
            return await real()

        storage.health = health  # type: ignore[method-assign]
        state = StorageState(storage, within=60)
        server = MetricsServer(Exposition(storage, state=state), failing)
        await server.start("127.0.0.1", 0)
        answers = await asyncio.gather(*(asked(server.port, b"GET /metrics") for _ in range(64)))
        await server.stop()
    assert {head.partition(b"\r\n")[0] for head, _ in answers} == {b"HTTP/1.1 200 OK"}
    assert all(b'jts_storage_up{store="memory"} 1.0' in body for _, body in answers)
    assert looks < 32


async def failing() -> tuple[bool, dict[str, bool]]:
    raise StorageError("This storage is not open.")


async def test_a_request_that_fails_is_answered_and_one_for_the_head_has_no_body() -> None:
    async with Storage.in_memory() as storage:
        server = await MetricsServer(Exposition(storage), failing).start("127.0.0.1", 0)
        head, _ = await asked(server.port, b"GET /health")
        of_head, nothing = await asked(server.port, b"HEAD /metrics")
        await server.stop()
    assert head.startswith(b"HTTP/1.1 500 ")
    assert of_head.startswith(b"HTTP/1.1 200 OK")
    assert nothing == b""


async def test_a_handler_that_fails_hangs_or_is_cancelled_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = asyncio.Event()
    calls = 0

    async def handler(notice: Notice) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("it fails")
        if calls == 2:
            await asyncio.Event().wait()
        if calls == 3:
            raise asyncio.CancelledError  # as of a task of its own that was cancelled
        heard.set()

    async with Storage.in_memory() as storage:
        service = MonitoringService(
            storage, alerts=[ALWAYS], handler=handler, every=0.01, cooldown=0.0, patience=0.05
        )
        async with service, asyncio.timeout(60):
            await heard.wait()
    assert [record.message for record in caplog.records if record.name.endswith("service")] == [
        "The handler of alerts failed.",
        "The handler of alerts failed, or took too long.",
        "The handler of alerts waited for what was cancelled.",
    ]


def test_a_registry_takes_one_and_is_left_as_it_was() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    with pytest.raises(InvalidConfiguration, match="one Metrics"):
        Metrics(registry)
    taken = CollectorRegistry()
    Counter("jts_storage_rows", "of the application", registry=taken)
    with pytest.raises(InvalidConfiguration, match="jts_storage_rows"):
        Metrics(taken)
    assert [family.name for family in taken.collect()] == ["jts_storage_rows"]


async def test_two_storages_of_a_process_count_apart_or_together() -> None:
    first, second = Metrics(), Metrics()
    for metrics in (first, second, second):
        async with Storage.in_memory(observer=metrics) as storage:
            await storage.formulas.list()
    counts = [
        metrics.registry.get_sample_value(
            "jts_storage_call_seconds_count", dict(zip(LIST._fields, LIST[:3], strict=False))
        )
        for metrics in (first, second)
    ]
    assert counts == [1, 2]


@pytest.mark.parametrize(
    "name", ['a"} 1\njts_storage_up{store="mongo"} 1\n#', "a\\", "a\\n", "\u2028", "x" * 5_000, ""]
)
async def test_no_name_adds_a_line(name: str) -> None:
    metrics = Metrics()
    metrics.begin(Call(name, "formulas", "list")).done(None)
    async with Storage.in_memory() as storage:
        text = await Exposition(storage, metrics).text()
    stores = {
        (sample.name, sample.labels["store"])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "store" in sample.labels and sample.name in ("jts_storage_up", COUNT)
    }
    assert stores == {("jts_storage_up", "memory"), (COUNT, name)}


COUNT = "jts_storage_call_seconds_count"


async def test_nothing_stays_of_a_hundred_thousand_calls() -> None:
    metrics = Metrics()
    async with Storage.in_memory(observer=metrics) as storage:
        reader = storage.formulas

        async def calls(count: int) -> int:
            for _ in range(count):
                await reader.get_by_id("0" * 24)
            gc.collect()
            return len(gc.get_objects())

        before = await calls(1_000)
        after = await calls(100_000)
    assert metrics.running() == []
    assert after - before < 1_000


def line(**extra: Any) -> str:
    record = logging.makeLogRecord({"name": "jts_storage", "msg": "a\nb", **extra})
    return json_formatter().format(record)


def test_a_line_is_one_line_of_json_whatever_it_is_given() -> None:
    class Silent:
        def __str__(self) -> str:
            raise RuntimeError("no text")

    circular: list[Any] = []
    circular.append(circular)
    for value in (circular, Silent(), {1: {2}}, "\ud800", "종목", float("inf")):
        told = line(document=value)
        assert "\n" not in told
        told.encode()
        assert json.loads(told)["message"] == "a\nb"
    assert "종목" in line(document="종목")


def test_two_rates_of_one_metric_are_judged_apart() -> None:
    def rate(name: str, outcome: str) -> Alert:
        where = (("outcome", outcome),)
        return Alert(
            name=name, metric=COMMITS, rate=True, above=1, where=where, summary="s", section="s"
        )

    judge = Judge([rate("Conflicts", "conflict"), rate("Failures", "failed")])
    start = datetime(2026, 3, 2, tzinfo=UTC)
    told = [
        notice.alert.name
        for n in range(3)
        for notice in judge.judge(
            start + timedelta(seconds=10 * n),
            [
                Sample(COMMITS, 5, ("direct", "conflict")),
                Sample(COMMITS, 100 * n, ("direct", "failed")),
            ],
        )
    ]
    assert told == ["Failures"]


@pytest.mark.parametrize("summary", ["{table} is down.", "{0}", "{", "{value.real.x}"])
def test_a_summary_that_could_not_be_told_is_refused(summary: str) -> None:
    with pytest.raises(InvalidData, match="summary"):
        Alert(name="A", metric=UP, above=0, summary=summary, section="s")


def test_a_timeframe_of_another_program_hides_no_other() -> None:
    found = _lateness([("UPBIT", "7m", 0), ("UPBIT", "1m", 0)], set())
    assert [sample.labels for sample in found] == [("UPBIT", "1m")]


def test_an_exchange_whose_calendar_says_nothing_hides_no_other_and_is_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The calendar of KRX begins in 1990."""
    newest, told = [("KRX", "1d", 0), ("UPBIT", "1m", 0)], set[str]()
    for _ in range(2):
        assert [each.labels for each in _lateness(newest, told)] == [("UPBIT", "1m")]
    (line,) = caplog.messages
    assert line.startswith("How late candles of KRX are is not known: ")


def test_without_calendars_what_needs_none_is_told_and_of_the_others_what_to_install(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchange_calendar.cache_clear()
    monkeypatch.setitem(sys.modules, "exchange_calendars", None)
    newest = [("KRX", "1m", 0), ("UPBIT", "1m", 0), ("UNKNOWN", "1m", 0)]
    assert [each.labels for each in _lateness(newest, set())] == [("UPBIT", "1m")]
    assert [each for each in caplog.messages if "jts-storage[calendars]" in each] == caplog.messages
    assert len(caplog.messages) == 1
