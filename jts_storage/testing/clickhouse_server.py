"""A real ClickHouse behind a TCP port, without installing one: chDB speaking the native protocol.

Use `ClickHouseServer` in a thread of the test, with faults on demand, or run
``python -m jts_storage.testing.clickhouse_server --path DIR --port N`` (or `ServerProcess`) where
the server must be killed. It listens on 127.0.0.1 only.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from jts_storage.clickhouse.embedded.transport import ChdbTransport
from jts_storage.clickhouse.sockets import is_readable
from jts_storage.errors import ConnectionFailed, StorageError
from jts_storage.settings.clickhouse import MEMORY, ClickHouseConfig
from jts_storage.testing.clickhouse_session import NativeSession
from jts_storage.testing.faults import Fault, Faults, FaultyLine

HOST = "127.0.0.1"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_PATIENCE = 30.0
_log = logging.getLogger(__name__)


class ClickHouseServer:
    """Serves one embedded store over TCP from this process.

    The embedded engine has one store a process, so a test that also opens one embedded must use
    the same `path`.

    :param path: the store's directory, or ``":memory:"``.
    :param port: 0 takes a free one.
    :param credentials: passwords by user; everybody is let in when there are none.
    :param tls: makes the port speak TLS.
    """

    host = HOST

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
        self.port = port
        self.faults = Faults()
        self.faults.on_change(self._fault_changed)
        self._config = ClickHouseConfig(embedded_path=path, database=database, fsync=fsync)
        self._credentials = dict(credentials or {})
        self._tls = tls
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._links: dict[threading.Thread, socket.socket] = {}
        self._keeper: ChdbTransport | None = None
        self._accepted = 0
        self._most = 0

    def __repr__(self) -> str:
        return f"ClickHouseServer({self.host}:{self.port}, {self._config.embedded_path})"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def version(self) -> str:
        """The engine's version."""
        if self._keeper is None:
            raise RuntimeError("the server was not started")
        return self._keeper.server_version()

    @property
    def accepted(self) -> int:
        """Connections accepted since the start."""
        return self._accepted

    @property
    def most_at_once(self) -> int:
        """The most connections that were open at one moment."""
        return self._most

    @property
    def open_connections(self) -> int:
        return len(self._links)

    def reset_counts(self) -> None:
        """Count connections from here."""
        with self._lock:
            self._accepted = 0
            self._most = len(self._links)

    def start(self) -> Self:
        # One connection stays, so that a store in memory outlives its clients.
        self._keeper = ChdbTransport(self._config)
        self._keeper.connect()
        self._listen()
        return self

    def stop(self) -> None:
        """Stop accepting, cut every connection, close the store."""
        self._close_listener()
        self.faults.clear()
        self._close_listener()
        threads = list(self._links)
        self.cut_connections()
        for thread in threads:
            thread.join(_PATIENCE)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.disconnect()

    def cut_connections(self) -> None:
        """Reset every open connection, as a restarted server would; new ones are welcome."""
        for link in list(self._links.values()):
            with suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                link.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _close_listener(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            with self._lock:
                self._accepted += 1
                self._links[thread] = client
                self._most = max(self._most, len(self._links))
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        transport = ChdbTransport(self._config)
        thread = threading.current_thread()
        try:
            if self._tls is not None:
                sock = self._links[thread] = self._tls.wrap_socket(sock, server_side=True)
            channel = _Channel(sock, FaultyLine(self.faults))
            NativeSession(sock, channel, transport, self._credentials).serve()
        except (OSError, EOFError, StorageError) as failure:
            _log.debug("a client of %r is gone: %s", self, failure)
        finally:
            transport.disconnect()
            with self._lock:
                self._links.pop(thread, None)
            sock.close()

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
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            raise ConnectionResetError("cut by a fault")


class ServerProcess:
    """The server as a child process, which can be killed; it dies with its parent."""

    host = HOST

    def __init__(self, path: str | Path, port: int = 0, *, fsync: bool = True) -> None:
        self._command = [
            sys.executable,
            *("-m", "jts_storage.testing.clickhouse_server"),
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
        ready = is_readable(self._process.stdout, _PATIENCE)
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
        process.wait(_PATIENCE)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes or standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", default=MEMORY)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--database", default="jts")
    parser.add_argument("--no-fsync", action="store_true")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stopped.set())
    threading.Thread(target=_end_with_parent, args=(stopped,), daemon=True).start()
    server = ClickHouseServer(
        options.path, options.port, database=options.database, fsync=not options.no_fsync
    )
    with server:
        sys.stdout.write(f"listening on {server.host}:{server.port}\n")
        sys.stdout.flush()
        stopped.wait()
    return 0


def _end_with_parent(stopped: threading.Event) -> None:
    """The parent holds the other end of standard input; its death is the end of the file."""
    if not sys.stdin.isatty():
        while os.read(sys.stdin.fileno(), 1024):
            pass
        stopped.set()


if __name__ == "__main__":
    raise SystemExit(main())
