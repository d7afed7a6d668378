"""The proxy against a plain echo server: what each fault looks like to a client."""

from __future__ import annotations

import gc
import socket
import socketserver
import sys
import threading
import time
import warnings
from collections.abc import Iterator

import pytest

from jts_storage.testing.fault_proxy import FaultProxy


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class _EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # resets are what these tests are about


@pytest.fixture
def echo_port() -> Iterator[int]:
    with _EchoServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(5)


@pytest.fixture
def proxy(echo_port: int) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", echo_port) as proxy:
        yield proxy


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection((proxy.host, proxy.port), timeout=5)


def receive(sock: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := sock.recv(size - len(received))):
        received += data
    return received


def ask(sock: socket.socket, data: bytes = b"ping") -> bytes:
    sock.sendall(data)
    return receive(sock, len(data))


def wait_until_open(proxy: FaultProxy, count: int) -> None:
    deadline = time.monotonic() + 5
    while proxy.connections.open != count:
        assert time.monotonic() < deadline, proxy.connections
        time.sleep(0.005)


def test_passes_everything_on_while_healthy(proxy: FaultProxy) -> None:
    payload = bytes(range(256)) * 8192
    with connect(proxy) as sock:
        sender = threading.Thread(target=sock.sendall, args=(payload,))
        sender.start()
        assert receive(sock, len(payload)) == payload
        sender.join(5)


def test_counts_connections(proxy: FaultProxy) -> None:
    with connect(proxy) as first, connect(proxy) as second:
        ask(first)
        ask(second)
        assert proxy.connections == (2, 2)
    wait_until_open(proxy, 0)
    assert proxy.connections.total == 2


def test_a_client_that_is_gone_is_forgotten_though_the_server_holds_on() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    with server, FaultProxy("127.0.0.1", server.getsockname()[1]) as proxy:
        with connect(proxy):
            held, _ = server.accept()
        with held:
            wait_until_open(proxy, 0)
            assert held.recv(1) == b""


def test_a_client_that_only_listens_gets_all_of_the_answer(proxy: FaultProxy) -> None:
    payload = bytes(range(256)) * 8192
    with connect(proxy) as sock:

        def send() -> None:
            sock.sendall(payload)
            sock.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert receive(sock, len(payload)) == payload
        sender.join(5)


def test_refuse_resets_what_is_open_and_refuses_what_is_new(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        ask(sock)
        proxy.faults.refuse()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        assert proxy.connections.open == 0
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def test_clear_after_refuse_serves_on_the_same_port(proxy: FaultProxy) -> None:
    port = proxy.port
    for _ in range(3):
        proxy.faults.refuse()
        proxy.faults.refuse()
        proxy.faults.clear()
        with connect(proxy) as sock:
            assert ask(sock) == b"ping"
    assert proxy.port == port


def test_delay_holds_each_answer_back(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        proxy.faults.delay(0.2)
        started = time.monotonic()
        assert ask(sock) == b"ping"
        assert time.monotonic() - started >= 0.2


def test_clear_ends_a_delay_at_once(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        proxy.faults.delay(3600)
        sock.sendall(b"ping")
        proxy.faults.clear()
        assert receive(sock, 4) == b"ping"


def test_cut_lets_exactly_so_many_bytes_through(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        assert ask(sock, b"before") == b"before"
        proxy.faults.cut(after_bytes=10)
        assert ask(sock, b"1234567") == b"1234567"
        sock.sendall(b"89ABCDE")
        assert receive(sock, 3) == b"89A"
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_cut_counts_each_connection_by_itself(proxy: FaultProxy) -> None:
    proxy.faults.cut(after_bytes=4)
    for _ in range(2):
        with connect(proxy) as sock:
            assert ask(sock, b"1234") == b"1234"
            sock.sendall(b"5")
            with pytest.raises(ConnectionResetError):
                sock.recv(1)


def test_hang_answers_nothing_until_cleared(proxy: FaultProxy) -> None:
    with connect(proxy) as before:
        ask(before)
        proxy.faults.hang()
        with connect(proxy) as during:
            for sock in (before, during):
                sock.sendall(b"ping")
                sock.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    sock.recv(1)
                sock.settimeout(5)
            proxy.faults.clear()
            assert receive(before, 4) == receive(during, 4) == b"ping"


def test_refuse_ends_a_hang(proxy: FaultProxy) -> None:
    with connect(proxy) as sock:
        proxy.faults.hang()
        sock.sendall(b"ping")
        proxy.faults.refuse()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)


def test_stop_ends_a_hang_and_may_be_repeated(echo_port: int) -> None:
    proxy = FaultProxy("127.0.0.1", echo_port).start()
    with connect(proxy) as sock:
        proxy.faults.hang()
        sock.sendall(b"ping")
        proxy.stop()
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def test_faults_chosen_before_the_start_hold_from_the_start(echo_port: int) -> None:
    proxy = FaultProxy("127.0.0.1", echo_port)
    proxy.faults.refuse()
    with proxy:
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        proxy.faults.clear()
        with connect(proxy) as sock:
            assert ask(sock) == b"ping"


def test_a_target_that_is_gone_shows_as_a_reset(proxy: FaultProxy) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy.target = nobody.getsockname()
        with pytest.raises(ConnectionResetError), connect(proxy) as sock:
            sock.recv(1)
    wait_until_open(proxy, 0)


def test_senseless_faults_are_refused(proxy: FaultProxy) -> None:
    with pytest.raises(ValueError, match="negative"):
        proxy.faults.delay(-1)
    with pytest.raises(ValueError, match="negative"):
        proxy.faults.cut(-1)


def test_a_proxy_that_stops_leaves_no_connection_that_has_just_come(
    echo_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: lost.append(str(what.exc_value)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(10):
            with FaultProxy("127.0.0.1", echo_port) as proxy:
                clients = [socket.create_connection((proxy.host, proxy.port)) for _ in range(3)]
            for client in clients:
                client.close()
        gc.collect()
    assert lost == []
