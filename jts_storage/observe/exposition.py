"""Metrics as Prometheus reads them: as text, and by HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, Final, Self

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from jts_storage.observe.catalogue import OF_STATE, Sample
from jts_storage.observe.metrics import Metrics
from jts_storage.observe.state import Backups, Runs, StorageState
from jts_storage.observe.watched import Watched

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_LONGEST_REQUEST: Final = 16_384
_SECONDS_A_REQUEST: Final = 5.0

_Scope = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger(__name__)


class Exposition:
    """The metrics of one open storage: an ASGI application, and text.

    Mount it where the service has its own: ``app.mount("/metrics", Exposition(storage, metrics))``.

    :param metrics: that the storage was opened with; None to tell of the stores alone.
    :param state: what looks at the stores; one of its own if not given.
    :param backups: gives when each backup was cut; `backups_of` makes it of a repository.
    :param backup_runs: a `BackupRuns`, of the backups that this process makes.
    :param multiprocess: the folder that PROMETHEUS_MULTIPROC_DIR names, where several processes
        count together.
    """

    def __init__(
        self,
        storage: Watched,
        metrics: Metrics | None = None,
        *,
        state: StorageState | None = None,
        backups: Backups | None = None,
        backup_runs: Runs | None = None,
        multiprocess: Path | None = None,
    ) -> None:
        self._state = state or StorageState(storage, backups=backups, backup_runs=backup_runs)
        self._metrics = metrics
        self._multiprocess = multiprocess

    async def text(self) -> str:
        """All metrics now, in Prometheus' text format."""
        found = CollectorRegistry()
        found.register(_Samples(await self._state.read()))
        text = generate_latest(found)
        if self._multiprocess is not None:
            shared = CollectorRegistry()
            MultiProcessCollector(shared, str(self._multiprocess))  # type: ignore[no-untyped-call]
            text += generate_latest(shared)
        elif self._metrics is not None:
            text += generate_latest(self._metrics.registry)
        return text.decode()

    async def close(self) -> None:
        """End what still looks at the stores."""
        await self._state.close()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer a request as an ASGI application."""
        if scope["type"] != "http":
            return
        body = (await self.text()).encode()
        headers = [(b"content-type", CONTENT_TYPE.encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class MetricsServer:
    """Serves ``/metrics``, and ``/health`` for a load balancer, without a framework.

    :param health: whether the storage is well, and what it says of each store.
    """

    def __init__(
        self, exposition: Exposition, health: Callable[[], Awaitable[tuple[bool, dict[str, bool]]]]
    ) -> None:
        self._exposition, self._health = exposition, health
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> Self:
        """:raises OSError: nobody can listen there."""
        self._server = await asyncio.start_server(self._answer, host, port, limit=_LONGEST_REQUEST)
        return self

    @property
    def port(self) -> int:
        assert self._server is not None, "start() comes first"
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await self._exposition.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS_A_REQUEST):
                request = await reader.readuntil(b"\r\n\r\n")
            # It takes no longer than the look at the stores may: see `StorageState`.
            writer.write(await self._response(request))
            async with asyncio.timeout(_SECONDS_A_REQUEST):
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            log.debug("A request for metrics was given up.", exc_info=True)
        except Exception:
            log.exception("A request for metrics failed.")
            writer.write(_response_of(500, "It failed; the log says why.\n"))
        finally:
            writer.close()

    async def _response(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _response_of(405, "Only GET is answered here.\n")
        answer = await self._answer_to(path)
        return answer if method == b"GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    async def _answer_to(self, path: bytes) -> bytes:
        if path == b"/metrics":
            return _response_of(200, await self._exposition.text(), CONTENT_TYPE)
        if path == b"/health":
            is_well, stores = await self._health()
            return _response_of(
                200 if is_well else 503, json.dumps({"stores": stores}), "application/json"
            )
        return _response_of(404, "There are /metrics and /health.\n")


class _Samples:
    """A collector of prometheus_client over what was read."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples = list(samples)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        for metric in OF_STATE:
            mine = [sample for sample in self._samples if sample.metric is metric]
            if mine:
                kind = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
                family = kind(metric.exposed, metric.help, labels=metric.labels)
                for sample in mine:
                    family.add_metric(sample.labels, sample.value)
                yield family


_REASONS: Final = {
    200: "OK",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def _response_of(status: int, body: str, content_type: str = "text/plain") -> bytes:
    content = body.encode()
    head = (
        f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content
