"""Whether a service counts as well: one that is there, and not ready, does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from jts_storage.services.health import why_not_well


@contextmanager
def redis_that_says(answer: bytes) -> Iterator[str]:
    """The URL of a server that gives one answer to one question."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(128)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(10)


def test_a_redis_that_says_pong_is_well() -> None:
    with redis_that_says(b"+PONG\r\n") as url:
        assert why_not_well(url) == ""


@pytest.mark.parametrize(
    "answer",
    [
        "-LOADING Redis is loading the dataset in memory",
        "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "-NOAUTH Authentication required.",
        "",
    ],
)
def test_a_redis_that_says_anything_else_is_not(answer: str) -> None:
    """Its port is open and it answers; who reads now would get an error, or nothing."""
    with redis_that_says(f"{answer}\r\n".encode()) as url:
        why = why_not_well(url)
    assert why.startswith("it says ")
    assert answer[1:12] in why


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert "does not answer" in why_not_well(f"redis://127.0.0.1:{port}")
