"""A real ClickHouse behind a TCP port, without installing one: chDB speaking the native protocol.

Use `ClickHouseServer` in a thread of the test, with faults on demand, or `ServerProcess` where the
server must be killed. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from jts_storage.clickhouse.endpoint.server import HOST, PATIENCE, RESET_ON_CLOSE, Endpoint
from jts_storage.clickhouse.sockets import is_readable
from jts_storage.errors import ConnectionFailed
from jts_storage.settings.clickhouse import MEMORY
from jts_storage.testing.faults import Fault, Faults, FaultyLine


class ClickHouseServer(Endpoint):
    """Serves one embedded store over TCP from this process, with faults on demand.

    The embedded engine has one store a process, so a test that also opens one embedded must use
    the same `path`.

    :param path: the store's directory, or ``":memory:"``.
    :param port: 0 takes a free one.
    :param credentials: passwords by user; everybody is let in when there are none.
    :param tls: makes the port speak TLS.
    """

    def __init__(
        self,
        path: str = MEMORY,
        port: int = 0,
        *,
        database: str = "jts",
        fsync: bool = False,
        credentials: Mapping[str, str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(
            path, port, database=database, fsync=fsync, credentials=credentials, tls=tls
        )
        self.faults = Faults()
        self.faults.on_change(self._fault_changed)

    def stop(self) -> None:
        """Stop accepting, cut every connection, close the store."""
        self._close_listener()
        self.faults.clear()
        super().stop()

    def _channel(self, sock: socket.socket) -> Any:
        return _Channel(sock, FaultyLine(self.faults))

    def _fault_changed(self, fault: Fault) -> None:
        if fault.refuses:
            self._close_listener()
            self.cut_connections()
        elif self._listener is None and self._keeper is not None:
            self._listen()


class _Channel:
    """What a session sends through: as much as the faults let pass."""

    def __init__(self, sock: socket.socket, line: FaultyLine) -> None:
        self._sock = sock
        self._line = line

    def sendall(self, data: bytes) -> None:
        self._line.wait_until_due()
        admitted = self._line.admit(len(data))
        self._sock.sendall(memoryview(data)[:admitted])
        if admitted < len(data):
            # Let what was admitted arrive before the reset overtakes it.
            time.sleep(0.02)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            raise ConnectionResetError("cut by a fault")


class ServerProcess:
    """The server as a child process, which can be killed; it dies with its parent."""

    host = HOST

    def __init__(self, path: str | Path, port: int = 0, *, fsync: bool = True) -> None:
        self._command = [
            sys.executable,
            *("-m", "jts_storage.clickhouse.endpoint"),
            *("--path", str(path), "--port", str(port)),
            *(() if fsync else ("--no-fsync",)),
        ]
        self._process: subprocess.Popen[str] | None = None
        self.port = port

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server was not started")
        return self._process.pid

    def start(self) -> Self:
        """Start it and wait until it listens.

        :raises ConnectionFailed: with what it said, when it does not.
        """
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        ready = is_readable(self._process.stdout, PATIENCE)
        said = self._process.stdout.readline() if ready else ""
        if not said.startswith("listening "):
            self.kill()
            raise ConnectionFailed(f"The test server did not start: {said.strip() or 'silence'}.")
        self.port = int(said.rpartition(":")[2])
        return self

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """End it at once, in the middle of whatever it does."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.wait(PATIENCE)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
