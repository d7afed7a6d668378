"""A TCP proxy on loopback that fails when asked: for servers that have no faults of their own."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, NamedTuple, Self

from jts_storage.testing.faults import Fault, Faults, FaultyLine

_CHUNK = 64 * 1024
_PATIENCE = 10.0
_LAST_WORDS = 0.05
_TURNS_TO_ACCEPT = 5
"""Turns of the loop that asyncio takes at most from accepting a connection to handing it over."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connections(NamedTuple):
    """How many connections a proxy carries now, and how many it accepted since its start."""

    open: int
    total: int


class FaultProxy:
    """Passes TCP connections on to `target_host:target_port`, as its `faults` allow.

    Point the client at `host` and `port`. While `hang()` holds, requests are kept back too, as a
    stopped server would; `delay()` and `cut()` touch answers only. A target that cannot be
    reached shows as a reset connection. Use it as a context manager, or `start()` and `stop()`.
    """

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int) -> None:
        self.target = (target_host, target_port)
        self.port = 0
        self.faults = Faults()
        self.faults.on_change(self._fault_changed)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._listener: asyncio.Server | None = None
        self._links: set[_Link] = set()
        self._total = 0
        self._bound: socket.socket | None = None
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        target = ":".join(map(str, self.target))
        return f"FaultProxy({self.host}:{self.port} -> {target}, {self.faults!r})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def connections(self) -> Connections:
        return Connections(len(self._links), self._total)

    def start(self) -> Self:
        """Listen on a free port; `port` is set when this returns."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=self._loop.run_forever, name="fault-proxy", daemon=True
            )
            self._thread.start()
            self._call(self._apply(self.faults.current))
        return self

    def stop(self) -> None:
        """Reset every connection and stop listening. Stopping twice is fine."""
        if self._loop is None or self._thread is None:
            return
        self._call(self._close())
        loop, self._loop = self._loop, None
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_PATIENCE)
        loop.close()

    def _fault_changed(self, fault: Fault) -> None:
        if self._loop is not None:
            self._call(self._apply(fault))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_PATIENCE)

    async def _apply(self, fault: Fault) -> None:
        if self._bound is None:
            self._bound = self._bind()
        if not fault.refuses and self._listener is None:
            self._listener = await asyncio.start_server(self._accept, sock=self._bound)
        elif fault.refuses and self._listener is not None:
            await _end(self._listener)
            self._listener = None
            self._bound = self._bind()
        self._wake()
        if fault.refuses:
            await self._reset_links()

    def _bind(self) -> socket.socket:
        """Bind without listening: the port stays ours, and connections are refused."""
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((self.host, self.port))
        self.port = bound.getsockname()[1]
        return bound

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(self, reader, writer)
        link.task = asyncio.create_task(link.run())
        link.task.add_done_callback(lambda _: self._links.discard(link))
        self._links.add(link)
        self._total += 1

    async def _reset_links(self) -> None:
        for link in self._links:
            link.reset()
        if self._links:
            await asyncio.wait([link.task for link in self._links], timeout=_PATIENCE)

    async def _close(self) -> None:
        if self._listener is not None:
            await _end(self._listener)
        elif self._bound is not None:
            self._bound.close()
        self._listener = self._bound = None
        self._wake()
        await self._reset_links()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, within: float | None = None) -> bool:
        """Wait for the next change of faults; False when `within` seconds passed first."""
        try:
            await asyncio.wait_for(self._changed.wait(), within)
        except TimeoutError:
            return False
        return True


async def _end(listener: asyncio.Server) -> None:
    """Listen no more, once what has just been accepted is a link: a closed server would lose it."""
    for each in listener.sockets:
        asyncio.get_running_loop().remove_reader(each.fileno())
    for _ in range(_TURNS_TO_ACCEPT):
        await asyncio.sleep(0)
    listener.close()


class _Link:
    """One client's connection and its twin to the target."""

    task: asyncio.Task[None]

    def __init__(
        self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
        self._faults = proxy.faults
        self._line = FaultyLine(proxy.faults)
        self._client = (reader, writer)
        self._writers = [writer]
        self._broken = False
        self._answered = 0

    async def run(self) -> None:
        try:
            reader, writer = await asyncio.open_connection(*self._proxy.target)
        except OSError:
            self.reset()
            return
        self._writers.append(writer)
        if self._broken:
            self.reset()
        client_reader, client_writer = self._client
        answers = asyncio.create_task(self._pump(reader, client_writer, answers=True))
        try:
            await self._pump(client_reader, writer, answers=False)
            await self._end(answers)
        finally:
            answers.cancel()
            await asyncio.wait([answers])
            for each in self._writers:
                each.close()

    async def _end(self, answers: asyncio.Task[None]) -> None:
        """The client closed its side: most are gone then, a few still read what is on its way."""
        before = -1
        while self._answered > before and not answers.done():
            before = self._answered
            await asyncio.wait([answers], timeout=_LAST_WORDS + self._faults.current.delay)

    def reset(self) -> None:
        """Drop both sides the hard way: the peers see a reset, not an orderly end."""
        self._broken = True
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        try:
            while chunk := await source.read(_CHUNK):
                await self._wait_until_due(answers)
                if self._broken:
                    return
                admitted = self._line.admit(len(chunk)) if answers else len(chunk)
                sink.write(chunk[:admitted])
                self._answered += answers
                await sink.drain()
                if admitted < len(chunk):
                    self.reset()
            if not self._broken and sink.can_write_eof():
                sink.write_eof()
        except OSError:
            self.reset()

    async def _wait_until_due(self, answers: bool) -> None:
        while not self._broken:
            fault = self._faults.current
            if fault.hangs:
                await self._proxy.change()
            elif not (fault.delay and answers) or not await self._proxy.change(fault.delay):
                return
