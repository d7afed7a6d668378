"""A ClickHouse behind a TCP port of this machine: chDB speaking the native protocol.

Run it as ``python -m jts_storage.clickhouse.endpoint --path DIR --port N``. It listens on 127.0.0.1
only.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import ssl
import struct
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

from jts_storage.clickhouse.config import ClickHouseConfig
from jts_storage.clickhouse.embedded.transport import ChdbTransport
from jts_storage.clickhouse.endpoint.session import NativeSession
from jts_storage.errors import StorageError
from jts_storage.settings.clickhouse import MEMORY

HOST: Final = "127.0.0.1"
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
PATIENCE: Final = 30.0
_log = logging.getLogger(__name__)


class Endpoint:
    """Serves one embedded store over TCP from this process.

    The embedded engine has one store a process, so a process that also opens one embedded
    must use the same `path`.

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
        return f"{type(self).__name__}({self.host}:{self.port}, {self._config.embedded_path})"

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
        threads = list(self._links)
        self.cut_connections()
        for thread in threads:
            thread.join(PATIENCE)
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.disconnect()

    def cut_connections(self) -> None:
        """Reset every open connection, as a restarted server would; new ones are welcome."""
        for link in list(self._links.values()):
            with suppress(OSError):
                link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                link.shutdown(socket.SHUT_RDWR)

    def _channel(self, sock: socket.socket) -> Any:
        """What answers are sent through."""
        return sock

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
            NativeSession(sock, self._channel(sock), transport, self._credentials).serve()
        except (OSError, EOFError, StorageError) as failure:
            _log.debug("a client of %r is gone: %s", self, failure)
        finally:
            transport.disconnect()
            with self._lock:
                self._links.pop(thread, None)
            sock.close()


def main(arguments: list[str] | None = None) -> int:
    """Serve until a signal comes, or standard input ends where it is to live no longer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", default=MEMORY)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--database", default="jts")
    parser.add_argument("--no-fsync", action="store_true")
    parser.add_argument("--stay", action="store_true", help="live on when standard input ends")
    options = parser.parse_args(arguments)
    stopped = threading.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        signal.signal(wanted, lambda *_: stopped.set())
    if not options.stay:
        threading.Thread(target=_end_with_parent, args=(stopped,), daemon=True).start()
    server = Endpoint(
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
