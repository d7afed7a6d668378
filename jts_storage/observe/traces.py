"""Calls as spans of OpenTelemetry, after its conventions for clients of databases."""

from __future__ import annotations

import time
from typing import Any, Final

from opentelemetry import context, propagate, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from jts_storage._runtime.steps import MOMENTS, Ended, carried
from jts_storage._version import __version__
from jts_storage.observe.sizes import size_of
from jts_storage.ports.observation import Call

_SYSTEMS: Final = {"clickhouse": "clickhouse", "mongo": "mongodb", "database": "other_sql"}
"""``db.system.name`` of each store."""

_PARENT: Final = "traceparent"


class Traces:
    """An observer: ``Storage.open(observer=Traces())``.

    A commit is a span with one below it for each step, which is named by what it leads to; what the
    drivers' own instrumentation makes within a call is below its span. Spans have no text of a
    statement, no symbol and no identity.

    :param provider: where spans go; that of the process if not given.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer: Tracer = trace.get_tracer("jts_storage", __version__, provider)

    def begin(self, call: Call) -> _Traced:
        system = _SYSTEMS.get(call.store)
        attributes = {
            "db.operation.name": call.operation,
            "db.collection.name": call.repository,
            "jts_storage.store": call.store,
        }
        if system is not None:
            attributes["db.system.name"] = system
        span = self._tracer.start_span(
            f"{call.repository}.{call.operation}",
            context=_parent_of(call),
            kind=SpanKind.INTERNAL if system is None else SpanKind.CLIENT,
            attributes=attributes,
        )
        return _Traced(self._tracer, span, is_current=not call.is_stream)


class _Traced:
    """One call, current while it runs.

    A stream is not: whoever reads it may do so in other tasks.
    """

    __slots__ = ("_carried", "_rows", "_since", "_span", "_token", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, *, is_current: bool) -> None:
        self._tracer, self._span, self._rows = tracer, span, 0
        self._since = time.time_ns()
        self._token = self._carried = None
        if is_current:
            self._token = context.attach(trace.set_span_in_context(span))
            carrier: dict[str, str] = {}
            propagate.inject(carrier)
            self._carried = carried.set(carrier.get(_PARENT))

    def reached(self, step: str) -> None:
        if step in MOMENTS or isinstance(step, Ended):
            if self._span.is_recording():  # what goes on behind an opening ends later
                self._span.add_event(step, dict(step.counts) if isinstance(step, Ended) else None)
            return
        # It is told once it has ended, and began with the end of the one before.
        below = trace.set_span_in_context(self._span)
        span = self._tracer.start_span(step, context=below, start_time=self._since)
        self._since = time.time_ns()
        span.end(self._since)

    def given(self, part: Any) -> None:
        self._rows += size_of(part).rows

    def done(self, result: Any) -> None:
        rows = self._rows + size_of(result).rows
        if rows:
            self._span.set_attribute("db.response.returned_rows", rows)
        self._end()

    def failed(self, error: BaseException) -> None:
        # The class only: a message may name a symbol, and spans are kept elsewhere than data.
        self._span.set_attribute("error.type", type(error).__name__)
        if isinstance(error, Exception):
            self._span.set_status(Status(StatusCode.ERROR, type(error).__name__))
        self._end()

    def _end(self) -> None:
        if self._carried is not None:
            carried.reset(self._carried)
        if self._token is not None:
            context.detach(self._token)
        self._span.end()


def _parent_of(call: Call) -> context.Context | None:
    """What came with an event that is delivered now, or from a client; else what is current."""
    is_stored = call.repository == "events"
    is_inside = trace.get_current_span().get_span_context().is_valid
    came = carried.get() if is_stored or not is_inside else None
    return None if came is None else propagate.extract({_PARENT: came})
