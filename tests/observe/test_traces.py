"""Spans of calls, and the trace that goes along into threads and with events."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jts_storage import DomainEvent, Market, SeriesKey, Storage, StorageSettings, Timeframe
from jts_storage._runtime.steps import RECOVERY, Ended, carried
from jts_storage.domain.series import CandleSeries
from jts_storage.memory.backend import InMemoryBackend
from jts_storage.observe import Traces, json_formatter
from jts_storage.observe.backend import ObservedBackend
from jts_storage.ports.health import Health
from jts_storage.ports.observation import Call
from jts_storage.remote.backend import GrpcBackend
from jts_storage.settings.gateway import GatewayConfig
from jts_storage.testing.factories import make_candles, make_formula
from jts_storage.usecases.import_candles import ImportCandles, ImportOptions
from tests.remote.gateways import remote, served
from tests.waiting import until

KEY = SeriesKey("SECRET-SYMBOL", Timeframe.M1, "KRX")


class Spans:
    def __init__(self) -> None:
        self._kept = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._kept))

    def all(self) -> list[ReadableSpan]:
        return list(self._kept.get_finished_spans())

    def of(self, name: str) -> ReadableSpan:
        return next(span for span in self.all() if span.name == name)


@pytest.fixture
def spans() -> Spans:
    return Spans()


@dataclass(frozen=True, kw_only=True)
class Scanned(DomainEvent):
    rows: int = 0


@pytest.fixture
async def storage(tmp_path: Path, spans: Spans) -> AsyncIterator[Storage]:
    settings = StorageSettings(data_dir=tmp_path / "jts", env_file=None)
    async with Storage.open(settings, observer=Traces(spans.provider)) as storage:
        yield storage


async def test_an_import_is_a_span_with_its_commits_below(
    spans: Spans, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret.csv"
    path.write_text("t,o,h,l,c,v\n1704153600,10,12,9,11,1\n")
    options = ImportOptions(create=Market.KOSPI)
    async with Storage.in_memory(observer=Traces(spans.provider)) as storage:
        await ImportCandles(storage).run(path, Timeframe.M1, symbol="A", options=options)
    whole = spans.of("imports.run")
    commits = [span for span in spans.all() if span.name == "unit_of_work.commit"]
    assert commits
    assert {span.parent and span.parent.span_id for span in commits} == {whole.context.span_id}
    events = {event.name: dict(event.attributes or {}) for event in whole.events}
    assert events["block of an import"]["inserted"] == 1
    assert "import: file finished" in events
    assert "secret" not in whole.to_json()
    assert [span.name for span in spans.all() if "import:" in span.name] == []
    operation = Traces(spans.provider).begin(Call("storage", "storage", "open"))
    operation.done(None)
    operation.reached(Ended(RECOVERY, "finished"))  # what goes on behind an opening
    assert "ended span" not in caplog.text


async def test_calls_are_spans_by_the_conventions(storage: Storage, spans: Spans) -> None:
    candles: CandleSeries = make_candles(KEY, 5)
    in_threads: list[bool] = []

    def look() -> None:
        in_threads.append(trace.get_current_span().get_span_context().is_valid)

    tracer = spans.provider.get_tracer("a service")
    with tracer.start_as_current_span("handler") as handler:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, candles)
            await uow.formulas.save(make_formula())
            uow.events.add(Scanned(rows=5))
            await uow.commit()
        await storage.candles.get_range(KEY, candles[0].timestamp, candles[-1].timestamp)
        await storage.clickhouse.run(look)
    read = spans.of("candles.get_range")
    assert read.parent is not None
    assert read.parent.span_id == handler.get_span_context().span_id
    assert dict(read.attributes or {}) == {
        "db.system.name": "clickhouse",
        "db.operation.name": "get_range",
        "db.collection.name": "candles",
        "jts_storage.store": "clickhouse",
        "db.response.returned_rows": 5,
    }
    commit = spans.of("unit_of_work.commit").get_span_context()
    assert commit is not None
    steps = [span for span in spans.all() if span.parent and span.parent.span_id == commit.span_id]
    names = [span.name for span in steps]
    assert names[0] == "before the journal"
    assert names.index("entry written") < names.index("decided")
    times = [(span.start_time or 0, span.end_time or 0) for span in steps]
    assert all(0 < begun <= ended for begun, ended in times)
    assert [begun for begun, _ in times[1:]] == [ended for _, ended in times[:-1]]
    assert in_threads == [True]
    told = json.dumps([span.to_json() for span in spans.all()])
    assert "SECRET-SYMBOL" not in told


async def test_an_event_carries_the_trace_of_its_commit(
    tmp_path: Path, storage: Storage, spans: Spans
) -> None:
    heard: list[str] = []

    async def handler(event: DomainEvent) -> None:
        span = trace.get_current_span().get_span_context()
        heard.append(trace.format_trace_id(span.trace_id))

    tracer = spans.provider.get_tracer("a service")
    with tracer.start_as_current_span("handler") as root:
        async with storage.unit_of_work() as uow:
            uow.events.add(Scanned(rows=1))
            await uow.commit()
    storage.events.register_handler(Scanned, handler)  # as in a process that starts later
    await storage.recover()
    await until(lambda: bool(heard))  # a look in the background may have the key
    assert heard == [trace.format_trace_id(root.get_span_context().trace_id)]


async def test_what_fails_is_an_error_of_its_class_without_its_text(spans: Spans) -> None:
    async with Storage.in_memory(observer=Traces(spans.provider)) as storage:
        with pytest.raises(ValueError, match="limit"):
            await storage.formulas.list(limit=-987_654)
    span = spans.of("formulas.list")
    assert (span.attributes or {})["error.type"] == "InvalidData"
    assert "987654" not in span.to_json()


async def test_a_stream_given_up_ends_its_span(spans: Spans) -> None:
    candles = make_candles(KEY, 9)
    async with Storage.in_memory(observer=Traces(spans.provider)) as storage:
        async with storage.unit_of_work() as uow:
            await uow.candles.save_many(KEY, candles)
            await uow.commit()
        stream = storage.candles.stream(
            KEY, candles[0].timestamp, candles[-1].timestamp, block_rows=2
        )
        async for _ in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
    assert (spans.of("candles.stream").attributes or {})["db.response.returned_rows"] == 2


def test_a_log_line_names_the_trace(spans: Spans) -> None:
    record = logging.makeLogRecord(
        {
            "name": "jts_storage.slow",
            "levelname": "WARNING",
            "msg": "%s",
            "args": ("é",),
            "seconds": 1.5,
        }
    )
    formatter = json_formatter()
    with spans.provider.get_tracer("t").start_as_current_span("s") as span:
        line = json.loads(formatter.format(record))
    assert line["trace_id"] == trace.format_trace_id(span.get_span_context().trace_id)
    assert (line["message"], line["seconds"], line["logger"]) == ("é", 1.5, "jts_storage.slow")
    assert "trace_id" not in json.loads(formatter.format(record))


async def test_a_trace_goes_through_a_gateway(tmp_path: Path, spans: Spans) -> None:
    backend: Any = ObservedBackend(InMemoryBackend(), Traces(spans.provider), "memory")
    tracer = spans.provider.get_tracer("a service")
    async with served(backend, tmp_path) as gateway:
        config = GatewayConfig(addresses=(gateway.address,), tls=False)
        client = ObservedBackend(GrpcBackend(config), Traces(spans.provider), "gateway")
        async with Storage(client) as storage:
            with tracer.start_as_current_span("handler") as root:
                await storage.formulas.list()
    at_client, at_gateway = (
        next(
            span
            for span in spans.all()
            if span.name == "formulas.list"
            and (span.attributes or {}).get("jts_storage.store") == store
        )
        for store in ("gateway", "memory")
    )
    trace_id = root.get_span_context().trace_id
    assert at_client.context is not None
    assert at_gateway.context is not None
    assert at_gateway.parent is not None
    assert {at_client.context.trace_id, at_gateway.context.trace_id} == {trace_id}
    assert at_gateway.parent.span_id == at_client.context.span_id


@pytest.mark.parametrize("told", ["", "00-1", "x" * 9_000, f"00-{'0' * 32}-{'é' * 16}-00"])
async def test_a_gateway_takes_no_other_text_for_a_trace(
    tmp_path: Path, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    real = InMemoryBackend.health

    async def health(self: InMemoryBackend) -> Health:
        seen.append(carried.get())
        return await real(self)

    async with remote(InMemoryBackend(), tmp_path) as storage:
        monkeypatch.setattr(InMemoryBackend, "health", health)
        token = carried.set(told.encode("ascii", "ignore").decode())
        await storage.health()
        carried.reset(token)
    assert seen == [None]
